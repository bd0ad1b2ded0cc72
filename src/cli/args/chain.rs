//! The words of the commands that become their program: links of a chain.
#![forbid(unsafe_code)]

use super::lean::lean;
use super::options::{Kept, Node, Patience, Server, SocketItself};
use crate::source::Type;
use clap::Args;
use std::ffi::OsString;

lean! {
    /// The words of `doorward bind`; its help is that of [`Command::Bind`].
    #[derive(Args, Debug)]
    #[command(override_usage = "doorward bind [OPTIONS] PATH PROG [ARG...]", after_help = EXIT_STATUS_OF_BIND)]
    pub(in crate::cli) struct Bind {
        #[command(flatten)]
        pub(in crate::cli) node: Node,
        #[command(flatten)]
        pub(in crate::cli) itself: SocketItself,
        #[command(flatten)]
        pub(in crate::cli) kept: Kept,
        /// Path to bind (@NAME: in the abstract namespace), then the program to become, looked up in PATH, and its arguments
        #[arg(
            required = true,
            num_args = 2..,
            trailing_var_arg = true,
            value_names = ["PATH", "PROG"],
            help_heading = "Socket and program"
        )]
        pub(in crate::cli) path_and_prog: Vec<OsString>,
    }
}

lean! {
    /// The words of `doorward connect`; its help is that of [`Command::Connect`].
    #[derive(Args, Debug)]
    #[command(
        override_usage = "doorward connect [OPTIONS] PATH [PROG [ARG...]]",
        mut_arg("server", |server| Server::by_default(server, "whoever it is")),
        after_help = EXIT_STATUS_OF_CONNECT
    )]
    pub(in crate::cli) struct Connect {
        /// Type of the socket
        #[arg(
            long = "type",
            value_name = "TYPE",
            value_enum,
            default_value = "stream"
        )]
        pub(in crate::cli) kind: Type,
        /// Take the greeting (11 bytes and a descriptor), and give PROG the notification socket that comes with it on 8; what comes in
        /// place of a greeting is told as the server's refusal
        #[arg(long)]
        pub(in crate::cli) notify: bool,
        #[command(flatten)]
        pub(in crate::cli) server: Server,
        /// Bind the client's own socket to PATH (@NAME: in the abstract namespace), for the server to see [default: no name]
        #[arg(long, value_name = "PATH")]
        pub(in crate::cli) local: Option<OsString>,
        #[command(flatten)]
        pub(in crate::cli) patience: Patience,
        /// Socket to connect to (@NAME: in the abstract namespace), then the program to become, looked up in PATH, and its arguments; none:
        /// standard input and output are relayed
        #[arg(
            required = true,
            num_args = 1..,
            trailing_var_arg = true,
            value_names = ["PATH", "PROG"],
            help_heading = "Socket and program"
        )]
        pub(in crate::cli) path_and_prog: Vec<OsString>,
    }
}

const EXIT_STATUS_OF_BIND: &str = "\
Exit status: that of PROG; else 100 wrong use; 101 a bug; 111 a system call failed, or the path is taken; 126 PROG is not executable; 127 PROG \
was not found.";

const EXIT_STATUS_OF_CONNECT: &str = "\
Exit status: that of PROG, or 0 when everything was relayed; else 1 the server refused, or is not who --server says; 99 no answer in time; \
100 wrong use; 101 a bug; 111 a system call failed, or the server did not take everything; 126 PROG is not executable; 127 PROG was not found.";

lean! {
    /// The words of `doorward relay`; its help is that of [`Command::Relay`].
    #[derive(Args, Debug)]
    #[command(override_usage = "doorward relay [OPTIONS]", after_help = EXIT_STATUS_OF_RELAY)]
    pub(in crate::cli) struct Relay {
        /// Give up when nothing was read or written for so long, in either direction [default: no limit]
        #[arg(long, value_name = "SECONDS")]
        pub(in crate::cli) idle: Option<String>,
    }
}

const EXIT_STATUS_OF_RELAY: &str = "\
Exit status: 0 everything was relayed; 99 nothing moved for --idle; 100 wrong use; 101 a bug; 111 a system call failed, or the server did \
not take everything.";
