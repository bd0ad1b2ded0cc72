//! What was typed. Nothing here decides what it means.
#![forbid(unsafe_code)]

mod admit;
mod call;
mod chain;
mod in_order;
mod lean;
mod line;
mod options;
mod rules;
mod serve;

pub(super) use admit::Admit;
pub(super) use call::{Answer, Call};
pub(super) use chain::{Bind, Connect, Relay};
pub(super) use options::{Connection, Kept, Log, Node, Rules, SocketItself, Sockets};
pub(super) use rules::{Check, Compile, RuleTask};
pub(super) use serve::{Activate, Common, Handoff, ReadyWhen, Spawn};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::ffi::OsString;

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
    /// Starts a daemon at the first connection or datagram and gives it the listening socket, as Accept=no and inetd wait do
    ///
    /// The sockets are what LISTEN_FDS passes; else descriptor 0, if that is a listening or a datagram socket; else what --bind names.
    /// The daemon gets all of them; when it has ended, the next client starts it again. Nobody is checked but by the socket's mode.
    /// Options end at PROG.
    Activate(Box<Activate>),
    /// Checks the one connection that it was given, and becomes PROG if the client may come in, as s6-ipcserver-access does
    ///
    /// The connection is what LISTEN_FDS passes (one, on 3); else descriptor 0, if that is a socket; else descriptor 6, if that is one.
    /// PROG has it where admit found it, unless --layout says otherwise. Options end at PROG.
    Admit(Box<Admit>),
    /// Binds, and becomes PROG with the listening socket on descriptor 0, as s6-ipcserver-socketbinder does
    ///
    /// The socket is PROG's from then on: nobody removes it at the end. Nobody is checked but by the socket's mode. Options end at PATH.
    Bind(Box<Bind>),
    /// Connects, puts the connection on descriptors 6 and 7, and becomes PROG, as s6-ipcclient does; or relays standard input and output
    ///
    /// PROG has this process's 0, 1 and 2, no other descriptor, and all signals at their defaults. Without PROG standard input goes to
    /// the server and what it says to standard output, and the end of either direction is passed on. Options end at PATH.
    Connect(Connect),
    /// Copies standard input to descriptor 7 and descriptor 6 to standard output, as s6-ioconnect does
    ///
    /// The end of either direction is passed on, and it ends when both have. To be run by doorward connect or another UCSPI client.
    Relay(Relay),
    /// Has the program behind PATH run on this process's 0, 1 and 2, as s6-sudo does
    ///
    /// ARG... are the program's last arguments; doorward answer, on the other side, has the first. Signals are passed on, and the exit is
    /// that of the program. When this process dies, all that the program has started is ended. Options end at PATH.
    Call(Call),
    /// Runs PROG for the caller at the other end of the connection, on the caller's 0, 1 and 2, as s6-sudod does
    ///
    /// The program of doorward spawn: it finds the connection on 0, or on 6 and 7. PROG has this process's user, directory and
    /// environment; of the caller's variables it gets those that are set and empty here. Options end at PROG.
    Answer(Answer),
    /// Tells what rules say of a user, and makes a database of a rules directory and back
    #[command(subcommand, after_help = EXIT_STATUS_OF_RULES)]
    Rules(RuleTask),
}

const EXIT_STATUS_OF_RULES: &str = "\
Exit status: 0 admitted, or done; 1 refused; 100 wrong use; 101 a bug; 111 rules that are not as they must be, or a system call failed.";

impl Command {
    /// `-v` and `-q`, where the command logs what it does.
    pub(super) fn log(&self) -> Option<&Log> {
        match self {
            Command::Spawn(spawn) => Some(&spawn.common.log),
            Command::Handoff(handoff) => Some(&handoff.common.log),
            Command::Activate(activate) => Some(&activate.log),
            Command::Admit(admit) => Some(&admit.log),
            Command::Answer(answer) => Some(&answer.log),
            Command::Bind(_)
            | Command::Call(_)
            | Command::Connect(_)
            | Command::Relay(_)
            | Command::Rules(_) => None,
        }
    }
}

/// The word for an option of admission where nobody is asked; the parser would only say that it does not know it.
pub(super) fn unasked(error: &clap::Error, command: Option<OsString>) -> Option<String> {
    let command = command.filter(|word| word == "bind" || word == "activate")?;
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let option = option.split('=').next().unwrap_or_default();
    let known = error.kind() == ErrorKind::UnknownArgument
        && options::of_admission().any(|name| name == option);
    let command = command.to_string_lossy();
    known.then(|| {
        format!(
            "{option} and {command} make no sense together: {command} asks nobody who connects; the mode and owner of the socket decide alone"
        )
    })
}

/// What the words say. Where they are not plainly right, clap reads them, and says what is wrong.
///
/// On a frame of its own: the room in which all commands' words are read is a page of the stack, and is used again by what follows.
#[inline(never)]
pub(super) fn parse(words: &mut Vec<OsString>) -> Result<Arguments, clap::Error> {
    match plainly_right(words) {
        Some(command) => Ok(Arguments { command }),
        None => parse_with_clap(words),
    }
}

/// The same by clap alone: help, what is wrong, and spellings that are legal and odd.
pub(super) fn parse_with_clap(words: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut matches = command().try_get_matches_from(words)?;
    Arguments::from_arg_matches_mut(&mut matches)
}

/// What plainly right words say. They are left as they are unless they are that. `rules` is for people: it can wait for clap.
fn plainly_right(words: &mut Vec<OsString>) -> Option<Command> {
    Some(match words.get(1)?.to_str()? {
        "spawn" => Command::Spawn(Box::new(lean::read(words)?)),
        "handoff" => Command::Handoff(Box::new(lean::read(words)?)),
        "activate" => Command::Activate(Box::new(lean::read(words)?)),
        "admit" => Command::Admit(Box::new(lean::read(words)?)),
        "bind" => Command::Bind(Box::new(lean::read(words)?)),
        "connect" => Command::Connect(lean::read(words)?),
        "relay" => Command::Relay(lean::read(words)?),
        "call" => Command::Call(lean::read(words)?),
        "answer" => Command::Answer(lean::read(words)?),
        _ => return None,
    })
}

/// The parser. Where commands differ in what a shared option does unless it is given, each says its own.
fn command() -> clap::Command {
    Arguments::command().mut_subcommand("admit", |admit| {
        admit.mut_arg("layout", |layout| {
            layout.help(
                "Where the program finds the connection; where that is not 0, those of 0, 1 and 2 that are the connection become \
                 /dev/null [default: where admit found it]",
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_help() {
        command().debug_assert();
    }

    fn parse(line: &str) -> Box<Spawn> {
        let matches = Arguments::command()
            .try_get_matches_from(line.split(' '))
            .unwrap();
        let command = <Arguments as clap::FromArgMatches>::from_arg_matches(&matches)
            .unwrap()
            .command;
        let Command::Spawn(spawn) = command else {
            panic!()
        };
        spawn
    }

    #[test]
    fn options_end_at_the_program() {
        let spawn = parse("doorward spawn --bind x prog --bind y -q -- z");
        assert_eq!(spawn.prog, ["prog", "--bind", "y", "-q", "--", "z"]);
        assert_eq!(spawn.common.sockets.bind, ["x"]);
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
        assert_eq!(spawn.common.rules.in_order.0, order);
    }
}
