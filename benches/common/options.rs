//! What every benchmark can be told.
#![forbid(unsafe_code)]

use super::rate::Plan;
use clap::Args;
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// The options that all share, so that `benches/run` can pass them on to all.
#[derive(Args)]
pub struct Shared {
    /// Rounds; in each, every row is started anew
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Seconds of load for each row and number of clients in each round
    #[arg(long, default_value_t = 0.6)]
    pub seconds: f64,
    /// How many slices these seconds are cut into; all rows take turns
    #[arg(long, default_value_t = 12)]
    pub turns: usize,
    /// Two rounds of short cells: does everything run? The figures say little
    #[arg(long)]
    pub quick: bool,
    /// Numbers of clients that connect at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,8,64")]
    pub clients: Vec<usize>,
    /// Only rows whose name contains one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of doorward, to be measured in the same rounds (before and after a change); may be repeated
    #[arg(long, value_name = "[NAME=]PATH")]
    pub also: Vec<Also>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Shared {
    /// To be called once: `--quick` sets others.
    pub fn settle(&mut self) {
        if self.quick {
            self.rounds = 2;
            self.seconds = 0.2;
            self.turns = 2;
        }
    }

    /// How much is measured of the rates.
    pub fn plan(&self) -> Plan {
        Plan {
            rounds: self.rounds,
            seconds: self.seconds,
            turns: self.turns.max(1),
            clients: self.clients.clone(),
        }
    }

    /// Whether a row of this name is to be measured.
    pub fn selects(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}

/// Another build of doorward.
#[derive(Clone)]
pub struct Also {
    /// What its rows are called.
    pub name: String,
    pub path: PathBuf,
}

impl FromStr for Also {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (name, path) = text.split_once('=').unwrap_or((text, text));
        Ok(Self {
            name: format!("also {name}"),
            path: PathBuf::from(path),
        })
    }
}
