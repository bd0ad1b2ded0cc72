//! Links of a chain: commands that prepare a descriptor or two and become their program, in place.
#![forbid(unsafe_code)]

mod admit;
mod connect;
mod given;
mod place;
mod program;

pub(crate) use admit::{Admission, run as admit};
pub(crate) use connect::{Errand, run as connect};
pub(crate) use given::{Given, is_stderr};
