//! The words of `doorward admit`.
#![forbid(unsafe_code)]

use super::lean::lean;
use super::options::{Connection, Log, Rules};
use clap::Args;
use std::ffi::OsString;

lean! {
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
}

const EXIT_STATUS_OF_ADMIT: &str = "\
Exit status: that of PROG; else 1 the client was refused; 100 wrong use; 101 a bug; 111 a system call failed; 126 PROG is not \
executable; 127 PROG was not found.";
