//! `cargo bench --bench spawn`: one child per connection, doorward beside its neighbours and the floor.
//!
//! benches/README.md says what is measured and how to read it.
#![forbid(unsafe_code)]

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod held;
mod idle;
mod options;
mod peers;
mod report;

use anyhow::Result;
use bench::Bench;
use common::{load, machine, parts::Parts, rate, scratch};
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
        _ => Options::from_command_line().and_then(|options| measure(&options)),
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
    if options.install {
        peers::install()?;
    }
    let parts = Parts::build(&scratch)?;
    let mut bench = Bench::prepare(options, &scratch, &parts, doorward)?;

    println!("Machine: {}\n", machine::describe(doorward));
    if options.wants("rate") {
        let rounds = rate::measure(&options.plan(), bench.peers.len(), |row| {
            bench.start_row(row)
        });
        report::rate(&bench, &rounds)?;
    }
    if options.wants("held") {
        let rounds = held::measure(&mut bench)?;
        report::held(&rounds)?;
    }
    if options.wants("memory") {
        let rounds = idle::measure(&mut bench);
        report::idle(&rounds)?;
    }
    report::not_measured(&bench);
    Ok(())
}
