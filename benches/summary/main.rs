//! `cargo bench --bench summary`: what the other benchmarks left in target/bench, as one page and one plot.
//!
//! Writes bench.md and bench.svg beside what it reads.
#![forbid(unsafe_code)]

mod chart;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod common;
mod label;
mod panels;
mod rows;
mod svg;

use anyhow::Result;
use common::{entry, machine, results};
use std::path::Path;
use std::process::ExitCode;

/// In the order of the page. Who adds a benchmark adds it here and to benches/run.
const BENCHMARKS: [&str; 4] = ["spawn", "handoff", "startup", "relay"];

fn main() -> ExitCode {
    entry::run(&[], summarize)
}

fn summarize() -> Result<()> {
    let machine = machine::describe(Path::new(env!("CARGO_BIN_EXE_doorward")));
    let missing = missing();
    let mut page = "# What doorward costs\n\n".to_owned();
    for name in BENCHMARKS {
        if let Some(tables) = results::read(&format!("{name}.md")) {
            page += &format!("## {name}\n\n{tables}");
        }
    }
    page += &format!("## Machine\n\n{machine}\n");
    if !missing.is_empty() {
        page += &format!("\n## Not measured\n\n{}", missing);
    }
    results::write("bench.md", &page)?;
    results::write("bench.svg", &svg::page(&panels::all(), &machine))?;
    println!("Machine: {machine}\n");
    if !missing.is_empty() {
        println!("Not measured:\n{missing}");
    }
    for name in ["bench.md", "bench.svg"] {
        println!("{}", results::path(name).display());
    }
    Ok(())
}

/// One line for each thing that could not be measured, and why.
fn missing() -> String {
    let mut lines = String::new();
    for name in BENCHMARKS {
        match results::read(&format!("{name}.missing")) {
            Some(missing) => {
                for what in missing.lines() {
                    lines += &format!("- {name}: {what}\n");
                }
            }
            None => lines += &format!("- {name}: it did not run to its end, or is not there\n"),
        }
    }
    lines
}
