//! `cargo bench --bench summary`: what the other benchmarks left in target/bench, as one page and one plot.
//!
//! Writes bench.md and bench.svg beside what it reads.
#![forbid(unsafe_code)]

mod chart;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod common;
mod goals;
mod label;
mod panels;
mod rows;
mod svg;
mod verdict;

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
    let goals = goals();
    let mut page = format!("# What doorward costs\n\n{goals}\n\n");
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
    println!("{goals}\n");
    for name in ["bench.md", "bench.svg"] {
        println!("{}", results::path(name).display());
    }
    Ok(())
}

/// What the page begins with.
fn goals() -> String {
    let table = verdict::table();
    format!(
        "## What doorward wants to reach\n\nMeasured: medians of the rounds [quartiles], by the number of clients where there is one; ratios are those within the rounds. What is reached is said of the medians.\n\n{table}"
    )
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
