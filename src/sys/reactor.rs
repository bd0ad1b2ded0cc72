//! tokio's reactor, told of a descriptor.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd`, which is taken, for reading, in the current runtime. Panics outside of one.
pub(crate) fn watch_reading(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor as long as it lives, and nothing lets it out of the `AsyncFd` that deregisters
    // it before it is closed.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
