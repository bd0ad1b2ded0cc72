//! The words of the commands that become their program: links of a chain.
#![forbid(unsafe_code)]

use super::options::{Connection, Log, Rules};
use crate::source::Type;
use clap::Args;
use std::ffi::OsString;

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

const EXIT_STATUS_OF_CONNECT: &str = "\
Exit status: that of PROG; else 1 the server refused; 99 no answer in time; 100 wrong use; 101 a bug; 111 a system call failed; 126 PROG is \
not executable; 127 PROG was not found.";

/// The words of `doorward admit`; its help is that of [`Command::Admit`].
#[derive(Args, Debug)]
#[command(override_usage = "doorward admit [OPTIONS] PROG [ARG...]", after_help = EXIT_STATUS_OF_ADMIT)]
pub(in crate::cli) struct Admit {
    #[command(flatten)]
    pub(in crate::cli) rules: Rules,
    #[command(flatten)]
    pub(in crate::cli) connection: Connection,
    #[command(flatten)]
    pub(in crate::cli) log: Log,
    /// Program to become, looked up in PATH, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "PROG",
        help_heading = "Program"
    )]
    pub(in crate::cli) prog: Vec<OsString>,
}

const EXIT_STATUS_OF_ADMIT: &str = "\
Exit status: that of PROG; else 1 the client was refused; 100 wrong use; 101 a bug; 111 a system call failed; 126 PROG is not \
executable; 127 PROG was not found.";
