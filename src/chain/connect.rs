//! `doorward connect`: a UCSPI client. It connects, puts the connection on 6 and 7, and becomes its program; without one it relays.
#![forbid(unsafe_code)]

use super::dial::Dial;
use super::place::Sockets;
use super::program::{become_program, variable};
use super::relay;
use crate::client::{Error, welcome};
use crate::delivery::{Layout, NOTIFY, Program};
use crate::exit::{self, Failure, Unable as _};
use crate::source::{Address, bind_client};
use crate::sys;
use crate::variables::is_own;
use std::ffi::{CString, OsStr, OsString};
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
    let envp = environment(std::env::vars_os(), local.as_ref(), errand.notify);
    match become_program(program, &envp)? {}
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
    inherited: impl Iterator<Item = (OsString, OsString)>,
    local: Option<&Address>,
    notify: bool,
) -> Vec<CString> {
    let set = |name: &OsStr| name == "PROTO" || name == "IPCLOCALPATH" || is_own(name.as_bytes());
    let mut all: Vec<CString> = inherited
        .filter(|(name, _)| !set(name))
        .map(|(name, value)| variable(&name, &value))
        .collect();
    let local = local.map(Address::local_path).unwrap_or_default();
    all.extend([
        c"PROTO=IPC".to_owned(),
        variable("IPCLOCALPATH".as_ref(), &local),
    ]);
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
        let without = environment(inherited.clone().into_iter(), None, false);
        assert_eq!(without, expected.map(ToOwned::to_owned));
        let local = Address::parse("@mine".as_ref()).unwrap();
        let with = environment(inherited.into_iter(), Some(&local), true);
        assert!(with.contains(&c"IPCLOCALPATH=@mine".to_owned()));
        assert_eq!(with.last().map(CString::as_c_str), Some(c"NOTIFYFD=8"));
    }
}
