//! `cargo bench --bench handoff`: connections handed to a long-lived backend, doorward beside the barest loop that does so.
//!
//! benches/README.md says what is measured and how to read it.
#![forbid(unsafe_code)]

mod bench;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod common;
mod options;
mod rows;

use anyhow::Result;
use bench::Bench;
use common::table::{Table, write_csv};
use common::{load, machine, rate, scratch};
use options::Options;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((word, rest)) if word == load::WORD => load::main(rest),
        // `cargo test --benches` only wants to know that it starts.
        _ if arguments.iter().any(|word| word == "--test")
            || !arguments.iter().any(|word| word == "--bench") =>
        {
            println!("nothing measured: run it with `cargo bench`");
            Ok(())
        }
        _ => measure(&Options::from_command_line()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let doorward = Path::new(env!("CARGO_BIN_EXE_doorward"));
    scratch::clean_up_on_signals()?;
    let scratch = scratch::Scratch::create()?;
    let bench = Bench::prepare(options, &scratch, doorward)?;
    let plan = options.plan();

    println!("Machine: {}\n", machine::describe(doorward));
    let measured = rate::measure(&plan, bench.rows.len(), |row| bench.start(row));
    let table = Table {
        plan: &plan,
        names: bench.rows.iter().map(|row| row.name.as_str()).collect(),
        beside: &[("x floor", rows::FLOOR), ("x direct", rows::DIRECT)],
        measured: &measured,
    };
    table.print();
    write_csv("handoff-rate.csv", &table.csv()?)
}
