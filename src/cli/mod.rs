//! The command line: parse -> plan -> run -> exit code. Alone allowed to print to the terminal.
#![forbid(unsafe_code)]

mod activate;
mod admit;
mod args;
mod descriptors;
mod open_rules;
mod plan;
mod rules;
mod serve;
mod start_line;

use crate::exit::{self, Failure};
use crate::report::{self, Escaped, Kind};
use crate::source::{Activation, Kinds};
use crate::{call, chain, source, sys};
use args::{Arguments, Command};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// What the parent said to this process alone, taken out of the environment before anything else looks at it.
struct Parent {
    activation: Activation,
    notify_socket: Option<OsString>,
    /// The watchdog's interval, if it is meant for this process.
    watchdog: Option<Duration>,
    /// Whether standard error still is what it was (it is replaced where it was the listening socket).
    stderr_is_ours: bool,
    /// Standard error is read by the journal.
    journal: bool,
    /// The variables of readiness and watchdog as they stood, for a program that is the service itself.
    notification: Vec<(&'static str, OsString)>,
}

/// What becomes of 0, 1 and 2.
enum Standard {
    /// A listening socket among them is served, and /dev/null takes its place.
    Served(Kinds),
    /// Whatever they are, they are the program's that this process becomes, or what it relays.
    Passed,
    /// The same, but one may be the connection of a client, who is to read no log line.
    Given,
}

impl Parent {
    /// To be called first: no thread is there, nothing was logged, and no descriptor was opened.
    fn listen(standard: Standard) -> std::io::Result<Parent> {
        let names = [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_PIDFDID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "LISTEN_FDS_FIRST_FD",
            "FDSTORE",
        ];
        let values = sys::env::take(&names);
        let passed = |&(name, _): &(&str, _)| {
            ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].contains(&name)
        };
        let notification = names.into_iter().zip(values.clone());
        let notification = notification.filter(passed);
        let notification = notification.filter_map(|(name, value)| Some((name, value?)));
        let notification = notification.collect();
        let mut values = values.into_iter();
        let mut next = || values.next().flatten();
        let (fds, pid, pidfdid, names, notify_socket) = (next(), next(), next(), next(), next());
        let watchdog = watchdog(next(), next());
        let (stdin, stderr_is_ours) = match standard {
            Standard::Served(kinds) => source::take_standard(plan::LOW, kinds)?,
            Standard::Passed => (None, true),
            Standard::Given => {
                let (stdin, is_ours) = source::take_standard(plan::LOW, Kinds::Connected)?;
                (stdin, is_ours && !chain::is_stderr())
            }
        };
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
            notification,
        })
    }
}

/// The watchdog's interval; none where it is meant for another process, or is no interval (0 would be no pause between pings).
fn watchdog(interval: Option<OsString>, pid: Option<OsString>) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    if pid.is_some_and(|pid| number(pid) != Some(u64::from(std::process::id()))) {
        return None;
    }
    let microseconds = interval.and_then(number).filter(|&number| number > 0);
    microseconds.map(Duration::from_micros)
}

/// Runs the `doorward` command with `words` (its own name first) and the process's environment; gives its exit code.
///
/// It takes the inherited descriptors that LISTEN_FDS, descriptor 0 and `--ready-fd` name, changes signal dispositions, and replaces
/// descriptor 0 by /dev/null: it is for a process of its own, to be called first thing in `main`, before any thread is started.
///
/// # Errors
/// None: failures are logged on standard error, and their exit codes are those of the skarnet tools: 100 wrong use, 111 a system call
/// failed, 126 found but not executable, 127 not found.
pub fn main(mut words: Vec<OsString>) -> u8 {
    let parsed = args::parse(&mut words);
    let standard = match &parsed {
        Ok(Arguments {
            command: Command::Call(_) | Command::Connect(_) | Command::Relay(_) | Command::Rules(_),
        }) => Standard::Passed,
        Ok(Arguments {
            command: Command::Activate(_) | Command::Bind(_),
        }) => Standard::Served(Kinds::All),
        Ok(Arguments {
            command: Command::Admit(_) | Command::Answer(_),
        }) => Standard::Given,
        // What is wrong with its words is not for the client either.
        Err(_)
            if words
                .get(1)
                .is_some_and(|word| word == "admit" || word == "answer") =>
        {
            Standard::Given
        }
        _ => Standard::Served(Kinds::Connected),
    };
    let parent = match Parent::listen(standard) {
        Ok(parent) => parent,
        Err(error) => {
            return fail(&exit::system(format!(
                "unable to take over the standard descriptors: {error}"
            )));
        }
    };
    report::set_up(parent.stderr_is_ours, parent.journal);
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return help(words, error, parent.stderr_is_ours),
    };
    run(arguments.command, parent).unwrap_or_else(|failure| fail(&failure))
}

/// Tells what clap has to say: help that was asked for, or what is wrong with the words.
fn help(words: Vec<OsString>, error: clap::Error, stderr_is_ours: bool) -> u8 {
    let command = words.get(1).cloned();
    // Messages quote words as they were typed: they are made again of words that can forge no line.
    let words: Vec<OsString> = words.into_iter().map(visible).collect();
    let error = args::parse_with_clap(&words).err().unwrap_or(error);
    // --help and --version are errors to clap, and go to standard output; wrong use goes to standard error.
    if !error.use_stderr() {
        let _ = error.print();
        return 0;
    }
    if let Some(why) = args::unasked(&error, command) {
        return fail(&exit::wrong_use(why));
    }
    if stderr_is_ours {
        let _ = error.print();
        return exit::WRONG_USE;
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    fail(&exit::wrong_use(
        first.strip_prefix("error: ").unwrap_or(first),
    ))
}

fn run(command: Command, parent: Parent) -> exit::Result<u8> {
    if let Some(log) = command.log() {
        report::set_verbosity(plan::verbosity(log)?);
    }
    match command {
        Command::Spawn(words) => apart(|| serve::run(plan::spawn(*words)?, parent)),
        Command::Handoff(words) => apart(|| serve::run(plan::handoff(*words)?, parent)),
        Command::Activate(words) => apart(|| activate::run(plan::activate(*words)?, parent)),
        Command::Bind(words) => apart(|| {
            let binding = plan::bind(*words)?;
            descriptors::must_be_kept(&binding.keep_fds)?;
            descriptors::pass_only(&binding.keep_fds)?;
            match chain::bind(binding, parent.notification)? {}
        }),
        Command::Connect(words) => apart(|| chain::connect(plan::connect(words)?)),
        Command::Relay(words) => apart(|| chain::relay(plan::relay(words)?)),
        Command::Admit(words) => apart(|| admit::run(*words, parent)),
        Command::Call(words) => apart(|| call::call(&plan::call(words)?)),
        Command::Answer(words) => apart(|| call::answer(plan::answer(words)?, &parent.activation)),
        Command::Rules(task) => apart(|| rules::run(plan::rule_task(task)?)),
    }
}

/// Calls `run` on a frame of its own. The plans of all commands in one frame are a page of the stack, which the kernel would have to find
/// for each of them.
#[inline(never)]
fn apart<T>(run: impl FnOnce() -> T) -> T {
    run()
}

/// A word as a message may show it: escaped where it has control characters.
fn visible(word: OsString) -> OsString {
    if word.to_string_lossy().chars().any(char::is_control) {
        Escaped(word.as_bytes()).to_string().into()
    } else {
        word
    }
}

fn fail(failure: &Failure) -> u8 {
    // `{:#}` prints the chain: unable to VERB OBJECT: CAUSE.
    report::line(Kind::Fatal, format_args!("{:#}", failure.error));
    failure.code
}
