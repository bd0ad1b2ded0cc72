//! The fence: every unsafe block of the crate, behind safe functions.
//!
//! Descriptors go in as `BorrowedFd`, come out as `OwnedFd`; bare numbers stay in here, but for the
//! few that the outside world names (`LISTEN_FDS`, `--ready-fd`, `--keep-fd`, the layouts).
#![allow(unsafe_code)]
// The library alone uses a part of it.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

pub(crate) mod cvec;
#[cfg(feature = "cli")]
pub(crate) mod env;
#[cfg(feature = "cli")]
pub(crate) mod epoll;
#[cfg(feature = "cli")]
pub(crate) mod exec;
pub(crate) mod fd;
#[cfg(feature = "cli")]
pub(crate) mod memory;
#[cfg(feature = "cli")]
pub(crate) mod now;
pub(crate) mod peer;
#[cfg(feature = "cli")]
pub(crate) mod process;
#[cfg(feature = "tokio")]
pub(crate) mod reactor;
#[cfg(feature = "cli")]
pub(crate) mod rename;
pub(crate) mod scm;
#[cfg(feature = "cli")]
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod spawn;
#[cfg(feature = "cli")]
pub(crate) mod tty;
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
