//! doorward: the keeper of a Unix-domain socket.
//!
//! The package is a command, `doorward`, and a library for the programs at both of its ends:
//!
//! | module | for |
//! | --- | --- |
//! | [`backend`] | a long-lived service that takes connections from `doorward handoff` |
//! | [`client`] | a program that talks to a service behind doorward and hears its notifications |
//!
//! A backend, whole: it is started by `doorward handoff --bind /run/who PROG`, and answers every client with its uid.
//!
//! ```no_run
//! use doorward::backend::{Backend, Error};
//! use std::{io::Write, os::unix::net::UnixStream};
//!
//! fn main() -> Result<(), Error> {
//!     let mut backend = Backend::from_env()?.on_drop(|why| eprintln!("who: {why}"));
//!     while let Some(handoff) = backend.recv()? {
//!         let _ = writeln!(UnixStream::from(handoff.connection), "{}", handoff.peer.uid);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Features
//! - `cli` (default): the command. Without default features the library alone is built, on `nix` and `libc`.
//! - `tokio`: `backend::AsyncBackend`.
//!
//! # Inside
//! One connection's way is the shape of the crate: `source` (bind or inherit) -> `admission` (who is it, may it, is there room) ->
//! `delivery` (spawn a child, hand off to a backend). `serve` walks it, once for every connection; `chain` are the
//! commands that become their program, and `relay` what one does that has none; `call` runs one for somebody else; `cli` turns a
//! command line into a plan and runs it; `sys` is the fence around all unsafe code.

// A test that panics has done its work.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backend;
pub mod client;

mod greeting;
mod lookup;
mod sys;
mod variables;

#[cfg(feature = "cli")]
mod admission;
#[cfg(feature = "cli")]
mod call;
#[cfg(feature = "cli")]
mod chain;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod clock;
#[cfg(feature = "cli")]
mod convert;
#[cfg(feature = "cli")]
mod delivery;
#[cfg(feature = "cli")]
mod exit;
#[cfg(feature = "cli")]
mod privileges;
#[cfg(feature = "cli")]
mod relay;
#[cfg(feature = "cli")]
mod report;
#[cfg(feature = "cli")]
mod serve;
#[cfg(feature = "cli")]
mod source;

#[cfg(feature = "cli")]
pub use cli::main;
