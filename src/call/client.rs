//! `doorward call`: sends this process's words, variables and descriptors, passes signals on, and ends as the program does.
#![forbid(unsafe_code)]

use super::caller::Protocol;
use super::conversation::Conversation;
use super::frame::No;
use super::pty;
use super::s6;
use super::server::exit_of;
use super::wire::{self, Malformed, Request, Role};
use crate::chain::Dial;
use crate::client::{Error, welcome};
use crate::exit::{self, Failure, Unable as _, wrong_use};
use crate::variables::{Variable, inherited};
use crate::{report, sys};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

/// `doorward call`, understood.
#[derive(Debug)]
pub(crate) struct Call {
    /// Where to; its limit holds until the program runs.
    pub(crate) dial: Dial,
    pub(crate) protocol: Protocol,
    pub(crate) arguments: Vec<OsString>,
    /// Which of 0, 1 and 2 the program gets.
    pub(crate) standard: [bool; 3],
    pub(crate) environment: bool,
    /// The program goes on when this process dies.
    pub(crate) detach: bool,
    /// The program runs in this process's directory.
    pub(crate) directory: bool,
    /// The program has a terminal of its own.
    pub(crate) pty: bool,
}

/// Has the program run; comes back with its exit code, unless this process dies of the same signal.
pub(crate) fn run(call: &Call) -> exit::Result<u8> {
    sys::fd::cloexec_from_three().unable("set close-on-exec")?;
    let variables = variables(call.environment);
    let terminal = call.pty.then(|| pty::find(call.standard)).transpose()?;
    let roles = terminal.as_ref().map_or(&[][..], |(_, roles)| roles);
    let descriptors = Descriptors::gather(call, roles)?;
    let message = message(call, &variables, roles)?;
    let end = call.dial.deadline();
    let connection = call.dial.socket()?;
    call.dial.connect(connection.as_fd(), end)?;
    let banner = call.protocol.banner();
    welcome::take_banner(connection.as_fd(), banner, end).map_err(|error| call.ungreeted(error))?;
    Conversation::new(call, connection, terminal).hold(&message, descriptors, end)
}

impl Call {
    pub(super) fn unable(&self, code: u8, why: impl std::fmt::Display) -> Failure {
        let error = anyhow::anyhow!("unable to call {}: {why}", self.dial.address);
        Failure { code, error }
    }

    pub(super) fn too_late(&self) -> Failure {
        self.dial.too_late()
    }

    fn ungreeted(&self, error: Error) -> Failure {
        match error {
            Error::TimedOut => self.too_late(),
            Error::Closed => {
                let why = "refused: it closed the connection without a word. Whoever serves it does not let you in, or is not doorward answer";
                self.unable(exit::REFUSED, why)
            }
            Error::Refused(_) | Error::Malformed(_) => self.unable(exit::REFUSED, error),
            Error::System(..) | Error::NoProgram(_) => self.unable(exit::SYSTEM, error),
        }
    }

    pub(super) fn refused(&self, no: No) -> Failure {
        let (code, why) = match no {
            No::Detach => (exit::REFUSED, "it does not allow --detach"),
            No::Directory => (exit::REFUSED, "it does not allow --cwd"),
            No::Terminal => (exit::REFUSED, "it does not allow --pty"),
            No::TooLarge => (exit::WRONG_USE, "arguments and environment are too large"),
            No::Descriptors => (
                exit::WRONG_USE,
                "it does not take these descriptors as 0, 1 and 2",
            ),
            No::TooLate => (exit::DEADLINE, "the request did not reach it in time"),
            No::TerminalMissing => (exit::SYSTEM, "it has no terminal to give"),
            No::Malformed => (exit::SYSTEM, "it did not understand the request"),
        };
        self.unable(code, why)
    }

    pub(super) fn not_started(&self, errno: i32) -> Failure {
        let cause = io::Error::from_raw_os_error(errno);
        self.unable(
            exit_of(errno),
            format!("the program does not start: {cause}"),
        )
    }
}

/// The environment as the program's side gets to see it, each `NAME=VALUE`.
fn variables(all: bool) -> Vec<&'static OsStr> {
    let entry = |own: Variable| OsStr::from_bytes(own.entry.to_bytes());
    inherited().filter(|_| all).map(entry).collect()
}

fn message(call: &Call, variables: &[&OsStr], terminal: &[Role]) -> exit::Result<Vec<u8>> {
    let request = Request {
        roles: call.roles(terminal),
        detach: call.detach,
        terminal: terminal.to_vec(),
        arguments: call.arguments.iter().map(OsString::as_os_str).collect(),
        environment: variables.to_vec(),
    };
    let encoded = match call.protocol {
        Protocol::Doorward => wire::encode(&request),
        Protocol::S6 => s6::encode(&request),
    };
    encoded.map_err(|why| match why {
        Malformed::TooLarge => wrong_use(format!(
            "unable to call {}: arguments and environment are more than {} bytes or {} entries",
            call.dial.address,
            wire::LARGEST,
            wire::MOST_ENTRIES
        )),
        _ => wrong_use(format!("unable to call {}: {why}", call.dial.address)),
    })
}

/// What is sent beside the words, in the order of the request's roles.
pub(super) struct Descriptors(pub(super) Vec<OwnedFd>);

impl Call {
    fn roles(&self, terminal: &[Role]) -> Vec<Role> {
        if self.protocol == Protocol::S6 {
            return s6::ROLES.to_vec();
        }
        let [stdin, stdout, stderr] = self.standard;
        let wanted = [stdin, stdout, stderr, self.directory];
        let roles = Role::ALL.into_iter().zip(wanted);
        roles
            .filter(|(role, wanted)| *wanted && !terminal.contains(role))
            .map(|(role, _)| role)
            .collect()
    }
}

impl Descriptors {
    fn gather(call: &Call, terminal: &[Role]) -> exit::Result<Descriptors> {
        let get = |role: Role| -> io::Result<OwnedFd> {
            if role == Role::Directory {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                return Ok(open(".", flags, Mode::empty())?);
            }
            let number = role as usize;
            let wanted = call.standard.get(number).copied().unwrap_or(true);
            match sys::fd::standard(role as i32).filter(|_| wanted) {
                Some(own) => own.try_clone_to_owned(),
                None => report::open_null(),
            }
        };
        let all = call.roles(terminal).into_iter().map(get);
        let all = all.collect::<io::Result<Vec<OwnedFd>>>();
        all.map(Descriptors).unable("get the descriptors to send")
    }
}
