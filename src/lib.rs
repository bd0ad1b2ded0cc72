//! doorward: the keeper of a Unix-domain socket.
//!
//! One connection's way is the shape of the crate: `source` (bind or inherit) -> `admission` (who is it, may it, is there room) ->
//! `delivery` (spawn a child). `serve` walks it, once for every connection; `cli` turns a command line into a plan and runs it; `sys`
//! is the fence around all unsafe code.

// A test that panics has done its work.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod admission;
mod cli;
mod clock;
mod delivery;
mod exit;
mod privileges;
mod report;
mod serve;
mod source;
mod sys;

pub use cli::main;
