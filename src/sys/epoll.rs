//! Watching a descriptor by its number.

use super::cvt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// `epoll_ctl(ADD)`. The number may belong to a value that another thread owns: the worst that a wrong one does is an error or a
/// wake-up for nothing, so this is safe where borrowing the descriptor across threads would need a lock.
pub(crate) fn watch(
    epoll: BorrowedFd<'_>,
    fd: RawFd,
    events: libc::c_int,
    token: u64,
) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_ADD, fd, events, token)
}

/// `epoll_ctl(MOD)`: makes a one-shot watch work once more.
pub(crate) fn rearm(
    epoll: BorrowedFd<'_>,
    fd: RawFd,
    events: libc::c_int,
    token: u64,
) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_MOD, fd, events, token)
}

fn control(
    epoll: BorrowedFd<'_>,
    what: libc::c_int,
    fd: RawFd,
    events: libc::c_int,
    token: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: events as u32,
        u64: token,
    };
    // SAFETY: `event` is a whole epoll_event that outlives the call.
    cvt(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, fd, &raw mut event) }).map(drop)
}
