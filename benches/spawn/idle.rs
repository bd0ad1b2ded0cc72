//! The memory of a server that has nothing to do: when it is up, and after it has served.
#![forbid(unsafe_code)]

use super::bench::Bench;
use super::common::memory::Memory;
use super::common::page::Page;
use super::common::rate::Running as _;
use super::peers::{DOORWARD, Peer, S6};
use anyhow::Result;

/// One server in one round.
pub struct Measured {
    pub round: usize,
    pub server: String,
    /// After the few connections that show that it is up.
    pub idle: Memory,
    /// After half a second of 64 clients.
    pub served: Memory,
}

const ROUNDS: usize = 3;

/// The rows whose memory is compared: each one process that keeps running, of which its children are no part.
const ROWS: [&str; 5] = [DOORWARD, "also", S6, "unixserver", "socat"];

/// Measures them.
pub fn measure(bench: &Bench, page: &mut Page) -> Vec<Measured> {
    let mut measured = Vec::new();
    let mut failed: Vec<&str> = Vec::new();
    for round in 0..bench.options.shared.rounds.min(ROUNDS) {
        for peer in bench.peers.iter().filter(|peer| is_compared(&peer.name)) {
            // One that hangs costs its deadline once.
            if failed.contains(&peer.name.as_str()) {
                continue;
            }
            match measure_server(bench, round, peer) {
                Ok(one) => measured.push(one),
                Err(error) => {
                    page.miss(format!("memory of {}: {error:#}", peer.name));
                    failed.push(&peer.name);
                }
            }
        }
    }
    measured
}

fn is_compared(name: &str) -> bool {
    ROWS.iter().any(|row| name.starts_with(row))
        && !name.contains(" + ")
        && !["--allow", "--rules FILE"]
            .iter()
            .any(|form| name.ends_with(form))
}

fn measure_server(bench: &Bench, round: usize, peer: &Peer) -> Result<Measured> {
    let mut running = bench.start(peer)?;
    // No more than shows that it is up: one client for no time.
    running.load(1, 0.0)?;
    let idle = Memory::of(running.server()?.pid())?;
    running.load(64, 0.5)?;
    let served = Memory::of(running.server()?.pid())?;
    Ok(Measured {
        round,
        server: peer.name.clone(),
        idle,
        served,
    })
}
