//! `doorward connect`: a UCSPI client. It connects, puts the connection on 6 and 7, and becomes its program.
#![forbid(unsafe_code)]

use super::place::Sockets;
use super::program::{become_program, variable};
use crate::client::{Error, welcome};
use crate::delivery::{Layout, NOTIFY, Program};
use crate::exit::{self, Failure, Unable as _};
use crate::source::{Address, Type};
use crate::sys;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a program must not inherit: it is about descriptors that are closed here, or was meant for this process.
const REMOVED: [&str; 12] = [
    "FDSTORE",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_FDS_FIRST_FD",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFYFD",
    "NOTIFY_SOCKET",
    "PIDFD",
    "SKALIBS_CHILD_SPAWN_FDS",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// `doorward connect`, understood.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) address: Address,
    pub(crate) kind: Type,
    /// Take the greeting, and give the program the notification socket.
    pub(crate) notify: bool,
    /// How long it may take until the program starts.
    pub(crate) limit: Option<Duration>,
    pub(crate) prog: Vec<OsString>,
}

/// Connects and becomes the program; comes back only with a failure.
pub(crate) fn run(errand: Errand) -> exit::Result<Infallible> {
    // Whatever the parent left open, it is not the program's.
    sys::fd::cloexec_from_three().unable("set close-on-exec")?;
    // First of all: a mistyped program disturbs no server.
    let program = Program::look_up(errand.prog.clone())?;
    // A deadline beyond the end of time is none.
    let end = errand
        .limit
        .and_then(|limit| Instant::now().checked_add(limit));
    let connection = dial(&errand, end)?;
    let notification = if errand.notify {
        let greeted = welcome::take(connection.as_fd(), end);
        Some(greeted.map_err(|error| ungreeted(error, &errand))?)
    } else {
        None
    };
    let sockets = Sockets {
        connection,
        notification: notification.map(OwnedFd::from),
        pidfd: None,
    };
    sockets.place(Layout::Ucspi)?;
    let envp = environment(std::env::vars_os(), errand.notify);
    become_program(program, &envp)
}

/// A blocking socket, connected.
fn dial(errand: &Errand, end: Option<Instant>) -> exit::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Unix,
        errand.kind.of(),
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unable("create a socket")?;
    // Held until connect is done, for a path that leads through it.
    let (_directory, address) = errand
        .address
        .reach()
        .unable(format!("connect to {}", errand.address))?;
    loop {
        // The wait for room in the server's queue is what connect(2) takes time for.
        limit_wait(socket.as_fd(), end).map_err(|_| too_late(errand))?;
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if end.is_some() => return Err(too_late(errand)),
            Err(error @ Errno::EPROTOTYPE) => {
                return Err(error).unable(format!(
                    "connect to {} as --type {}",
                    errand.address, errand.kind
                ));
            }
            Err(error) => return Err(error).unable(format!("connect to {}", errand.address)),
        }
    }
    // The program's writes have no limit.
    setsockopt(&socket, SendTimeout, &TimeVal::zero()).unable("change the connection")?;
    Ok(socket)
}

/// Lets connect(2) wait until `end` alone.
fn limit_wait(socket: BorrowedFd<'_>, end: Option<Instant>) -> nix::Result<()> {
    let Some(end) = end else { return Ok(()) };
    let left = end.saturating_duration_since(Instant::now());
    let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
    if left == 0 {
        return Err(Errno::ETIMEDOUT);
    }
    setsockopt(&socket, SendTimeout, &TimeVal::microseconds(left))
}

fn too_late(errand: &Errand) -> Failure {
    let limit = errand.limit.unwrap_or_default().as_secs_f64();
    Failure {
        code: exit::DEADLINE,
        error: anyhow::anyhow!(
            "unable to connect to {}: no answer within {limit} seconds",
            errand.address
        ),
    }
}

/// Whoever does not greet does not want this client, with or without a word: both have the exit code of a refusal.
fn ungreeted(error: Error, errand: &Errand) -> Failure {
    let code = match error {
        Error::TimedOut => return too_late(errand),
        Error::Closed | Error::Refused(_) | Error::Malformed(_) => exit::REFUSED,
        Error::System(..) | Error::NoProgram(_) => exit::SYSTEM,
    };
    Failure {
        code,
        error: anyhow::anyhow!("unable to connect to {}: {error}", errand.address),
    }
}

/// As s6-ipcclient sets it: PROTO, and IPCLOCALPATH, which is empty because the client's socket has no name. What an earlier connection
/// has set (IPCREMOTEEUID and so on) stays.
fn environment(
    inherited: impl Iterator<Item = (OsString, OsString)>,
    notify: bool,
) -> Vec<CString> {
    let set = |name: &OsStr| {
        name == "PROTO" || name == "IPCLOCALPATH" || REMOVED.iter().any(|removed| name == *removed)
    };
    let mut all: Vec<CString> = inherited
        .filter(|(name, _)| !set(name))
        .map(|(name, value)| variable(&name, &value))
        .collect();
    all.extend([c"PROTO=IPC".to_owned(), c"IPCLOCALPATH=".to_owned()]);
    if notify {
        all.push(variable("NOTIFYFD".as_ref(), NOTIFY.to_string().as_ref()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_closed_descriptors_is_not_inherited_and_the_rest_is() {
        let inherited = [
            ("PATH", "/bin"),
            ("NOTIFYFD", "8"),
            ("LISTEN_PID", "1"),
            ("PROTO", "UNIX"),
            ("IPCLOCALPATH", "/other"),
            ("IPCREMOTEEUID", "7"),
        ];
        let inherited = inherited.map(|(name, value)| (name.into(), value.into()));
        let expected = [
            c"PATH=/bin",
            c"IPCREMOTEEUID=7",
            c"PROTO=IPC",
            c"IPCLOCALPATH=",
        ];
        let without = environment(inherited.clone().into_iter(), false);
        assert_eq!(without, expected.map(ToOwned::to_owned));
        let with = environment(inherited.into_iter(), true);
        assert_eq!(with.last().map(CString::as_c_str), Some(c"NOTIFYFD=8"));
    }
}
