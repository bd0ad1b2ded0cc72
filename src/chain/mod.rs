//! Links of a chain: commands that prepare a descriptor or two and become their program, in place; and what stands at its end.
#![forbid(unsafe_code)]

mod admit;
mod bind;
mod connect;
mod dial;
mod given;
mod place;
mod program;
mod relay;

pub(crate) use admit::{Admission, run as admit};
pub(crate) use bind::{Binding, run as bind};
pub(crate) use connect::{Errand, run as connect};
pub(crate) use dial::Dial;
pub(crate) use given::{Given, Unfit, is_same_socket, is_stderr};
pub(crate) use relay::run as relay;
