//! Privileges without setuid: `call` asks, `answer` runs its program on the caller's descriptors. docs/CALL.md says it to the byte.
#![forbid(unsafe_code)]

mod caller;
mod client;
mod conversation;
mod descendants;
mod environment;
mod frame;
mod given;
mod patience;
mod pty;
mod receive;
mod s6;
mod server;
mod supervise;
mod wire;

pub(crate) use caller::Protocol;
pub(crate) use client::{Call, run as call};
pub(crate) use server::{Allowed, Post, run as answer};
