//! The integration tests: one binary, each module one subject.
//!
//! | module | its subject |
//! | --- | --- |
//! | `support` | the vocabulary: doors, clients, notices, users, what /proc says, systemd in namespaces |
//! | `harness` | the vocabulary itself, tried on stand-ins: what the other tests lean on must hold |
//! | `harness_door` | the same of running doors |
//! | `harness_systemd` | the same of the systemd in namespaces |
//! | `source` | where the listening socket comes from: inherited or bound |
//! | `units` | the units under the real systemd, and what checks them |
//! | `s6`, `runit`, `inetd` | the files of contrib under the real supervisors, and sockets that they hand over |
//! | `backends` | the backends of contrib in Python, C and Go, and the units of a hand-off |
//! | `manual` | what people read: the man page and the README say what the program does |
//! | `programs` | real programs behind the door, by the bridges of contrib, and the demonstration |
//!
//! A test that lacks root or a program says `SKIPPED` and passes; with `DOORWARD_TESTS_ALL=1` it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod support;

mod backends;
mod harness;
mod harness_door;
mod harness_systemd;
mod inetd;
mod manual;
mod programs;
mod runit;
mod s6;
mod source;
mod units;
