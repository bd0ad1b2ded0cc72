//! What the figures say: tables for people on stdout, raw rows as CSV in target/bench.
#![forbid(unsafe_code)]

use super::bench::Bench;
use super::common::load::{Cell, Errors};
use super::common::stats::Spread;
use super::peers::{FLOOR, S6};
use super::{held, idle, rate};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// One table for each number of clients, and spawn-rate.csv.
pub fn rate(bench: &Bench, measured: &[rate::Measured]) -> Result<()> {
    for &clients in &bench.options.clients {
        println!(
            "Clients at the same time: {clients}. Medians of {} rounds [quartiles].\n",
            bench.options.rounds
        );
        println!("| server | connections/s | x floor | x s6-ipcserver | median us | p99 us |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for (index, peer) in bench.peers.iter().enumerate() {
            let cells: Vec<(usize, &Cell)> = cells_of(measured, index, clients).collect();
            let figures =
                |figure: fn(&Cell) -> f64| Spread::of(cells.iter().map(|(_, cell)| figure(cell)));
            let ratio = |name: &str| ratio_to(bench, measured, &cells, name, clients);
            let note = flag(measured, index, clients);
            let (rate, to_floor, to_s6) = (figures(Cell::rate), ratio(FLOOR), ratio(S6));
            let latency = [figures(|cell| cell.median_us), figures(|cell| cell.p99_us)]
                .map(|spread| whole(spread.median));
            println!(
                "| {}{note} | {rate} | {to_floor} | {to_s6} | {} |",
                peer.name,
                latency.join(" | ")
            );
        }
        println!();
    }
    write_csv("spawn-rate.csv", &rate_rows(bench, measured)?)
}

/// The cells of one row and number of clients, with their rounds.
fn cells_of(
    measured: &[rate::Measured],
    peer: usize,
    clients: usize,
) -> impl Iterator<Item = (usize, &Cell)> {
    let wanted = measured
        .iter()
        .filter(move |one| one.peer == peer && one.clients == clients);
    wanted.filter_map(|one| one.outcome.as_ref().ok().map(|cell| (one.round, cell)))
}

/// The median of the ratios within the same round: what else the machine did meanwhile falls out.
fn ratio_to(
    bench: &Bench,
    measured: &[rate::Measured],
    cells: &[(usize, &Cell)],
    name: &str,
    clients: usize,
) -> String {
    let Some(other) = bench.peers.iter().position(|peer| peer.name == name) else {
        return "-".into();
    };
    let others: Vec<(usize, &Cell)> = cells_of(measured, other, clients).collect();
    let ratios = cells.iter().filter_map(|(round, cell)| {
        let (_, beside) = others
            .iter()
            .find(|(other_round, _)| other_round == round)?;
        Some(cell.rate() / beside.rate())
    });
    let median = Spread::of(ratios).median;
    if median.is_nan() {
        "-".into()
    } else {
        format!("{median:.2}")
    }
}

/// A figure without decimals, `-` if there is none.
fn whole(figure: f64) -> String {
    if figure.is_finite() {
        format!("{figure:.0}")
    } else {
        "-".into()
    }
}

/// What makes a row's figures worthless, if anything.
fn flag(measured: &[rate::Measured], peer: usize, clients: usize) -> String {
    let mut errors = Errors::default();
    for (_, cell) in cells_of(measured, peer, clients) {
        errors.add(&cell.errors);
    }
    let failure = measured.iter().find_map(|one| {
        let error = one.outcome.as_ref().err();
        error.filter(|_| one.peer == peer)
    });
    if let Some(failure) = failure {
        return format!(" **FAILED: {failure:#}**");
    }
    if errors.total() > 0 {
        format!(" **ERRORS: {errors}**")
    } else {
        String::new()
    }
}

fn rate_rows(bench: &Bench, measured: &[rate::Measured]) -> Result<String> {
    let mut csv = "round,server,clients,connections,seconds,median_us,p99_us,refused,again,reset,short,other\n".to_owned();
    for one in measured {
        let (Some(peer), Ok(cell)) = (bench.peers.get(one.peer), &one.outcome) else {
            continue;
        };
        let Cell {
            connections,
            seconds,
            median_us,
            p99_us,
            errors,
        } = cell;
        let Errors {
            refused,
            again,
            reset,
            short,
            other,
        } = errors;
        writeln!(
            csv,
            "{},\"{}\",{},{connections},{seconds},{median_us},{p99_us},{refused},{again},{reset},{short},{other}",
            one.round, peer.name, one.clients
        )?;
    }
    Ok(csv)
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

fn write_csv(name: &str, text: &str) -> Result<()> {
    let directory: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&directory)?;
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("unable to write {}", path.display()))
}
