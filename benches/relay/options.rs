//! The command line of the benchmark: `cargo bench --bench relay -- OPTIONS`.
#![forbid(unsafe_code)]

use super::common::options::Also;
use clap::Parser;

/// Measures how fast bytes go through `doorward connect` and `doorward relay`, beside socat and s6-ioconnect.
#[derive(Parser)]
#[command(name = "cargo bench --bench relay --")]
pub struct Options {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Transfers by each relay, each way, in each round; each starts the relay anew, in an order that is shuffled
    #[arg(long, default_value_t = 6)]
    pub turns: u64,
    /// Mebibytes of one transfer
    #[arg(long, default_value_t = 128)]
    pub mib: u64,
    /// Two rounds of little: does everything run? The figures say little
    #[arg(long)]
    quick: bool,
    /// Only relays whose name contains one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of doorward, to be measured in the same rounds (before and after a change)
    #[arg(long, value_name = "[NAME=]PATH")]
    pub also: Vec<Also>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub fn from_command_line() -> Self {
        let mut options = Self::parse();
        if options.quick {
            options.rounds = 2;
            options.turns = 2;
            options.mib = 32;
        }
        options
    }

    /// Whether a relay of this name is to be measured.
    pub fn selects(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}
