//! Does a decision cost more when there are many rules? Databases of 10 and of 1,000,000 records.
#![forbid(unsafe_code)]

use super::bench::Bench;
use super::common::page::Page;
use super::common::rate::{self, Plan};
use super::common::rules::write_large_database;
use super::common::table::{Table, write_csv};
use super::peers::{DOORWARD, Peer, S6_ACCESS, with_database};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What the rows say of them, and how many there are.
const SIZES: [(&str, u32); 2] = [("10", 10), ("1,000,000", 1_000_000)];
/// 64 clients say little more here than 8.
const CLIENTS: usize = 8;
/// Of the changes; an answer is kept of a file that has been as it is for three seconds.
const PERIOD: Duration = Duration::from_millis(500);

/// Measures both sizes for both readers, adds the tables to `page`, and writes spawn-rules.csv.
pub fn measure(bench: &Bench, page: &mut Page) -> Result<()> {
    let mut peers: Vec<Peer> = Vec::new();
    let mut files = Vec::new();
    for (name, records) in SIZES {
        let file = bench.scratch.join(format!("rules-{records}.cdb"));
        write_large_database(&file, records)?;
        files.push(file.clone());
        for peer in with_database(&bench.places(), &file, name) {
            if bench.can_start(&peer, page) {
                peers.push(peer);
            }
        }
    }
    let mut plan: Plan = bench.options.shared.plan();
    plan.clients.retain(|clients| *clients <= CLIENTS);
    let measured = while_changing(&files, || {
        rate::measure(&plan, peers.len(), |row| {
            bench.start(peers.get(row).context("no such row")?)
        })
    });
    let [ours, theirs] = [DOORWARD, "s6"].map(|name| format!("x {name}, 10"));
    let [our_row, their_row] = [
        format!("{DOORWARD} --rules FILE, 10 records"),
        format!("{S6_ACCESS}, 10 records"),
    ];
    let table = Table {
        plan: &plan,
        names: peers.iter().map(|peer| peer.name.as_str()).collect(),
        beside: &[(&ours, &our_row), (&theirs, &their_row)],
        measured: &measured,
    };
    page.say("Rules in a database (cdb), by how many records there are.");
    table.add_to(page);
    write_csv("spawn-rules.csv", &table.csv()?)
}

/// Sets the ctime of the files, and nothing else of them, twice a second meanwhile. doorward gives an answer again without a look where the file
/// was not changed just before; here each connection is to cost a look.
fn while_changing<T>(files: &[PathBuf], measure: impl FnOnce() -> T) -> T {
    let (stop, stopped) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                for file in files {
                    // One that cannot be changed shows in the figures as an answer that was kept, and costs nobody a measurement.
                    let _ = fs::metadata(file)
                        .and_then(|stat| fs::set_permissions(file, stat.permissions()));
                }
            }
        });
        let measured = measure();
        drop(stop);
        measured
    })
}
