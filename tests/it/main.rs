//! The integration tests: one binary, each module one subject.
//!
//! | module | its subject |
//! | --- | --- |
//! | `support` | the vocabulary: doors, clients, notices, users, what /proc says, systemd in namespaces |
//! | `harness` | the vocabulary itself, tried on stand-ins: what the other tests lean on must hold |
//! | `harness_door` | the same of running doors |
//! | `harness_systemd` | the same of the systemd in namespaces |
//! | `source` | where the listening socket comes from: inherited or bound |
//! | `life` | from readiness to the end: signals, reload, drain, watchdog, status, logs, overload, bad input |
//! | `admission` | who is it, may it, is there room: rules, limits, refusals |
//! | `admit` | one connection checked in a chain, under every parent that gives one |
//! | `rules` | `doorward rules`, and rules in a database |
//! | `delivery` | what a child gets and how it ends |
//! | `bind`, `activate` | a listening socket for the program itself, at once or at the first client; datagram sockets |
//! | `call` | a program of one user on the descriptors of another: requests, signals, ends, hostile callers, s6-sudo |
//! | `clients` | other programs as clients of `spawn`, and s6-connlimit behind it |
//! | `connect` | the client's side: what its program gets, and servers that do not want it |
//! | `relay` | standard input and output on one side, a connection on the other |
//! | `handoff` | connections given to backends that live on, started or listening, whatever these do; the storm of kills |
//! | `consumers` | skarnet's library and s6-ftrigrd on the wire, and a shell that hears events |
//! | `units` | the units under the real systemd, and what checks them |
//! | `operators` | the example of privileges without setuid: operators, strangers and root under the real systemd |
//! | `s6`, `runit`, `inetd` | the files of contrib under the real supervisors, and sockets that they hand over |
//! | `library` | backends and clients made with the library, and its examples, with doorward between them |
//! | `backends` | the backends of contrib in Python, C and Go, and the units of a hand-off |
//! | `manual` | what people read: the man page and the README say what the program does |
//! | `programs` | real programs behind the door, by the bridges of contrib, and the demonstration |
//! | `regression` | what went wrong once |
//!
//! A test that lacks root or a program says `SKIPPED` and passes; with `DOORWARD_TESTS_ALL=1` it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod support;

mod activate;
mod admission;
mod admit;
mod backends;
mod bind;
mod call;
mod clients;
mod connect;
mod consumers;
mod delivery;
mod handoff;
mod harness;
mod harness_door;
mod harness_systemd;
mod inetd;
mod library;
mod life;
mod manual;
mod operators;
mod programs;
mod regression;
mod relay;
mod rules;
mod runit;
mod s6;
mod source;
mod units;
