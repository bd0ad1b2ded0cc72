//! The descriptors that the command line names, and those that nobody is to inherit.
#![forbid(unsafe_code)]

use crate::exit::{self, Unable as _, wrong_use};
use crate::serve::ReadyFd;
use crate::{report, sys};
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Makes sure that a program gets what it is meant to get and nothing else: of what is open from 3 up, `keep_fds` alone.
pub(super) fn pass_only(keep_fds: &[RawFd]) -> exit::Result<()> {
    // Whatever the parent left open, it is not the children's.
    sys::fd::cloexec_from_three().unable("set close-on-exec")?;
    for &fd in keep_fds {
        sys::fd::keep_through_exec(fd).unable(format!("keep descriptor {fd}"))?;
    }
    Ok(())
}

/// The same; gives /dev/null, which takes the place of what is not there.
pub(super) fn close_to_children(keep_fds: &[RawFd], low: RawFd) -> exit::Result<OwnedFd> {
    pass_only(keep_fds)?;
    let null = report::open_null().unable("open /dev/null")?;
    // Out of the low numbers before they are filled: one that became free afterwards would be the next connection's.
    sys::fd::lift(null, low).unable("move a descriptor")
}

/// `--keep-fd`, before this process opens anything: a number that the parent left closed must not turn out to be one of ours.
pub(super) fn must_be_kept(keep_fds: &[RawFd]) -> exit::Result<()> {
    keep_fds
        .iter()
        .try_for_each(|&fd| must_be_usable("--keep-fd", fd))
}

/// A descriptor that an option names must be open when the process starts, and no listening socket: one that is to be
/// served would be taken away under the option, and no child may hold any.
pub(super) fn must_be_usable(option: &str, fd: RawFd) -> exit::Result<()> {
    let Some(named) = sys::fd::inherited(fd) else {
        return Err(wrong_use(format!(
            "{option} {fd}: descriptor {fd} is not open"
        )));
    };
    if getsockopt(&named, AcceptConn).unwrap_or(false) {
        return Err(wrong_use(format!(
            "{option} {fd}: descriptor {fd} is a listening socket"
        )));
    }
    Ok(())
}

/// Takes the descriptor of `--ready-fd` away, out of children's reach; /dev/null stands in for a standard one from now on.
pub(super) fn ready_fd(number: RawFd, null: BorrowedFd<'_>, low: RawFd) -> exit::Result<ReadyFd> {
    let not_open = || {
        wrong_use(format!(
            "--ready-fd {number}: descriptor {number} is not open"
        ))
    };
    if number > 2 {
        let taken = sys::fd::take_inherited(number).ok_or_else(not_open)?;
        return Ok(ReadyFd(
            sys::fd::lift(taken, low).unable("move a descriptor")?,
        ));
    }
    let standard = sys::fd::standard(number).ok_or_else(not_open)?;
    let taken = sys::fd::copy_above(standard, low).unable("copy a descriptor")?;
    if number == 2 {
        // The newline of a log line would be taken for readiness.
        report::leave_stderr();
    }
    sys::fd::replace_standard(null, number).unable(format!("replace descriptor {number}"))?;
    Ok(ReadyFd(taken))
}
