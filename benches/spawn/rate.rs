//! Connections per second and their latency: every row, every number of clients, every round.
#![forbid(unsafe_code)]

use super::bench::Bench;
use super::common::load::Cell;
use super::common::stats::Shuffle;
use anyhow::Result;

/// One measured cell.
pub struct Measured {
    pub round: usize,
    /// Index into the bench's peers.
    pub peer: usize,
    /// 0 if it did not even start.
    pub clients: usize,
    /// What it came to, or why it came to nothing.
    pub outcome: Result<Cell>,
}

/// Runs all rounds. A row that fails is reported, not fatal: the others still say something.
pub fn measure(bench: &Bench) -> Vec<Measured> {
    let mut shuffle = Shuffle::new();
    let mut measured = Vec::new();
    for round in 0..bench.options.rounds {
        eprint!("\rrate: round {}/{} ", round + 1, bench.options.rounds);
        for peer in shuffle.order(bench.peers.len()) {
            measure_row(bench, round, peer, &mut measured);
        }
    }
    eprintln!();
    measured
}

fn measure_row(bench: &Bench, round: usize, peer: usize, measured: &mut Vec<Measured>) {
    let Some(row) = bench.peers.get(peer) else {
        return;
    };
    let mut running = match bench.start(row) {
        Ok(running) => running,
        Err(error) => {
            return measured.push(Measured {
                round,
                peer,
                clients: 0,
                outcome: Err(error),
            });
        }
    };
    for &clients in &bench.options.clients {
        let outcome = running.load(clients, bench.options.seconds);
        let failed = outcome.is_err();
        measured.push(Measured {
            round,
            peer,
            clients,
            outcome,
        });
        if failed {
            break;
        }
    }
}
