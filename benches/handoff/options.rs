//! The command line of the benchmark: `cargo bench --bench handoff -- OPTIONS`.
#![forbid(unsafe_code)]

use super::common::options::Shared;
use clap::Parser;

/// Measures `doorward handoff` beside a bare C loop and a backend that accepts by itself.
#[derive(Parser)]
#[command(name = "cargo bench --bench handoff --")]
pub struct Options {
    #[command(flatten)]
    pub shared: Shared,
}

impl Options {
    pub fn from_command_line() -> Self {
        let mut options = Self::parse();
        options.shared.settle();
        options
    }
}
