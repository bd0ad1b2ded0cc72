//! Becoming another program, in place.

use super::signal;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::execve;
use std::ffi::{CStr, CString};
use std::io;

/// `execve` with every signal at its default and none blocked (Rust ignores SIGPIPE, and a parent may leave more). Returns only if it
/// fails, and then with SIGPIPE blocked, so that telling the failure to a log that is gone does not end the process.
pub(crate) fn exec(path: &CStr, argv: &[CString], envp: &[CString]) -> io::Error {
    let mask = |set: &SigSet| pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(set), None);
    let error = signal::all_default().and_then(|()| {
        mask(&SigSet::empty())?;
        let Err(error) = execve(path, argv, envp);
        Err(Errno::into(error))
    });
    // A set of one signal is valid, so this cannot fail.
    let _ = mask(&SigSet::from(Signal::SIGPIPE));
    match error {
        Err(error) => error,
        Ok(()) => io::ErrorKind::Other.into(),
    }
}
