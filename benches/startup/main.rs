//! `cargo bench --bench startup`: what a link of a chain costs as a whole process, beside its relative of s6.
//!
//! benches/README.md says what is measured and how to read it.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "shared with benchmarks that use more of it")]
mod common;
mod links;
mod options;
mod report;
mod run;

use anyhow::{Context, Result};
use common::page::Page;
use common::parts::{Parts, write_rules};
use common::stats::Shuffle;
use common::{entry, machine, programs, scratch};
use links::{Link, Places};
use options::Options;
use run::Harness;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    entry::run(&[], || measure(&Options::from_command_line()))
}

/// One link in one round.
struct Measured {
    round: usize,
    /// Index of the link.
    link: usize,
    /// Of each run, sorted.
    microseconds: Vec<f64>,
}

fn measure(options: &Options) -> Result<()> {
    let doorward = Path::new(env!("CARGO_BIN_EXE_doorward"));
    scratch::clean_up_on_signals()?;
    let scratch = scratch::Scratch::create()?;
    let parts = Parts::build(&scratch)?;
    let [rules, socket] = ["rules", "s"].map(|name| scratch.join(name));
    write_rules(&rules)?;
    let mut page = Page::new("startup");
    let mut links = links::all(&Places {
        socket: &socket,
        rules: &rules,
        child: &parts.child,
        doorward,
        also: &options.shared.also,
    });
    links.retain(|link| can_start(link, options, &mut page));

    println!("Machine: {}\n", machine::describe(doorward));
    let mut harness = Harness::at(&socket)?;
    let mut shuffle = Shuffle::new();
    let mut measured = Vec::new();
    let mut failed = vec![false; links.len()];
    for round in 0..options.shared.rounds {
        eprint!("\rstart-up: round {}/{} ", round + 1, options.shared.rounds);
        for number in shuffle.order(links.len()) {
            let (Some(link), Some(failed)) = (links.get(number), failed.get_mut(number)) else {
                continue;
            };
            if *failed {
                continue;
            }
            match harness.time(link, options.runs) {
                Ok(microseconds) => measured.push(Measured {
                    round,
                    link: number,
                    microseconds,
                }),
                Err(error) => {
                    page.miss(format!("{}: {error:#}", link.name));
                    *failed = true;
                }
            }
        }
    }
    eprintln!();
    measured.sort_by_key(|one| (one.round, one.link));
    report::add_to(&mut page, &links, &measured, options).context("unable to report")?;
    page.finish()
}

fn can_start(link: &Link, options: &Options, page: &mut Page) -> bool {
    if !options.shared.selects(&link.name) {
        return false;
    }
    let Some(program) = link.command.first() else {
        return false;
    };
    if programs::find(program).is_none() {
        page.miss(format!("{}: not installed (package s6)", link.name));
        return false;
    }
    if let Some(command) = link.needs_command
        && !programs::has_command(Path::new(program), command)
    {
        page.miss(format!("{}: this doorward has no {command}", link.name));
        return false;
    }
    true
}
