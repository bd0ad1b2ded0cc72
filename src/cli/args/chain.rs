//! The words of the commands that become their program: links of a chain.
#![forbid(unsafe_code)]

use super::options::{Kept, Node, SocketItself};
use crate::source::Type;
use clap::Args;
use std::ffi::OsString;

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

/// The words of `doorward connect`; its help is that of [`Command::Connect`].
#[derive(Args, Debug)]
#[command(override_usage = "doorward connect [OPTIONS] PATH PROG [ARG...]", after_help = EXIT_STATUS_OF_CONNECT)]
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
    /// Give up if the connection, and with --notify the greeting, takes longer [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    pub(in crate::cli) connect_timeout: Option<String>,
    /// Socket to connect to (@NAME: in the abstract namespace), then the program to become, looked up in PATH, and its arguments
    #[arg(
        required = true,
        num_args = 2..,
        trailing_var_arg = true,
        value_names = ["PATH", "PROG"],
        help_heading = "Socket and program"
    )]
    pub(in crate::cli) path_and_prog: Vec<OsString>,
}

const EXIT_STATUS_OF_BIND: &str = "\
Exit status: that of PROG; else 100 wrong use; 101 a bug; 111 a system call failed, or the path is taken; 126 PROG is not executable; 127 PROG \
was not found.";

const EXIT_STATUS_OF_CONNECT: &str = "\
Exit status: that of PROG; else 1 the server refused; 99 no answer in time; 100 wrong use; 101 a bug; 111 a system call failed; 126 PROG is \
not executable; 127 PROG was not found.";
