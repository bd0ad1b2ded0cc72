//! Rules in one form made into the other: a directory into a database, and back.
//!
//! What is made stands beside its place under a hidden name until it is whole; a failure, or a signal that asks to end, leaves
//! nothing of it.
#![forbid(unsafe_code)]

mod compile;
mod draft;
mod dump;

pub(crate) use compile::compile;
pub(crate) use dump::dump;
