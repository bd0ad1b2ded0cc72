//! The fence: every unsafe block of the crate, behind safe functions.
//!
//! Descriptors go in as `BorrowedFd`, come out as `OwnedFd`; bare numbers stay in here, but for the
//! few that the outside world names (`LISTEN_FDS`, `--ready-fd`, `--keep-fd`, the layouts).
#![allow(unsafe_code)]

pub(crate) mod cvec;
pub(crate) mod env;
pub(crate) mod epoll;
pub(crate) mod fd;
pub(crate) mod log;
pub(crate) mod peer;
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod scm;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod wait;

use std::io;

/// The one place where the C convention (-1 and errno) becomes an `io::Error`.
fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
