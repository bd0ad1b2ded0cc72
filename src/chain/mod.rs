//! Links of a chain: commands that prepare a descriptor or two and become their program, in place.
#![forbid(unsafe_code)]

mod bind;
mod connect;
mod program;

pub(crate) use bind::{Binding, run as bind};
pub(crate) use connect::{Errand, run as connect};
