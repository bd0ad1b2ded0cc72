//! What the figures say: tables for people, raw rows as CSV.
#![forbid(unsafe_code)]

use super::bench::Bench;
use super::common::page::Page;
use super::common::rate::Measured;
use super::common::stats::Spread;
use super::common::table::{Table, decimals, whole, write_csv};
use super::peers::{FLOOR, S6};
use super::{held, idle};
use anyhow::Result;
use std::fmt::Write;

/// One table for each number of clients, and spawn-rate.csv.
pub fn rate(bench: &Bench, measured: &[Measured], page: &mut Page) -> Result<()> {
    let table = Table {
        plan: &bench.options.shared.plan(),
        names: bench.peers.iter().map(|peer| peer.name.as_str()).collect(),
        beside: &[("x floor", FLOOR), ("x s6-ipcserver", S6)],
        measured,
    };
    page.say("A child for each connection.");
    table.add_to(page);
    write_csv("spawn-rate.csv", &table.csv()?)
}

/// One table, and spawn-held.csv.
pub fn held(measured: &[held::Measured], page: &mut Page) -> Result<()> {
    page.say(
        "While connections are held open: the rate beside that of a twin, which holds none and is loaded in turn with it.",
    );
    let mut shown: Vec<(&str, usize)> = Vec::new();
    let mut csv =
        "round,server,held,rss_kib,pss_kib,clients,connections_per_second,twin_per_second,median_us,twin_median_us,errors\n"
            .to_owned();
    for one in measured {
        for load in &one.loads {
            let (cell, twin) = (&load.cell, &load.twin);
            let held::Measured {
                round,
                server,
                held,
                memory,
                ..
            } = one;
            writeln!(
                csv,
                "{round},\"{server}\",{held},{},{},{},{},{},{},{},{}",
                memory.rss,
                memory.pss,
                load.clients,
                cell.rate(),
                twin.rate(),
                cell.median_us,
                twin.median_us,
                load.errors()
            )?;
        }
        if !shown.contains(&(one.server, one.held)) {
            shown.push((one.server, one.held));
        }
    }
    let rows: Vec<Vec<String>> = shown
        .into_iter()
        .map(|(server, held)| held_row(measured, server, held))
        .collect();
    page.table(
        &[
            "server",
            "held",
            "1 client",
            "8 clients",
            "own memory, KiB",
            "of it per held connection, bytes",
        ],
        &rows,
    );
    write_csv("spawn-held.csv", &csv)
}

fn held_row(measured: &[held::Measured], server: &str, held: usize) -> Vec<String> {
    let rounds: Vec<&held::Measured> = measured
        .iter()
        .filter(|one| one.server == server && one.held == held)
        .collect();
    let none_held = |round: usize| {
        measured
            .iter()
            .find(|one| one.server == server && one.held == 0 && one.round == round)
    };
    let [one, eight] = held::CLIENTS.map(|clients| {
        let loads = || {
            let all = rounds.iter().flat_map(|one| &one.loads);
            all.filter(|load| load.clients == clients)
        };
        let ratio = Spread::of(loads().map(held::Load::ratio)).ratio();
        // Two that hold none: how much the ratios say at all.
        if held == 0 {
            let rate = Spread::of(loads().map(|load| load.cell.rate())).median;
            return format!("{}/s, {ratio}", whole(rate));
        }
        ratio
    });
    let memory = Spread::of(rounds.iter().map(|one| one.memory.rss as f64)).median;
    let growth = rounds
        .iter()
        .filter_map(|one| Some(one.memory.rss as f64 - none_held(one.round)?.memory.rss as f64));
    let each = Spread::of(growth).median * 1024.0 / held as f64;
    let each = whole(each);
    let errors: u64 = rounds
        .iter()
        .flat_map(|one| &one.loads)
        .map(held::Load::errors)
        .sum();
    let flag = if errors > 0 {
        format!(" **ERRORS: {errors}**")
    } else {
        String::new()
    };
    vec![
        format!("{server}{flag}"),
        held.to_string(),
        one,
        eight,
        whole(memory),
        each,
    ]
}

/// One table, and spawn-memory.csv.
pub fn idle(measured: &[idle::Measured], page: &mut Page) -> Result<()> {
    page.say(
        "Memory of the server alone, KiB (medians): resident (RSS), and with shared pages counted by share (Pss).",
    );
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
    let rows: Vec<Vec<String>> = names.iter().map(|name| idle_row(measured, name)).collect();
    page.table(
        &[
            "server",
            "RSS, up",
            "x s6-ipcserver",
            "Pss, up",
            "RSS, has served",
            "Pss, has served",
        ],
        &rows,
    );
    write_csv("spawn-memory.csv", &csv)
}

fn idle_row(measured: &[idle::Measured], name: &str) -> Vec<String> {
    let median = |name: &str, figure: fn(&idle::Measured) -> u64| {
        let rounds = measured.iter().filter(|one| one.server == name);
        Spread::of(rounds.map(|one| figure(one) as f64)).median
    };
    let up = median(name, |one| one.idle.rss);
    let beside = up / median(S6, |one| one.idle.rss);
    vec![
        name.to_owned(),
        whole(up),
        decimals(beside),
        whole(median(name, |one| one.idle.pss)),
        whole(median(name, |one| one.served.rss)),
        whole(median(name, |one| one.served.pss)),
    ]
}
