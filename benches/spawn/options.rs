//! The command line of the benchmark: `cargo bench --bench spawn -- OPTIONS`.
#![forbid(unsafe_code)]

use super::common::options::Shared;
use clap::Parser;

/// Measures `doorward spawn` beside its neighbours and a bare C loop.
#[derive(Parser)]
#[command(name = "cargo bench --bench spawn --")]
pub struct Options {
    #[command(flatten)]
    pub shared: Shared,
    /// Numbers of connections that are held open meanwhile, as far as the limits of the machine allow
    #[arg(long, value_delimiter = ',', default_value = "0,1000,5000,12000")]
    pub held: Vec<usize>,
    /// Children at once, of which none may be lost, as far as the limits of the machine allow
    #[arg(long, value_name = "N", default_value_t = 16_000)]
    pub crowd: usize,
    /// The parts to run
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "rate,rules,held,crowd,memory"
    )]
    parts: Vec<String>,
}

impl Options {
    pub fn from_command_line() -> Self {
        let mut options = Self::parse();
        options.shared.settle();
        if options.shared.quick {
            options.held.retain(|held| *held <= 1000);
            options.crowd = options.crowd.min(1000);
        }
        options
    }

    /// Whether this part is to be run.
    pub fn wants(&self, part: &str) -> bool {
        self.parts.iter().any(|wanted| wanted == part)
    }
}
