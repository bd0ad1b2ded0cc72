//! Waiting for a connection, no longer than until a moment that is settled once for a whole exchange.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// What poll(2) takes; rounded up, so that the rest of a millisecond is no busy loop.
pub(super) fn timeout(end: Option<Instant>) -> PollTimeout {
    let Some(end) = end else {
        return PollTimeout::NONE;
    };
    let left = end.saturating_duration_since(Instant::now());
    let up = u128::from(left.subsec_nanos() % 1_000_000 != 0);
    PollTimeout::try_from(left.as_millis() + up).unwrap_or(PollTimeout::MAX)
}

/// Waits until `fd` is ready for `flags`, or has ended.
///
/// # Errors
/// `TimedOut`: the moment has passed. Else the system's.
pub(super) fn wait(fd: BorrowedFd<'_>, flags: PollFlags, end: Option<Instant>) -> io::Result<()> {
    loop {
        let timeout = timeout(end);
        match poll(&mut [PollFd::new(fd, flags)], timeout) {
            Ok(0) if end.is_some_and(|end| Instant::now() >= end) => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(0) | Err(Errno::EINTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}
