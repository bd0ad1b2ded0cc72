//! What the figures say: tables for people on stdout, raw rows as CSV in target/bench.
#![forbid(unsafe_code)]

use super::bench::Bench;
use super::common::rate::Measured;
use super::common::stats::Spread;
use super::common::table::{Table, whole, write_csv};
use super::peers::{FLOOR, S6};
use super::{held, idle};
use anyhow::Result;
use std::fmt::Write;

/// One table for each number of clients, and spawn-rate.csv.
pub fn rate(bench: &Bench, measured: &[Measured]) -> Result<()> {
    let table = Table {
        plan: &bench.options.plan(),
        names: bench.peers.iter().map(|peer| peer.name.as_str()).collect(),
        beside: &[("x floor", FLOOR), ("x s6-ipcserver", S6)],
        measured,
    };
    table.print();
    write_csv("spawn-rate.csv", &table.csv()?)
}

/// One table, and spawn-held.csv.
pub fn held(measured: &[held::Measured]) -> Result<()> {
    println!(
        "While connections are held open: rate relative to none held, in the life of the same server.\n"
    );
    println!(
        "| server | held | 1 client | 8 clients | own memory, KiB | of it per held connection, bytes |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut shown: Vec<(&str, usize)> = Vec::new();
    let mut csv =
        "round,server,held,rss_kib,pss_kib,clients,connections_per_second,median_us,errors\n"
            .to_owned();
    for one in measured {
        for (clients, cell) in &one.cells {
            let (rate, errors) = (cell.rate(), cell.errors.total());
            let held::Measured {
                round,
                server,
                held,
                memory,
                ..
            } = one;
            writeln!(
                csv,
                "{round},\"{server}\",{held},{},{},{clients},{rate},{},{errors}",
                memory.rss, memory.pss, cell.median_us
            )?;
        }
        if !shown.contains(&(one.server, one.held)) {
            shown.push((one.server, one.held));
        }
    }
    shown.sort_unstable();
    for (server, held) in shown {
        println!("{}", held_row(measured, server, held));
    }
    println!();
    write_csv("spawn-held.csv", &csv)
}

fn held_row(measured: &[held::Measured], server: &str, held: usize) -> String {
    let rounds: Vec<&held::Measured> = measured
        .iter()
        .filter(|one| one.server == server && one.held == held)
        .collect();
    let none_held = |round: usize| {
        measured
            .iter()
            .find(|one| one.server == server && one.held == 0 && one.round == round)
    };
    let speed = held::CLIENTS.map(|clients| {
        if held == 0 {
            return format!(
                "{}/s",
                Spread::of(rounds.iter().filter_map(|one| one.rate(clients)))
            );
        }
        let ratios = rounds
            .iter()
            .filter_map(|one| Some(one.rate(clients)? / none_held(one.round)?.rate(clients)?));
        let spread = Spread::of(ratios);
        format!(
            "{:.2} [{:.2}-{:.2}]",
            spread.median, spread.low, spread.high
        )
    });
    let memory = Spread::of(rounds.iter().map(|one| one.memory.rss as f64)).median;
    let growth = rounds
        .iter()
        .filter_map(|one| Some(one.memory.rss as f64 - none_held(one.round)?.memory.rss as f64));
    let each = Spread::of(growth).median * 1024.0 / held as f64;
    let each = whole(each);
    let errors: u64 = rounds
        .iter()
        .flat_map(|one| &one.cells)
        .map(|(_, cell)| cell.errors.total())
        .sum();
    let flag = if errors > 0 {
        format!(" **ERRORS: {errors}**")
    } else {
        String::new()
    };
    format!(
        "| {server}{flag} | {held} | {} | {memory:.0} | {each} |",
        speed.join(" | ")
    )
}

/// One table, and spawn-memory.csv.
pub fn idle(measured: &[idle::Measured]) -> Result<()> {
    println!(
        "Memory of the server alone, KiB (medians): resident (RSS), and with shared pages counted by share (Pss).\n"
    );
    println!("| server | RSS, up | Pss, up | RSS, has served | Pss, has served |");
    println!("| --- | --- | --- | --- | --- |");
    let mut csv =
        "round,server,idle_rss_kib,idle_pss_kib,served_rss_kib,served_pss_kib\n".to_owned();
    let mut names: Vec<&str> = Vec::new();
    for one in measured {
        let idle::Measured {
            round,
            server,
            idle,
            served,
        } = one;
        writeln!(
            csv,
            "{round},\"{server}\",{},{},{},{}",
            idle.rss, idle.pss, served.rss, served.pss
        )?;
        if !names.contains(&server.as_str()) {
            names.push(server);
        }
    }
    for name in names {
        let median = |figure: fn(&idle::Measured) -> u64| {
            Spread::of(
                measured
                    .iter()
                    .filter(|one| one.server == name)
                    .map(|one| figure(one) as f64),
            )
            .median
        };
        let (up, up_share) = (median(|one| one.idle.rss), median(|one| one.idle.pss));
        let (served, served_share) = (median(|one| one.served.rss), median(|one| one.served.pss));
        println!("| {name} | {up:.0} | {up_share:.0} | {served:.0} | {served_share:.0} |");
    }
    println!();
    write_csv("spawn-memory.csv", &csv)
}

/// What the tables lack.
pub fn not_measured(bench: &Bench) {
    for missing in &bench.missing {
        println!("Not measured: {missing}");
    }
}
