//! The command line of the benchmark: `cargo bench --bench handoff -- OPTIONS`.
#![forbid(unsafe_code)]

use super::common::rate::Plan;
use clap::Parser;
use std::path::PathBuf;

/// Measures `doorward handoff` beside a bare C loop and a backend that accepts by itself.
#[derive(Parser)]
#[command(name = "cargo bench --bench handoff --")]
pub struct Options {
    /// Rounds; in each, every server is started anew, in an order that is shuffled
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds that each cell is measured for
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Two rounds of short cells: does everything run? The figures say little
    #[arg(long)]
    quick: bool,
    /// Numbers of clients that connect at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,8,64")]
    clients: Vec<usize>,
    /// Only rows whose name contains one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of doorward, to be measured in the same rounds (before and after a change)
    #[arg(long, value_name = "PATH")]
    pub also: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub fn from_command_line() -> Self {
        let mut options = Self::parse();
        if options.quick {
            options.rounds = 2;
            options.seconds = 0.2;
        }
        options
    }

    /// How much is measured.
    pub fn plan(&self) -> Plan {
        Plan {
            rounds: self.rounds,
            seconds: self.seconds,
            clients: self.clients.clone(),
        }
    }

    /// Whether a row of this name is to be measured.
    pub fn selects(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}
