//! Connections per second and their latency: every row, every number of clients, every round.
//!
//! The speed of a machine that is shared drifts within seconds. So all rows are up at the same time and are loaded by
//! turns, each for a short slice: what is compared was measured within a second or two, and many times.
#![forbid(unsafe_code)]

use super::cell::{Cell, Slice};
use super::stats::Shuffle;
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Instant;

/// How much is measured.
pub struct Plan {
    /// In each round every row is started anew.
    pub rounds: usize,
    /// Of load for each cell (a row, a number of clients, a round), in all its turns.
    pub seconds: f64,
    /// Into how many slices a cell is cut.
    pub turns: usize,
    /// Numbers of clients that connect at the same time.
    pub clients: Vec<usize>,
}

/// A started row; ended on drop.
pub trait Running {
    /// Measures one slice.
    fn load(&mut self, clients: usize, seconds: f64) -> Result<Slice>;
}

impl<R: Running> Running for &mut R {
    fn load(&mut self, clients: usize, seconds: f64) -> Result<Slice> {
        (**self).load(clients, seconds)
    }
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
    let begun = Instant::now();
    for round in 0..plan.rounds {
        let left = left(begun, round, plan.rounds);
        eprint!("\rrate: round {}/{}{left} ", round + 1, plan.rounds);
        let measured_as = |row, clients, outcome| Measured {
            round,
            row,
            clients,
            outcome,
        };
        let mut running = BTreeMap::new();
        for row in shuffle.order(rows) {
            let failed = |one: &Measured| one.row == row && one.outcome.is_err();
            if measured.iter().any(failed) {
                continue;
            }
            match start(row) {
                Ok(one) => {
                    running.insert(row, one);
                }
                Err(error) => measured.push(measured_as(row, 0, Err(error))),
            }
        }
        for &clients in &plan.clients {
            let outcomes = take_turns(plan, clients, &mut running, &mut shuffle);
            let all = outcomes.into_iter();
            measured.extend(all.map(|(row, outcome)| measured_as(row, clients, outcome)));
        }
    }
    eprintln!();
    measured
}

/// How long the rounds that are left will take, by those that are done.
fn left(begun: Instant, done: usize, rounds: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let each = begun.elapsed().as_secs_f64() / done as f64;
    format!(", some {:.0} s left", each * (rounds - done) as f64)
}

/// Loads all rows that run, slice by slice, in an order that is shuffled in each turn. Gives what each came to; one that
/// fails is ended at once.
pub fn take_turns<R: Running>(
    plan: &Plan,
    clients: usize,
    running: &mut BTreeMap<usize, R>,
    shuffle: &mut Shuffle,
) -> BTreeMap<usize, Result<Cell>> {
    let mut slices: BTreeMap<usize, Vec<Slice>> = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for _ in 0..plan.turns {
        let rows: Vec<usize> = running.keys().copied().collect();
        for row in shuffle
            .order(rows.len())
            .iter()
            .filter_map(|one| rows.get(*one))
        {
            let loaded = running
                .get_mut(row)
                .map(|one| one.load(clients, plan.seconds / plan.turns as f64));
            match loaded {
                Some(Ok(slice)) => slices.entry(*row).or_default().push(slice),
                Some(Err(error)) => {
                    running.remove(row);
                    failed.insert(*row, Err(error));
                }
                None => {}
            }
        }
    }
    let cells = slices
        .into_iter()
        .map(|(row, slices)| (row, Ok(Cell::of(&slices))));
    let mut outcomes: BTreeMap<usize, Result<Cell>> = cells.collect();
    outcomes.extend(failed);
    outcomes
}
