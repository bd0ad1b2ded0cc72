//! `cargo bench --bench handoff`: connections handed to a long-lived backend, doorward beside the barest loop that does so.
//!
//! benches/README.md says what is measured and how to read it.
#![forbid(unsafe_code)]

mod backend;
mod bench;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod common;
mod options;
mod rows;

use anyhow::Result;
use bench::Bench;
use common::page::Page;
use common::table::{Table, write_csv};
use common::{entry, machine, rate, scratch};
use options::Options;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    entry::run(&[(backend::WORD, backend::main)], || {
        measure(&Options::from_command_line())
    })
}

fn measure(options: &Options) -> Result<()> {
    let doorward = Path::new(env!("CARGO_BIN_EXE_doorward"));
    scratch::clean_up_on_signals()?;
    let scratch = scratch::Scratch::create()?;
    let bench = Bench::prepare(options, &scratch, doorward)?;
    let plan = options.shared.plan();

    println!("Machine: {}\n", machine::describe(doorward));
    let measured = rate::measure(&plan, bench.rows.len(), |row| bench.start(row));
    let table = Table {
        plan: &plan,
        names: bench.rows.iter().map(|row| row.name.as_str()).collect(),
        beside: &[("x floor", rows::FLOOR), ("x direct", rows::DIRECT)],
        measured: &measured,
    };
    let mut page = Page::new("handoff");
    page.say("Connections handed to a backend that lives on.");
    table.add_to(&mut page);
    write_csv("handoff-rate.csv", &table.csv()?)?;
    page.finish()
}
