//! Connections per second and their latency: every row, every number of clients, every round.
#![forbid(unsafe_code)]

use super::load::Cell;
use super::stats::Shuffle;
use anyhow::Result;

/// How much is measured.
pub struct Plan {
    /// In each round every row is started anew.
    pub rounds: usize,
    /// That each cell is measured for.
    pub seconds: f64,
    /// Numbers of clients that connect at the same time.
    pub clients: Vec<usize>,
}

/// A started row; ended on drop.
pub trait Running {
    /// Measures one cell.
    fn load(&mut self, clients: usize, seconds: f64) -> Result<Cell>;
}

/// One measured cell.
pub struct Measured {
    pub round: usize,
    /// Index of the row.
    pub row: usize,
    /// 0 if it did not even start.
    pub clients: usize,
    /// What it came to, or why it came to nothing.
    pub outcome: Result<Cell>,
}

/// Runs all rounds of `rows` rows. A row that fails is reported, not fatal: the others still say something. It is not
/// tried again: one that hangs costs its deadline once.
pub fn measure<R: Running>(
    plan: &Plan,
    rows: usize,
    start: impl Fn(usize) -> Result<R>,
) -> Vec<Measured> {
    let mut shuffle = Shuffle::new();
    let mut measured: Vec<Measured> = Vec::new();
    for round in 0..plan.rounds {
        eprint!("\rrate: round {}/{} ", round + 1, plan.rounds);
        for row in shuffle.order(rows) {
            let failed = |one: &Measured| one.row == row && one.outcome.is_err();
            if measured.iter().any(failed) {
                continue;
            }
            let mut note = |clients, outcome| {
                measured.push(Measured {
                    round,
                    row,
                    clients,
                    outcome,
                });
            };
            match start(row) {
                Ok(running) => measure_row(plan, running, note),
                Err(error) => note(0, Err(error)),
            }
        }
    }
    eprintln!();
    measured
}

fn measure_row(plan: &Plan, mut running: impl Running, mut note: impl FnMut(usize, Result<Cell>)) {
    for &clients in &plan.clients {
        let outcome = running.load(clients, plan.seconds);
        let failed = outcome.is_err();
        note(clients, outcome);
        if failed {
            break;
        }
    }
}
