//! Becoming another program, in place.

use super::cvec::CVec;
use super::signal;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use std::ffi::CStr;
use std::io;

/// `execve` with every signal at its default and none blocked (Rust ignores SIGPIPE, and a parent may leave more). Returns only if it
/// fails, and then with SIGPIPE blocked, so that telling the failure to a log that is gone does not end the process.
pub(crate) fn exec(path: &CStr, argv: &mut CVec, envp: &mut CVec) -> io::Error {
    let mask = |set: &SigSet| pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(set), None);
    let (argv, envp) = (argv.seal().as_ptr(), envp.seal().as_ptr());
    let prepared = signal::all_default().and_then(|()| Ok(mask(&SigSet::empty())?));
    let error = prepared.err().unwrap_or_else(|| {
        // SAFETY: a C string and two NULL-terminated vectors of C strings, made by `CVec::seal`, which nothing changes before the call is over.
        unsafe { libc::execve(path.as_ptr(), argv.cast(), envp.cast()) };
        io::Error::last_os_error()
    });
    // A set of one signal is valid, so this cannot fail.
    let _ = mask(&SigSet::from(Signal::SIGPIPE));
    error
}
