//! Does the rate stay while connections are held open? And what does each cost the server in memory?
//!
//! Beside each server that holds them runs a twin that holds none; they are loaded by turns, so that the machine is the
//! same for both.
#![forbid(unsafe_code)]

use super::bench::Bench;
use super::common::cell::Cell;
use super::common::clients::ANSWER;
use super::common::limits;
use super::common::memory::Memory;
use super::common::page::Page;
use super::common::rate::{Plan, Running, take_turns};
use super::common::stats::Shuffle;
use super::peers::{DOORWARD, FLOOR, S6};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// One server with one number of connections held.
pub struct Measured {
    pub round: usize,
    pub server: &'static str,
    pub held: usize,
    /// Of the server alone, before the load.
    pub memory: Memory,
    pub loads: Vec<Load>,
}

/// One number of clients, of one server with one number of connections held.
pub struct Load {
    pub clients: usize,
    pub cell: Cell,
    /// Of the twin, in the same turns.
    pub twin: Cell,
}

impl Load {
    /// The rate beside that of the twin.
    pub fn ratio(&self) -> f64 {
        self.cell.rate() / self.twin.rate()
    }

    pub fn errors(&self) -> u64 {
        self.cell.errors.total() + self.twin.errors.total()
    }
}

/// s6-ipcserver is given `-c 1000`, its documented most; some room is left for the load.
const S6_MOST: usize = 900;
/// 64 clients say little more here than 8, and cost as much time.
pub const CLIENTS: [usize; 2] = [1, 8];
/// Fewer rounds than for the rates: with only two to take turns, the slices that are compared are next to each other.
const MAX_ROUNDS: usize = 3;

/// Runs doorward, the floor and s6-ipcserver, as far as they are among the rows.
pub fn measure(bench: &Bench, page: &mut Page) -> Result<Vec<Measured>> {
    let steps = possible(&bench.options.held, page)?;
    let servers: Vec<_> = [DOORWARD, FLOOR, S6]
        .into_iter()
        .filter(|server| bench.peers.iter().any(|peer| peer.name.starts_with(server)))
        .collect();
    let mut shuffle = Shuffle::new();
    let mut measured = Vec::new();
    let mut failed = Vec::new();
    let rounds = bench.options.shared.rounds.min(MAX_ROUNDS);
    for round in 0..rounds {
        eprint!("\rheld: round {}/{rounds} ", round + 1);
        for server in shuffle
            .order(servers.len())
            .into_iter()
            .filter_map(|index| servers.get(index))
        {
            // One that hangs costs its deadline once.
            if failed.contains(server) {
                continue;
            }
            if let Err(error) = measure_server(bench, &steps, round, server, &mut measured) {
                page.miss(format!("{server} with held connections: {error:#}"));
                failed.push(*server);
            }
        }
    }
    eprintln!();
    let place = |server| servers.iter().position(|one| *one == server);
    measured.sort_by_key(|one| (one.round, place(one.server), one.held));
    Ok(measured)
}

/// The numbers that the limits of the machine allow, in order; the load needs some room too.
fn possible(wanted: &[usize], page: &mut Page) -> Result<Vec<usize>> {
    let mut steps = Vec::new();
    for &held in wanted {
        match limits::obstacle(held)? {
            Some(obstacle) => page.miss(format!("{held} connections held: {obstacle}")),
            None => steps.push(held),
        }
    }
    steps.sort_unstable();
    Ok(steps)
}

fn measure_server(
    bench: &Bench,
    wanted: &[usize],
    round: usize,
    name: &'static str,
    measured: &mut Vec<Measured>,
) -> Result<()> {
    let most = if name == S6 { S6_MOST } else { usize::MAX };
    let mut steps: Vec<usize> = wanted.iter().map(|&held| held.min(most)).collect();
    steps.dedup();
    let room = if name == S6 {
        1000
    } else {
        steps.iter().max().unwrap_or(&0) + 1000
    };
    let mut holding = bench.start_holding(name, room)?;
    let mut twin = bench.start_holding(name, room)?;
    // The first use of everything is not what is measured.
    for one in [&mut holding, &mut twin] {
        one.load(8, 0.1)?;
    }
    let plan = bench.options.shared.plan();
    let mut connections = Vec::new();
    for held in steps {
        while connections.len() < held {
            let number = connections.len();
            let one = hold(holding.server()?.socket());
            connections.push(one.with_context(|| format!("with {number} held"))?);
        }
        let memory = Memory::of(holding.server()?.pid())?;
        let mut loads = Vec::new();
        for clients in CLIENTS {
            loads.push(load_both(&plan, clients, &mut holding, &mut twin)?);
        }
        measured.push(Measured {
            round,
            server: name,
            held,
            memory,
            loads,
        });
    }
    drop(connections);
    holding.server()?.wait_for_children();
    Ok(())
}

fn load_both<R: Running>(
    plan: &Plan,
    clients: usize,
    holding: &mut R,
    twin: &mut R,
) -> Result<Load> {
    let mut both = BTreeMap::from([(0, holding), (1, twin)]);
    let mut cells = take_turns(plan, clients, &mut both, &mut Shuffle::new());
    let mut cell = |number| cells.remove(&number).context("not loaded")?;
    Ok(Load {
        clients,
        cell: cell(0)?,
        twin: cell(1)?,
    })
}

/// One connection whose child has started, and now waits for our end of file.
pub fn hold(socket: &Path) -> Result<UnixStream> {
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answer = [0; ANSWER.len()];
    connection
        .read_exact(&mut answer)
        .context("a held connection was not answered")?;
    if answer != ANSWER {
        bail!("a held connection was answered {answer:?}");
    }
    Ok(connection)
}
