//! A terminal of the program's own, for `call --pty`.
//!
//! The caller's terminal never leaves the caller. `answer` makes a pseudo-terminal, the program gets the one end in place of those of 0,
//! 1 and 2 that are the caller's terminal, and the caller the other, between which and its own terminal it copies. So what the program
//! leaves behind holds a terminal that ended with the call, and what it pushes into its input (TIOCSTI) it reads itself.
#![forbid(unsafe_code)]

mod own;
mod relay;
mod terminal;

pub(super) use own::{Own, find, stop_with_group};
pub(super) use relay::Relay;
pub(super) use terminal::{Terminal, Ungiven};

use super::wire::Role;

/// Whether the program is given the keyboard from the start. Elsewhere the caller is a part of a pipeline, another of which may have the
/// keyboard, so the program gets it when it asks.
fn is_interactive(terminal: &[Role]) -> bool {
    terminal.contains(&Role::Stdin) && terminal.contains(&Role::Stdout)
}
