//! `doorward connect`: a UCSPI client. It connects, puts the connection on 6 and 7, and becomes its program; without one it relays.
#![forbid(unsafe_code)]

use super::dial::Dial;
use super::place::Sockets;
use super::program::become_program;
use super::relay;
use crate::client::{Error, welcome};
use crate::delivery::{Layout, NOTIFY, Program};
use crate::exit::{self, Failure, Unable as _};
use crate::source::{Address, bind_client};
use crate::sys;
use crate::sys::cvec::CVec;
use crate::variables::{Variable, inherited, is_own};
use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

/// `doorward connect`, understood.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) dial: Dial,
    /// The client's own name.
    pub(crate) local: Option<Address>,
    /// Take the greeting, and give the program the notification socket.
    pub(crate) notify: bool,
    /// Empty: standard input and output are relayed.
    pub(crate) prog: Vec<OsString>,
}

/// Connects and becomes the program; comes back only with a failure, or from a relay.
pub(crate) fn run(errand: Errand) -> exit::Result<u8> {
    // Whatever the parent left open, it is not the program's.
    sys::fd::cloexec_from_three().unable("set close-on-exec")?;
    let Errand { dial, local, .. } = &errand;
    // First of all: a mistyped program disturbs no server.
    let program = match errand.prog.as_slice() {
        [] => None,
        prog => Some(Program::look_up(prog.to_vec())?),
    };
    let end = dial.deadline();
    let connection = dial.socket()?;
    let name = local
        .as_ref()
        .map(|local| bind_client(connection.as_fd(), local))
        .transpose()?
        .flatten();
    dial.connect(connection.as_fd(), end)?;
    let Some(program) = program else {
        let verdict = relay::connection(connection)?;
        drop(name);
        return verdict.tell();
    };
    let notification = if errand.notify {
        let greeted = welcome::take(connection.as_fd(), end);
        Some(greeted.map_err(|error| ungreeted(error, dial))?)
    } else {
        None
    };
    let sockets = Sockets {
        connection,
        notification: notification.map(OwnedFd::from),
        pidfd: None,
    };
    sockets.place(Layout::Ucspi)?;
    let envp = environment(inherited(), local.as_ref(), errand.notify);
    match become_program(program, envp)? {}
}

/// Whoever does not greet does not want this client, with or without a word: both have the exit code of a refusal.
fn ungreeted(error: Error, dial: &Dial) -> Failure {
    let code = match error {
        Error::TimedOut => return dial.too_late(),
        Error::Closed | Error::Refused(_) | Error::Malformed(_) => exit::REFUSED,
        Error::System(..) | Error::NoProgram(_) => exit::SYSTEM,
    };
    Failure {
        code,
        error: anyhow::anyhow!("unable to connect to {}: {error}", dial.address),
    }
}

/// As s6-ipcclient sets it: PROTO, and IPCLOCALPATH, which is the name of the client's own socket, empty if it has none. What an earlier
/// connection has set (IPCREMOTEEUID and so on) stays.
fn environment(
    inherited: impl Iterator<Item = Variable>,
    local: Option<&Address>,
    notify: bool,
) -> CVec {
    let set = |name: &[u8]| name == b"PROTO" || name == b"IPCLOCALPATH" || is_own(name);
    let mut all = CVec::default();
    let passed = inherited.filter(|variable| !set(variable.name));
    all.keep(passed.map(|variable| variable.entry));
    let local = local.map(Address::local_path).unwrap_or_default();
    all.push(&[b"PROTO=IPC"]);
    all.push(&[b"IPCLOCALPATH=", local.as_bytes()]);
    if notify {
        all.push(&[b"NOTIFYFD=", NOTIFY.to_string().as_bytes()]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_closed_descriptors_is_not_inherited_and_the_rest_is() {
        let inherited = [
            c"PATH=/bin",
            c"NOTIFYFD=8",
            c"LISTEN_PID=1",
            c"PROTO=UNIX",
            c"IPCLOCALPATH=/other",
            c"IPCREMOTEEUID=7",
        ];
        let inherited = inherited.into_iter().filter_map(Variable::of);
        let expected = [
            &b"PATH=/bin"[..],
            b"IPCREMOTEEUID=7",
            b"PROTO=IPC",
            b"IPCLOCALPATH=",
        ];
        let without = environment(inherited.clone(), None, false);
        assert_eq!(without.iter().collect::<Vec<_>>(), expected);
        let local = Address::parse("@mine".as_ref()).unwrap();
        let with = environment(inherited, Some(&local), true);
        assert!(with.iter().any(|entry| entry == b"IPCLOCALPATH=@mine"));
        assert_eq!(with.iter().last(), Some(&b"NOTIFYFD=8"[..]));
    }
}
