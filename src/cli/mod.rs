//! The command line: parse -> plan -> run -> exit code. Alone allowed to print to the terminal.
#![forbid(unsafe_code)]

mod args;
mod plan;
mod serve;

use crate::exit::{self, Failure};
use crate::report::{self, Kind};
use crate::source::Activation;
use crate::{source, sys};
use clap::{CommandFactory as _, FromArgMatches as _};
use std::ffi::OsString;

/// What the parent said to this process alone, taken out of the environment before anything else looks at it.
struct Parent {
    activation: Activation,
    notify_socket: Option<OsString>,
    /// The watchdog's interval, if it is meant for this process.
    watchdog: Option<std::time::Duration>,
    /// Whether standard error still is what it was (it is replaced where it was the listening socket).
    stderr_is_ours: bool,
    /// Standard error is read by the journal.
    journal: bool,
}

impl Parent {
    /// To be called first: no thread is there, nothing was logged, and no descriptor was opened.
    fn listen() -> std::io::Result<Parent> {
        // Zero is no interval: it would be over at once, again and again.
        let watchdog = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
        let names = [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_PIDFDID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
            "LISTEN_FDS_FIRST_FD",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "FDSTORE",
        ];
        let mut values = sys::env::take(&names).into_iter();
        let mut next = || values.next().flatten();
        let (fds, pid, pidfdid, names, notify_socket) = (next(), next(), next(), next(), next());
        let (stdin, stderr_is_ours) = source::take_standard(plan::LOW)?;
        let journal = report::is_journal(std::env::var_os("JOURNAL_STREAM").as_deref());
        let activation = Activation {
            fds,
            pid,
            pidfdid,
            names,
            stdin,
        };
        Ok(Parent {
            activation,
            notify_socket,
            watchdog,
            stderr_is_ours,
            journal,
        })
    }
}

/// Runs the `doorward` command with the process's arguments and environment; gives its exit code.
///
/// It takes the inherited descriptors that LISTEN_FDS, descriptor 0 and `--ready-fd` name, changes signal dispositions, and replaces
/// descriptor 0 by /dev/null: it is for a process of its own, to be called first thing in `main`, before any thread is started.
///
/// # Errors
/// None: failures are logged on standard error, and their exit codes are those of the skarnet tools: 100 wrong use, 111 a system call
/// failed, 126 found but not executable, 127 not found.
pub fn main() -> u8 {
    let parent = match Parent::listen() {
        Ok(parent) => parent,
        Err(error) => {
            return fail(&exit::system(format!(
                "unable to take over the standard descriptors: {error}"
            )));
        }
    };
    report::set_up(parent.stderr_is_ours, parent.journal);
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // --help and --version are errors to clap, and go to standard output; wrong use goes to standard error.
            if !error.use_stderr() {
                let _ = error.print();
                return 0;
            }
            if parent.stderr_is_ours {
                let _ = error.print();
                return exit::WRONG_USE;
            }
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return fail(&exit::wrong_use(
                first.strip_prefix("error: ").unwrap_or(first),
            ));
        }
    };
    serve::run(arguments.command, parent).unwrap_or_else(|failure| fail(&failure))
}

fn parse() -> Result<args::Arguments, clap::Error> {
    let matches = args::Arguments::command().try_get_matches()?;
    let mut arguments = args::Arguments::from_arg_matches(&matches)?;
    if let Some((_, matches)) = matches.subcommand() {
        arguments.command.common().admission.take_order(matches);
    }
    Ok(arguments)
}

fn fail(failure: &Failure) -> u8 {
    // `{:#}` prints the chain: unable to VERB OBJECT: CAUSE.
    report::line(Kind::Fatal, format_args!("{:#}", failure.error));
    failure.code
}
