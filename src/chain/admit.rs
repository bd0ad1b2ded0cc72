//! `doorward admit`: checks the one connection that it was given, and becomes its program.
#![forbid(unsafe_code)]

use super::given::{Given, Unfit};
use super::place::Sockets;
use super::program::become_program;
use crate::admission::{Peer, Reason, RuleName, Rules, Verdict, tell_refused};
use crate::delivery::{Admitted, Beside, Channels, LAYOUTS_END, Program, Template, Trouble};
use crate::exit::{self, Failure, Unable as _, wrong_use};
use crate::report::{self, Kind, error, event};
use crate::source::{Address, decimal};
use crate::sys;
use crate::variables::inherited;
use nix::errno::Errno;
use nix::sys::socket::{UnixAddr, getsockname};
use std::fmt::Display;
use std::os::fd::AsRawFd as _;

/// `doorward admit`, understood and looked up.
pub(crate) struct Admission {
    pub(crate) given: Given,
    pub(crate) rules: Rules,
    pub(crate) deny_text: Option<Vec<u8>>,
    pub(crate) proto: String,
    pub(crate) channels: Channels,
    pub(crate) program: Program,
}

/// Becomes the program if the client may come in; comes back with the exit code of a refusal, or a failure.
pub(crate) fn run(admission: Admission) -> exit::Result<u8> {
    let given = &admission.given;
    let mut peer = Peer::default();
    match given.check() {
        Ok(()) => {}
        Err(Unfit::NoConnection(why)) => return Err(wrong_use(why)),
        Err(Unfit::Stranger(why)) => {
            return Ok(admission.refuse(&peer, Reason::Identity, format_args!("cause={why}")));
        }
    }
    let peer_name = match sys::socket::peer_name(given.socket) {
        Ok(name) => name,
        Err(cause) if cause.raw_os_error() == Some(Errno::ENOTCONN as i32) => {
            return Err(wrong_use(format!(
                "descriptor {} is a Unix socket that is not connected",
                given.number
            )));
        }
        Err(cause) => return Err(cause).unable("ask a connection for its peer's name"),
    };
    if let Err(cause) = peer.identify_once(given.socket) {
        peer.forget();
        return Ok(admission.refuse(&peer, Reason::Identity, format_args!("cause={cause}")));
    }
    let (rule, rule_env, exec) = match admission.rules.judge(&peer) {
        Verdict::Allow { rule, env, exec } => (rule, env, exec),
        Verdict::Deny(rule) => {
            return Ok(admission.refuse(&peer, Reason::Rule, format_args!("rule={rule}")));
        }
        Verdict::Failed(cause) => {
            error!("{cause}; denying whom this rule concerns");
            return Ok(admission.refuse(&peer, Reason::Rule, format_args!("rule=unreadable")));
        }
    };
    let script = match exec.map(Program::script) {
        Some(None) => {
            let detail = format_args!("rule={rule} exec=cannot-run");
            return Ok(admission.refuse(&peer, Reason::Rule, detail));
        }
        script => script.flatten(),
    };
    admission.become_admitted(&peer, peer_name.bytes(), &rule, &rule_env, script)
}

impl Admission {
    /// Refuses: the deny text if there is one, and a log line.
    fn refuse(&self, peer: &Peer, reason: Reason, detail: impl Display) -> u8 {
        if let Some(text) = &self.deny_text {
            tell_refused(self.given.socket, text);
        }
        event!("deny {peer} reason={reason} {detail}");
        exit::REFUSED
    }

    fn become_admitted(
        self,
        peer: &Peer,
        peer_name: &[u8],
        rule: &RuleName,
        rule_env: &[(Vec<u8>, Option<Vec<u8>>)],
        script: Option<Program>,
    ) -> exit::Result<u8> {
        let local_path = getsockname::<UnixAddr>(self.given.socket.as_raw_fd())
            .unable("ask a connection for its name")?;
        let local_path = Address::from_kernel(&local_path).local_path();
        let connection =
            sys::fd::copy_above(self.given.socket, LAYOUTS_END).unable("copy the connection")?;
        let admitted = Admitted {
            connection,
            peer,
            peer_name,
            local_path: &local_path,
            number: count_of_parent(),
            slots: 1,
            rule_env,
            exec: None,
        };
        let template = Template::new(inherited(), self.proto, self.channels);
        let envp = template.in_place(&admitted);
        let mut beside = Beside::default();
        beside.make(self.channels, &admitted).map_err(undelivered)?;
        if report::shows(Kind::Connection) {
            let own = std::process::id();
            report::line(
                Kind::Connection,
                format_args!("allow {peer} rule={rule} child={own}"),
            );
        }
        // They hold descriptors, which must not be closed when something else stands there.
        drop(self.rules);
        let (notification, pidfd) = beside.into_own();
        let sockets = Sockets {
            connection: admitted.connection,
            notification,
            pidfd,
        };
        sockets.leave_standard(self.channels.layout)?;
        sockets.place(self.channels.layout)?;
        match become_program(script.unwrap_or(self.program), envp)? {}
    }
}

/// How many connections the user has by the word of the parent: it counts (s6-ipcserverd), this process knows of one alone.
fn count_of_parent() -> Option<u32> {
    let mut name = std::env::var_os("PROTO")?;
    name.push("CONNNUM");
    let count = decimal(&std::env::var_os(name)?)?;
    u32::try_from(count).ok()
}

/// The connection ends with this process: a client that takes no greeting is refused, and a limit does not pass while this one waits.
fn undelivered(trouble: Trouble) -> Failure {
    let (code, what, cause) = match trouble {
        Trouble::Client(what, cause) => (exit::REFUSED, what, cause),
        Trouble::Later(what, cause) => (exit::SYSTEM, what, cause),
        Trouble::Full | Trouble::Program(..) | Trouble::TooLarge(_) => {
            return exit::system("unable to deliver the connection");
        }
    };
    Failure {
        code,
        error: anyhow::Error::new(cause).context(format!("unable to {what}")),
    }
}
