//! The words of the commands that serve.
#![forbid(unsafe_code)]

use super::EXIT_STATUS;
use super::lean::lean;
use super::options::{
    Connection, DELIVERY, LIFE, Life, Log, Node, Places, Readiness, Rules, Server, SocketItself,
    Sockets,
};
use crate::delivery::NotifyTo;
use clap::Args;
use std::ffi::OsString;

lean! {
    /// The words of `doorward spawn`; its help is that of [`Command::Spawn`].
    #[derive(Args, Debug)]
    #[command(override_usage = "doorward spawn [OPTIONS] PROG [ARG...]", after_help = EXIT_STATUS)]
    pub(in crate::cli) struct Spawn {
        #[command(flatten)]
        pub(in crate::cli) common: Common,
        #[command(flatten)]
        pub(in crate::cli) connection: Connection,
        /// End a child that runs longer: SIGTERM to its process group, SIGKILL 5 s later [default: no limit]
        #[arg(long, value_name = "SECONDS", help_heading = DELIVERY)]
        pub(in crate::cli) lifetime: Option<String>,
        /// Program that each child runs, and its arguments; PROG is looked up in PATH once, at the start
        #[arg(
            required = true,
            trailing_var_arg = true,
            value_name = "PROG",
            help_heading = "Program"
        )]
        pub(in crate::cli) prog: Vec<OsString>,
    }
}

lean! {
    /// The words of `doorward handoff`; its help is that of [`Command::Handoff`].
    #[derive(Args, Debug)]
    #[command(
        override_usage = "doorward handoff [OPTIONS] PROG [ARG...]\n       doorward handoff [OPTIONS] --backend PATH",
        mut_arg("server", |server| Server::by_default(server, "self or root")),
        after_help = EXIT_STATUS
    )]
    pub(in crate::cli) struct Handoff {
        #[command(flatten)]
        pub(in crate::cli) common: Common,
        #[command(flatten)]
        pub(in crate::cli) delivery: HandoffDelivery,
        /// Program that takes connections (descriptor 3, LISTEN_FDS=1), and its arguments; PROG is looked up in PATH once, at the start
        #[arg(
            required_unless_present = "backend",
            trailing_var_arg = true,
            value_name = "PROG",
            help_heading = "Program"
        )]
        pub(in crate::cli) prog: Vec<OsString>,
    }
}

impl Handoff {
    /// What clap is told by `required_unless_present` and `conflicts_with_all`: a backend is either started or connected to.
    fn may_be_followed_by(&self, words: usize) -> bool {
        let delivery = &self.delivery;
        if delivery.backend.is_some() {
            words == 0 && delivery.workers.is_none() && !delivery.lazy
        } else {
            words > 0
        }
    }
}

lean! {
    /// The words of `doorward activate`; its help is that of [`Command::Activate`].
    #[derive(Args, Debug)]
    #[command(override_usage = "doorward activate [OPTIONS] PROG [ARG...]", after_help = EXIT_STATUS)]
    pub(in crate::cli) struct Activate {
        #[command(flatten)]
        pub(in crate::cli) sockets: Sockets,
        #[command(flatten)]
        pub(in crate::cli) node: Node,
        #[command(flatten)]
        pub(in crate::cli) itself: SocketItself,
        #[command(flatten)]
        pub(in crate::cli) readiness: Readiness,
        /// After SIGTERM, which the daemon gets too, let it finish for this long, then end it
        #[arg(
            long,
            value_name = "SECONDS",
            default_value = "5",
            help_heading = LIFE
        )]
        pub(in crate::cli) grace: String,
        #[command(flatten)]
        pub(in crate::cli) log: Log,
        /// Daemon to start, which must stay in the foreground, and its arguments; PROG is looked up in PATH once, at the start
        #[arg(
            required = true,
            trailing_var_arg = true,
            value_name = "PROG",
            help_heading = "Program"
        )]
        pub(in crate::cli) prog: Vec<OsString>,
    }
}

lean! {
    /// What every command that serves connections has.
    #[derive(Args, Debug)]
    pub(in crate::cli) struct Common {
        #[command(flatten)]
        pub(in crate::cli) sockets: Sockets,
        #[command(flatten)]
        pub(in crate::cli) node: Node,
        #[command(flatten)]
        pub(in crate::cli) rules: Rules,
        #[command(flatten)]
        pub(in crate::cli) places: Places,
        #[command(flatten)]
        pub(in crate::cli) life: Life,
        #[command(flatten)]
        pub(in crate::cli) log: Log,
    }
}

lean! {
    #[derive(Args, Debug)]
    #[command(next_help_heading = DELIVERY)]
    pub(in crate::cli) struct HandoffDelivery {
        /// Hand off to the backend that listens on this SEQPACKET socket
        #[arg(long, value_name = "PATH", conflicts_with_all = ["prog", "workers", "lazy"])]
        pub(in crate::cli) backend: Option<OsString>,
        #[command(flatten)]
        pub(in crate::cli) server: Server,
        /// Start PROG this often; all of them take from the same queue [default: 1]
        #[arg(long, value_name = "N")]
        pub(in crate::cli) workers: Option<u32>,
        /// Start PROG at the first connection only
        #[arg(long)]
        pub(in crate::cli) lazy: bool,
        /// Connections that may wait for the backend; further ones wait in the kernel's queue
        #[arg(long, value_name = "N", default_value_t = 64)]
        pub(in crate::cli) ahead: u32,
        /// Who gets the client's end of the notification socketpair
        #[arg(long, value_name = "WHOM", value_enum, default_value = "backend")]
        pub(in crate::cli) notify_to: NotifyTo,
        /// Hand a pidfd of the client over too
        #[arg(long)]
        pub(in crate::cli) pidfd: bool,
        /// Prefix of the variables about the connection (IPC in IPCREMOTEEUID), and the value of PROTO
        #[arg(long, value_name = "NAME", default_value = "IPC")]
        pub(in crate::cli) proto: String,
        /// When doorward says that it is ready: as soon as it listens, or when every backend is ready
        #[arg(long, value_name = "WHEN", value_enum, default_value = "listen")]
        pub(in crate::cli) ready: ReadyWhen,
    }
}

/// The words of `--ready`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(in crate::cli) enum ReadyWhen {
    Listen,
    Backend,
}

impl ReadyWhen {
    /// As `--ready` takes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            ReadyWhen::Listen => "listen",
            ReadyWhen::Backend => "backend",
        }
    }
}
