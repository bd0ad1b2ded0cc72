//! What was typed. Nothing here decides what it means.
#![forbid(unsafe_code)]

use crate::delivery::{Layout, NotifyTo};
use crate::source::Type;
use clap::{ArgMatches, Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// The keeper of a Unix-domain socket.
///
/// Gets a listening socket (its own, or one inherited by socket activation), decides who may come in by what the kernel says of
/// the peer, and delivers each admitted connection to a program.
#[derive(Parser, Debug)]
#[command(name = "doorward", version, help_expected = true, disable_help_subcommand = true, after_help = EXIT_STATUS)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 told to stop; 100 wrong use; 101 a bug; 111 a system call failed; 126 PROG is not executable; 127 PROG was not found.";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Starts one child per connection, as s6-ipcserver, inetd nowait and Accept=yes do
    ///
    /// The listening socket is what LISTEN_FDS passes; else descriptor 0, if that is a listening socket; else what --bind names.
    /// Options end at PROG.
    Spawn(Box<Spawn>),
    /// Hands each connection, with a fresh notification socketpair, to a backend that lives on
    ///
    /// The backend is PROG, started and restarted by doorward, or whoever listens on the socket that --backend names.
    /// The listening socket is what LISTEN_FDS passes; else descriptor 0, if that is a listening socket; else what --bind names.
    /// Options end at PROG.
    Handoff(Box<Handoff>),
    /// Connects, puts the connection on descriptors 6 and 7, and becomes PROG, as s6-ipcclient does
    ///
    /// PROG has this process's 0, 1 and 2, no other descriptor, and all signals at their defaults. Options end at PATH.
    Connect(Connect),
}

impl Command {
    /// What the commands that serve have in common.
    pub(super) fn common(&mut self) -> Option<&mut Common> {
        match self {
            Command::Spawn(spawn) => Some(&mut spawn.common),
            Command::Handoff(handoff) => Some(&mut handoff.common),
            Command::Connect(_) => None,
        }
    }
}

/// The words of `doorward spawn`; its help is that of [`Command::Spawn`].
#[derive(Args, Debug)]
#[command(override_usage = "doorward spawn [OPTIONS] PROG [ARG...]", after_help = EXIT_STATUS)]
pub(super) struct Spawn {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) delivery: Delivery,
    /// Program that each child runs, and its arguments; PROG is looked up in PATH once, at the start
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "PROG",
        help_heading = "Program"
    )]
    pub(super) prog: Vec<OsString>,
}

/// The words of `doorward handoff`; its help is that of [`Command::Handoff`].
#[derive(Args, Debug)]
#[command(override_usage = "doorward handoff [OPTIONS] PROG [ARG...]\n       doorward handoff [OPTIONS] --backend PATH", after_help = EXIT_STATUS)]
pub(super) struct Handoff {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) delivery: HandoffDelivery,
    /// Program that takes connections (descriptor 3, LISTEN_FDS=1), and its arguments; PROG is looked up in PATH once, at the start
    #[arg(
        required_unless_present = "backend",
        trailing_var_arg = true,
        value_name = "PROG",
        help_heading = "Program"
    )]
    pub(super) prog: Vec<OsString>,
}

/// The words of `doorward connect`; its help is that of [`Command::Connect`].
#[derive(Args, Debug)]
#[command(override_usage = "doorward connect [OPTIONS] PATH PROG [ARG...]", after_help = EXIT_STATUS_OF_CONNECT)]
pub(super) struct Connect {
    /// Type of the socket
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_enum,
        default_value = "stream"
    )]
    pub(super) kind: Type,
    /// Take the greeting (11 bytes and a descriptor), and give PROG the notification socket that comes with it on 8; what comes in
    /// place of a greeting is told as the server's refusal
    #[arg(long)]
    pub(super) notify: bool,
    /// Give up if the connection, and with --notify the greeting, takes longer [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    pub(super) connect_timeout: Option<String>,
    /// Socket to connect to (@NAME: in the abstract namespace), then the program to become, looked up in PATH, and its arguments
    #[arg(
        required = true,
        num_args = 2..,
        trailing_var_arg = true,
        value_names = ["PATH", "PROG"],
        help_heading = "Socket and program"
    )]
    pub(super) path_and_prog: Vec<OsString>,
}

const EXIT_STATUS_OF_CONNECT: &str = "\
Exit status: that of PROG; else 1 the server refused; 99 no answer in time; 100 wrong use; 101 a bug; 111 a system call failed; 126 PROG is \
not executable; 127 PROG was not found.";

/// What every command that serves has.
#[derive(Args, Debug)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) source: Source,
    #[command(flatten)]
    pub(super) admission: Admission,
    #[command(flatten)]
    pub(super) life: Life,
    #[command(flatten)]
    pub(super) log: Log,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Source: where the listening socket comes from")]
pub(super) struct Source {
    /// Bind PATH and serve it (@NAME: in the abstract namespace); where sockets are inherited, they must be these; repeatable
    #[arg(long, value_name = "PATH")]
    pub(super) bind: Vec<OsString>,
    /// Of the inherited sockets serve those called NAME in LISTEN_FDNAMES; repeatable [default: all]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Vec<String>,
    /// Permission bits of the socket, octal; to connect takes w [default: 0600 when bound, unchanged when inherited]
    #[arg(long, value_name = "MODE")]
    pub(super) mode: Option<String>,
    /// Owner of the socket, by name or number [default: unchanged]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(super) owner: Option<String>,
    /// Connections that may wait in the kernel's queue to be accepted [default: the system's maximum]
    #[arg(long, value_name = "N")]
    pub(super) backlog: Option<u32>,
    /// Type of the socket [default: what is inherited, else stream]
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub(super) kind: Option<Type>,
    /// Call listen() again on inherited sockets, so that clients see doorward's credentials
    #[arg(long)]
    pub(super) relisten: bool,
    /// User to become before the first client gets in, with its groups [default: stay who started it]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(super) run_as: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Admission: who may come in")]
pub(super) struct Admission {
    /// Admit WHO: user:NAME|UID, group:NAME|GID (effective or supplementary), self (the user that doorward runs as) or all;
    /// repeatable: of all --allow and --deny, in the order given, the first that matches decides [default: who matches none is
    /// refused if there is an --allow, else admitted]
    #[arg(long, value_name = "WHO")]
    pub(super) allow: Vec<String>,
    /// Refuse WHO, as in --allow; repeatable
    #[arg(long, value_name = "WHO")]
    pub(super) deny: Vec<String>,
    /// Rules directory in the format of s6-ipcserver-access -i, read at each connection; who matches none is refused; not with
    /// --allow or --deny
    #[arg(long, value_name = "DIR")]
    pub(super) rules: Option<PathBuf>,
    /// Connections at once, of all users and sockets; when full, clients wait (0: no limit)
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(super) max: u32,
    /// Connections at once of one user; more are refused [default: three quarters of --max, none with --max 0]
    #[arg(long, value_name = "N")]
    pub(super) max_per_user: Option<u32>,
    /// New connections of one user: N in a row, then as many as come back evenly at N in SECONDS; more are refused [default: no
    /// limit]
    #[arg(long, value_name = "N/SECONDS")]
    pub(super) rate: Option<String>,
    /// Text to send, with a newline, to whoever is refused [default: none]
    #[arg(long, value_name = "TEXT")]
    pub(super) deny_text: Option<OsString>,
    /// --allow and --deny in the order in which they were given: whether it allows, and WHO.
    #[arg(skip)]
    pub(super) in_order: Vec<(bool, String)>,
}

impl Admission {
    /// Restores the common order of the two options, which the parser keeps apart.
    pub(super) fn take_order(&mut self, matches: &ArgMatches) {
        let indexed =
            |name: &str, allows: bool, values: &[String]| -> Vec<(usize, (bool, String))> {
                let indices = matches.indices_of(name).into_iter().flatten();
                indices
                    .zip(values)
                    .map(|(index, value)| (index, (allows, value.clone())))
                    .collect()
            };
        let mut all = indexed("allow", true, &self.allow);
        all.extend(indexed("deny", false, &self.deny));
        all.sort_by_key(|(index, _)| *index);
        self.in_order = all.into_iter().map(|(_, option)| option).collect();
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Delivery: what a child gets")]
pub(super) struct Delivery {
    /// Where a child finds the connection [default: ucspi]
    #[arg(long, value_name = "LAYOUT", value_enum)]
    pub(super) layout: Option<Layout>,
    /// The connection on 0 and 1: --layout inetd
    #[arg(long)]
    pub(super) inetd: bool,
    /// Prefix of the variables about the connection (IPC in IPCREMOTEEUID), and the value of PROTO
    #[arg(long, value_name = "NAME", default_value = "IPC")]
    pub(super) proto: String,
    /// Give each child a notification socket on 8, and its client the other end, in a greeting (11 bytes and a descriptor)
    #[arg(long)]
    pub(super) notify: bool,
    /// Give each child a pidfd of its client on 9
    #[arg(long)]
    pub(super) pidfd: bool,
    /// Let children inherit descriptor N of doorward's own (3 to 1023); repeatable [default: none]
    #[arg(long, value_name = "N")]
    pub(super) keep_fd: Vec<u32>,
    /// End a child that runs longer: SIGTERM to its process group, SIGKILL 5 s later [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    pub(super) lifetime: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Delivery: what a backend gets")]
pub(super) struct HandoffDelivery {
    /// Hand off to the backend that listens on this SEQPACKET socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["prog", "workers", "lazy"])]
    pub(super) backend: Option<OsString>,
    /// Whom the backend at --backend must be served by: user:NAME|UID, group:NAME|GID, self; repeatable [default: self or root]
    #[arg(long, value_name = "WHO", requires = "backend")]
    pub(super) server: Vec<String>,
    /// Start PROG this often; all of them take from the same queue [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<u32>,
    /// Start PROG at the first connection only
    #[arg(long)]
    pub(super) lazy: bool,
    /// Connections that may wait for the backend; further ones wait in the kernel's queue
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(super) ahead: u32,
    /// Who gets the client's end of the notification socketpair
    #[arg(long, value_name = "WHOM", value_enum, default_value = "backend")]
    pub(super) notify_to: NotifyTo,
    /// Hand a pidfd of the client over too
    #[arg(long)]
    pub(super) pidfd: bool,
    /// Prefix of the variables about the connection (IPC in IPCREMOTEEUID), and the value of PROTO
    #[arg(long, value_name = "NAME", default_value = "IPC")]
    pub(super) proto: String,
    /// When doorward says that it is ready: as soon as it listens, or when every backend is ready
    #[arg(long, value_name = "WHEN", value_enum, default_value = "listen")]
    pub(super) ready: ReadyWhen,
}

/// The words of `--ready`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum ReadyWhen {
    Listen,
    Backend,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Start and end")]
pub(super) struct Life {
    /// Write a newline to descriptor N when ready, and close it (s6's notification-fd; NOTIFY_SOCKET is told in any case)
    /// [default: none]
    #[arg(long, value_name = "N")]
    pub(super) ready_fd: Option<u32>,
    /// After SIGTERM, let children finish for this long, then end them (0: exit at once, children go on)
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub(super) grace: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Log")]
pub(super) struct Log {
    /// Log admitted connections and the ends of children too
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Log failures alone, not refusals or the state of the service
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_option_has_its_help() {
        Arguments::command().debug_assert();
    }

    fn parse(line: &str) -> Box<Spawn> {
        let matches = Arguments::command()
            .try_get_matches_from(line.split(' '))
            .unwrap();
        let command = <Arguments as clap::FromArgMatches>::from_arg_matches(&matches)
            .unwrap()
            .command;
        let Command::Spawn(mut spawn) = command else {
            panic!()
        };
        spawn
            .common
            .admission
            .take_order(matches.subcommand().unwrap().1);
        spawn
    }

    #[test]
    fn options_end_at_the_program() {
        let spawn = parse("doorward spawn --bind x prog --bind y -q -- z");
        assert_eq!(spawn.prog, ["prog", "--bind", "y", "-q", "--", "z"]);
        assert_eq!(spawn.common.source.bind, ["x"]);
        assert_eq!(
            parse("doorward spawn --bind x -- prog -v").prog,
            ["prog", "-v"]
        );
    }

    #[test]
    fn an_unknown_option_is_no_program() {
        let line = [
            "doorward",
            "spawn",
            "--bind",
            "x",
            "--no-such-option",
            "prog",
        ];
        assert!(Arguments::command().try_get_matches_from(line).is_err());
    }

    #[test]
    fn allow_and_deny_keep_their_common_order() {
        let spawn = parse("doorward spawn --deny user:1 --allow all --deny self --bind x prog");
        let order = [(false, "user:1"), (true, "all"), (false, "self")]
            .map(|(allows, who)| (allows, who.to_owned()));
        assert_eq!(spawn.common.admission.in_order, order);
    }
}
