//! The command line of the benchmark: `cargo bench --bench spawn -- OPTIONS`.
#![forbid(unsafe_code)]

use super::common::rate::Plan;
use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;

/// Measures `doorward spawn` beside its neighbours and a bare C loop.
#[derive(Parser)]
#[command(name = "cargo bench --bench spawn --")]
pub struct Options {
    /// Rounds; in each, every server is started anew, in an order that is shuffled
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Seconds that each cell is measured for
    #[arg(long, default_value_t = 0.5)]
    pub seconds: f64,
    /// Two rounds of short cells: does everything run? The figures say little
    #[arg(long)]
    quick: bool,
    /// Numbers of clients that connect at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,8,64")]
    clients: Vec<usize>,
    /// Numbers of connections that are held open meanwhile
    #[arg(long, value_delimiter = ',', default_value = "0,1000,5000")]
    pub held: Vec<usize>,
    /// The parts to run
    #[arg(long, value_delimiter = ',', default_value = "rate,held,memory")]
    parts: Vec<String>,
    /// Only rows whose name contains one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of doorward, to be measured in the same rounds (before and after a change)
    #[arg(long, value_name = "PATH")]
    pub also: Option<PathBuf>,
    /// Install the neighbours that are missing (Debian's packages; needs root)
    #[arg(long)]
    pub install: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub fn from_command_line() -> Result<Self> {
        let mut options = Self::parse();
        if options.quick {
            options.rounds = 2;
            options.seconds = 0.2;
            options.held.retain(|held| *held <= 1000);
        }
        Ok(options)
    }

    /// How much is measured of the rates.
    pub fn plan(&self) -> Plan {
        Plan {
            rounds: self.rounds,
            seconds: self.seconds,
            clients: self.clients.clone(),
        }
    }

    /// Whether this part is to be run.
    pub fn wants(&self, part: &str) -> bool {
        self.parts.iter().any(|wanted| wanted == part)
    }

    /// Whether a row of this name is to be measured.
    pub fn selects(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}
