//! The words of `doorward call` and `doorward answer`.
#![forbid(unsafe_code)]

use super::lean::lean;
use super::options::{Log, Patience, Server};
use clap::Args;
use std::ffi::OsString;

lean! {
    /// The words of `doorward call`; its help is that of `Command::Call`.
    #[derive(Args, Debug)]
    #[command(
        override_usage = "doorward call [OPTIONS] PATH [ARG...]",
        mut_arg("server", |server| Server::by_default(server, "whoever it is")),
        after_help = EXIT_STATUS_OF_CALL
    )]
    pub(in crate::cli) struct Call {
        /// Give the program /dev/null as its standard input
        #[arg(long)]
        pub(in crate::cli) no_stdin: bool,
        /// Give the program /dev/null as its standard output
        #[arg(long)]
        pub(in crate::cli) no_stdout: bool,
        /// Give the program /dev/null as its standard error
        #[arg(long)]
        pub(in crate::cli) no_stderr: bool,
        /// Send no environment
        #[arg(long)]
        pub(in crate::cli) no_env: bool,
        /// Run the program in this process's working directory, where the other side allows it
        #[arg(long)]
        pub(in crate::cli) cwd: bool,
        /// Let the program go on when this process dies, where the other side allows it
        #[arg(long)]
        pub(in crate::cli) detach: bool,
        /// Give the program a terminal of its own in place of this one, where the other side allows it
        #[arg(long)]
        pub(in crate::cli) pty: bool,
        #[command(flatten)]
        pub(in crate::cli) server: Server,
        #[command(flatten)]
        pub(in crate::cli) patience: Patience,
        /// Speak with s6-sudod in place of doorward answer
        #[arg(long)]
        pub(in crate::cli) s6: bool,
        /// Socket to connect to (@NAME: in the abstract namespace), then arguments for the program
        #[arg(
            required = true,
            num_args = 1..,
            trailing_var_arg = true,
            value_names = ["PATH", "ARG"],
            help_heading = "Socket and arguments"
        )]
        pub(in crate::cli) path_and_arguments: Vec<OsString>,
    }
}

lean! {
    /// The words of `doorward answer`; its help is that of `Command::Answer`.
    #[derive(Args, Debug)]
    #[command(override_usage = "doorward answer [OPTIONS] PROG [ARG...]", after_help = EXIT_STATUS_OF_ANSWER)]
    pub(in crate::cli) struct Answer {
        /// Let callers set variable NAME; repeatable [default: those that are set and empty here]
        #[arg(long, value_name = "NAME")]
        pub(in crate::cli) pass_env: Vec<OsString>,
        /// Let callers choose the working directory (call --cwd)
        #[arg(long)]
        pub(in crate::cli) allow_cwd: bool,
        /// Let programs go on when their caller dies (call --detach)
        #[arg(long)]
        pub(in crate::cli) allow_detach: bool,
        /// Give programs a terminal of their own where their caller wants one (call --pty)
        #[arg(long)]
        pub(in crate::cli) allow_pty: bool,
        /// Refuse a caller whose request takes longer to come
        #[arg(long, value_name = "SECONDS", default_value = "10")]
        pub(in crate::cli) message_timeout: String,
        /// Speak with s6-sudo in place of doorward call
        #[arg(long)]
        pub(in crate::cli) s6: bool,
        #[command(flatten)]
        pub(in crate::cli) log: Log,
        /// Program to run, looked up in PATH, and its first arguments; the caller's come after them
        #[arg(
            required = true,
            num_args = 1..,
            trailing_var_arg = true,
            value_names = ["PROG", "ARG"],
            help_heading = "Program"
        )]
        pub(in crate::cli) prog: Vec<OsString>,
    }
}

const EXIT_STATUS_OF_CALL: &str = "\
Exit status: that of the program, or its signal; else 1 the server refused, or is not who --server says; 99 no answer in time; 100 wrong use; 101 a bug; 111 a system \
call failed; 126 the program is not executable; 127 the program was not found.";

const EXIT_STATUS_OF_ANSWER: &str = "\
Exit status: 0 the caller knows how the program ended, or has gone; 1 it wanted what is not allowed; 99 its request did not come in time; \
100 wrong use, or no request; 101 a bug; 111 a system call failed; 126 PROG is not executable; 127 PROG was not found.";
