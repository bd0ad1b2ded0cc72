//! The command line of the benchmark: `cargo bench --bench startup -- OPTIONS`.
#![forbid(unsafe_code)]

use super::common::options::Shared;
use clap::Parser;

/// Measures `doorward admit` and `doorward connect` as whole processes. (--clients and --seconds mean nothing here.)
#[derive(Parser)]
#[command(name = "cargo bench --bench startup --")]
pub struct Options {
    #[command(flatten)]
    pub shared: Shared,
    /// How often each link is started in a round
    #[arg(long, default_value_t = 200)]
    pub runs: usize,
}

impl Options {
    pub fn from_command_line() -> Self {
        let mut options = Self::parse();
        options.shared.settle();
        if options.shared.quick {
            options.runs = options.runs.min(20);
        }
        options
    }
}
