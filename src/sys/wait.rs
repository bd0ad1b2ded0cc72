//! How a child ended. nix knows no real-time signals, and takes the end by one for an error.

use super::cvt;
use std::fmt;
use std::io;

/// The end of a child, in the words of the `end` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Code(libc::c_int),
    Signal(libc::c_int),
    /// Nobody can tell: a lease that was given back, or a child that somebody else reaped.
    Unknown,
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Code(code) => write!(formatter, "status={code}"),
            End::Signal(signal) => write!(formatter, "signal={signal}"),
            End::Unknown => formatter.write_str("status=-"),
        }
    }
}

/// `waitid` without waiting: how the child `pid` ended, and reaps it; `None`: it has not ended.
///
/// # Errors
/// `ECHILD`: it is no child, or was reaped already.
pub(crate) fn reap(pid: libc::pid_t) -> io::Result<Option<End>> {
    look(pid, 0)
}

/// The same, and leaves it unreaped: its number cannot become another's.
///
/// # Errors
/// As [`reap`].
pub(crate) fn peek(pid: libc::pid_t) -> io::Result<Option<End>> {
    look(pid, libc::WNOWAIT)
}

/// What became of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// It has ended and is reaped.
    Ended(End),
    /// By which signal.
    Stopped(libc::c_int),
}

/// `waitid` without waiting, for any child: whose state has changed, and how; `None`: nobody's has.
///
/// # Errors
/// `ECHILD`: there is no child.
pub(crate) fn next_change() -> io::Result<Option<(libc::pid_t, Change)>> {
    next(libc::WEXITED | libc::WSTOPPED)
}

/// The same of ends alone: reaps a child, whichever it is. The kernel looks through all that there are.
///
/// # Errors
/// As [`next_change`].
pub(crate) fn reap_any() -> io::Result<Option<(libc::pid_t, End)>> {
    Ok(match next(libc::WEXITED)? {
        Some((pid, Change::Ended(end))) => Some((pid, end)),
        Some((_, Change::Stopped(_))) | None => None,
    })
}

fn next(flags: libc::c_int) -> io::Result<Option<(libc::pid_t, Change)>> {
    // SAFETY: an all-zero siginfo is a valid one; the kernel fills at most its size.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a whole siginfo; the pid means nothing with P_ALL, and with WNOHANG the call does not wait.
    cvt(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags | libc::WNOHANG) })?;
    // SAFETY: after waitid the fields of SIGCHLD are set, or all still zero where nothing has changed.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let change = match info.si_code {
        libc::CLD_EXITED => Change::Ended(End::Code(status)),
        libc::CLD_STOPPED | libc::CLD_TRAPPED => Change::Stopped(status),
        _ => Change::Ended(End::Signal(status)),
    };
    Ok(Some((pid, change)))
}

fn look(pid: libc::pid_t, flags: libc::c_int) -> io::Result<Option<End>> {
    // SAFETY: an all-zero siginfo is a valid one; the kernel fills at most its size.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a whole siginfo; any pid is a valid argument, and with WNOHANG the call does not wait.
    cvt(unsafe {
        libc::waitid(
            libc::P_PID,
            pid.unsigned_abs(),
            &raw mut info,
            libc::WEXITED | libc::WNOHANG | flags,
        )
    })?;
    // SAFETY: after waitid the fields of SIGCHLD are set, or all still zero where no child has ended.
    let (ended, status) = unsafe { (info.si_pid() != 0, info.si_status()) };
    Ok(ended.then_some(match info.si_code {
        libc::CLD_EXITED => End::Code(status),
        _ => End::Signal(status),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_child_has_no_end() {
        let error = reap(1).map_err(|error| error.raw_os_error());
        assert_eq!(error, Err(Some(libc::ECHILD)));
    }
}
