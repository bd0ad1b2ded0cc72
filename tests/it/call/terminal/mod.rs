//! `call --pty`: a user at a terminal, and a program in a terminal of its own.

mod daily;
mod ending;
mod hostile;
mod isolation;
mod pipeline;
mod stopping;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::support::{Door, Screen, Served, Session, User, doorward};

/// A server that gives terminals.
fn answer<S: AsRef<OsStr>>(door: Door, program: impl IntoIterator<Item = S>) -> Served {
    super::answer(door, &["--allow-pty"], program)
}

/// The same with a shell's script.
fn script(door: Door, text: &str) -> Served {
    super::script(door, &["--allow-pty"], text)
}

/// `doorward call --pty PATH ARG...`.
fn words(path: &Path, arguments: &[&str]) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![doorward().into(), "call".into(), "--pty".into()];
    words.push(path.into());
    words.extend(arguments.iter().map(Into::into));
    words
}

/// A user of their own, at a terminal of their own, who calls `server`.
#[track_caller]
fn at_a_terminal(server: &Served, arguments: &[&str]) -> Session {
    let screen = Screen::new().user(&User::unique());
    screen.start(words(&server.socket(), arguments))
}
