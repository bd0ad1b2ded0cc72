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
use common::stats::{Shuffle, Spread};
use common::table::write_csv;
use common::{machine, scratch};
use options::Options;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use ways::{Bench, Way};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know that it starts.
    let asked = arguments.iter().any(|word| word == "--bench")
        && !arguments.iter().any(|word| word == "--test");
    let outcome = if asked {
        measure(&Options::from_command_line())
    } else {
        println!("nothing measured: run it with `cargo bench`");
        Ok(())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Seconds that one row took for one way, in one round.
struct Measured {
    round: usize,
    way: Way,
    row: usize,
    outcome: Result<f64>,
}

fn measure(options: &Options) -> Result<()> {
    let doorward = Path::new(env!("CARGO_BIN_EXE_doorward"));
    scratch::clean_up_on_signals()?;
    let scratch = scratch::Scratch::create()?;
    let bench = Bench::prepare(options, &scratch, doorward)?;
    println!("Machine: {}\n", machine::describe(doorward));

    let mut measured = Vec::new();
    let mut shuffle = Shuffle::new();
    for round in 0..options.rounds {
        for way in Way::ALL {
            for row in shuffle.order(bench.rows.len()) {
                let outcome = bench.run(way, row);
                measured.push(Measured {
                    round,
                    way,
                    row,
                    outcome,
                });
            }
        }
    }
    for way in Way::ALL {
        print(way, &bench, options, &measured);
    }
    write_csv("relay.csv", &csv(&bench, &measured)?)
}

fn print(way: Way, bench: &Bench<'_>, options: &Options, measured: &[Measured]) {
    println!(
        "{}: {} MiB. Medians of {} rounds [quartiles].\n",
        way.words(),
        options.mib,
        options.rounds
    );
    println!("| relay | MiB/s | x socat |\n| --- | --- | --- |");
    let of = |row: usize| {
        let ours = measured
            .iter()
            .filter(move |one| one.way == way && one.row == row);
        ours.filter_map(|one| one.outcome.as_ref().ok().map(|took| (one.round, *took)))
    };
    let socat = bench.rows.iter().position(|row| row.name == ways::SOCAT);
    for (row, relay) in bench.rows.iter().enumerate() {
        let rate = Spread::of(of(row).map(|(_, took)| options.mib as f64 / took));
        // Within the same round: what else the machine did meanwhile falls out.
        let ratios = of(row).filter_map(|(round, took)| {
            let (_, beside) = of(socat?).find(|(other, _)| *other == round)?;
            Some(beside / took)
        });
        let ratio = Spread::of(ratios).median;
        let failed = measured.iter().find_map(|one| {
            let error = one.outcome.as_ref().err();
            error.filter(|_| one.way == way && one.row == row)
        });
        let flag = failed.map_or(String::new(), |error| format!(" **FAILED: {error:#}**"));
        println!("| {}{flag} | {rate} | {ratio:.2} |", relay.name);
    }
    println!();
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
