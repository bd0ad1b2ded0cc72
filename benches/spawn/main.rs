//! `cargo bench --bench spawn`: one child per connection, doorward beside its neighbours and the floor.
//!
//! benches/README.md says what is measured and how to read it.
#![forbid(unsafe_code)]

mod bench;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod common;
mod crowd;
mod held;
mod idle;
mod options;
mod peers;
mod report;
mod rules;
mod units;

use anyhow::Result;
use bench::Bench;
use common::page::Page;
use common::{entry, limits, machine, parts::Parts, rate, scratch};
use options::Options;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    entry::run(&[], || measure(&Options::from_command_line()))
}

fn measure(options: &Options) -> Result<()> {
    let doorward = Path::new(env!("CARGO_BIN_EXE_doorward"));
    scratch::clean_up_on_signals()?;
    let scratch = scratch::Scratch::create()?;
    let parts = Parts::build(&scratch)?;
    limits::raise_descriptors()?;
    let mut page = Page::new("spawn");
    let bench = Bench::prepare(options, &scratch, &parts, doorward, &mut page)?;

    println!("Machine: {}\n", machine::describe(doorward));
    if options.wants("rate") {
        let plan = options.shared.plan();
        let rounds = rate::measure(&plan, bench.peers.len(), |row| bench.start_row(row));
        report::rate(&bench, &rounds, &mut page)?;
    }
    if options.wants("rules") {
        rules::measure(&bench, &mut page)?;
    }
    if options.wants("held") {
        let rounds = held::measure(&bench, &mut page)?;
        report::held(&rounds, &mut page)?;
    }
    if options.wants("crowd") {
        crowd::check(&bench, &mut page)?;
    }
    if options.wants("memory") {
        let rounds = idle::measure(&bench, &mut page);
        report::idle(&rounds, &mut page)?;
    }
    page.finish()
}
