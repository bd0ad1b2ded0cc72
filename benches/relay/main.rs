//! `cargo bench --bench relay`: bytes through `doorward connect` and `doorward relay`, beside socat and s6-ioconnect.
//!
//! benches/README.md says what is measured and how to read it.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod common;
mod options;
mod ways;

use anyhow::Result;
use common::page::Page;
use common::stats::{Shuffle, Spread};
use common::table::write_csv;
use common::{entry, machine, scratch};
use options::Options;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use ways::{Bench, Way};

fn main() -> ExitCode {
    entry::run(&[], || measure(&Options::from_command_line()))
}

/// What one row took for one way, in one round.
struct Measured {
    round: usize,
    way: Way,
    row: usize,
    /// Seconds, of all its transfers together.
    outcome: Result<f64>,
}

fn measure(options: &Options) -> Result<()> {
    let doorward = Path::new(env!("CARGO_BIN_EXE_doorward"));
    scratch::clean_up_on_signals()?;
    let scratch = scratch::Scratch::create()?;
    let bench = Bench::prepare(options, &scratch, doorward)?;
    println!("Machine: {}\n", machine::describe(doorward));

    let mut measured: Vec<Measured> = Vec::new();
    let mut shuffle = Shuffle::new();
    for round in 0..options.rounds {
        eprint!("\rrelay: round {}/{} ", round + 1, options.rounds);
        for way in Way::ALL {
            // One that failed is given up.
            let failed = |row| {
                let mut failures = measured.iter().filter(|one| one.outcome.is_err());
                failures.any(|one| one.way == way && one.row == row)
            };
            let rows = (0..bench.rows.len()).filter(|row| !failed(*row)).collect();
            let outcomes = take_turns(&bench, options, way, rows, &mut shuffle);
            measured.extend(outcomes.into_iter().map(|(row, outcome)| Measured {
                round,
                way,
                row,
                outcome,
            }));
        }
    }
    eprintln!();
    let mut page = Page::new("relay");
    for way in Way::ALL {
        add_to(&mut page, way, &bench, options, &measured);
    }
    write_csv("relay.csv", &csv(&bench, &measured)?)?;
    page.finish()
}

/// One transfer by each row, again and again: what else the machine does meets all alike. Gives the seconds of each row.
fn take_turns(
    bench: &Bench<'_>,
    options: &Options,
    way: Way,
    rows: Vec<usize>,
    shuffle: &mut Shuffle,
) -> Vec<(usize, Result<f64>)> {
    let mut outcomes: Vec<(usize, Result<f64>)> =
        rows.into_iter().map(|row| (row, Ok(0.0))).collect();
    for _ in 0..options.turns {
        for number in shuffle.order(outcomes.len()) {
            if let Some((row, outcome)) = outcomes.get_mut(number)
                && let Ok(so_far) = outcome
            {
                *outcome = bench.run(way, *row).map(|took| *so_far + took);
            }
        }
    }
    outcomes
}

fn add_to(page: &mut Page, way: Way, bench: &Bench<'_>, options: &Options, measured: &[Measured]) {
    let mib = options.turns * options.mib;
    page.say(&format!(
        "{}: {} transfers of {} MiB. Medians of {} rounds [quartiles].",
        way.words(),
        options.turns,
        options.mib,
        options.rounds
    ));
    let mut lines = Vec::new();
    let of = |row: usize| {
        let ours = measured
            .iter()
            .filter(move |one| one.way == way && one.row == row);
        ours.filter_map(|one| one.outcome.as_ref().ok().map(|took| (one.round, *took)))
    };
    let socat = bench.rows.iter().position(|row| row.name == ways::SOCAT);
    for (row, relay) in bench.rows.iter().enumerate() {
        let rate = Spread::of(of(row).map(|(_, took)| mib as f64 / took));
        // Within the same round: what else the machine did meanwhile falls out.
        let ratios = of(row).filter_map(|(round, took)| {
            let (_, beside) = of(socat?).find(|(other, _)| *other == round)?;
            Some(beside / took)
        });
        let failed = measured.iter().find_map(|one| {
            let error = one.outcome.as_ref().err();
            error.filter(|_| one.way == way && one.row == row)
        });
        let mut name = relay.name.clone();
        if let Some(error) = failed {
            page.miss(format!("{name}, {}: {error:#}", way.words()));
            name += " **FAILED, see below**";
        }
        lines.push(vec![name, rate.to_string(), Spread::of(ratios).ratio()]);
    }
    page.table(&["relay", "MiB/s", "x socat"], &lines);
}

fn csv(bench: &Bench<'_>, measured: &[Measured]) -> Result<String> {
    let mut csv = "round,way,relay,seconds\n".to_owned();
    for one in measured {
        if let (Some(row), Ok(took)) = (bench.rows.get(one.row), &one.outcome) {
            writeln!(
                csv,
                "{},\"{}\",\"{}\",{took}",
                one.round,
                one.way.words(),
                row.name
            )?;
        }
    }
    Ok(csv)
}
