//! Signals to processes that are no children: by a descriptor, so that none reaches another process with the same number.

use super::cvt;
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `pidfd_open(pid)`, close-on-exec.
///
/// # Errors
/// `ESRCH`: there is no such process.
pub(crate) fn open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; the result is a new close-on-exec descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0u32);
        cvt(fd as libc::c_int).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// `pidfd_send_signal`.
///
/// # Errors
/// `ESRCH`: it has ended. `EPERM`: it is another user's.
pub(crate) fn signal(process: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    // SAFETY: no memory is involved: without a siginfo the kernel makes its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    };
    cvt(result as libc::c_int).map(drop)
}
