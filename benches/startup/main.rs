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
use common::parts::Parts;
use common::stats::Shuffle;
use common::{entry, machine, programs, rules, scratch};
use links::{Link, Places};
use options::Options;
use run::{Given, Harness};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    entry::run(&[], || measure(&Options::from_command_line()))
}

/// One link in one round.
struct Measured {
    round: usize,
    link: String,
    /// Microseconds of each run, sorted.
    times: Vec<f64>,
}

fn measure(options: &Options) -> Result<()> {
    let doorward = Path::new(env!("CARGO_BIN_EXE_doorward"));
    scratch::clean_up_on_signals()?;
    let scratch = scratch::Scratch::create()?;
    let parts = Parts::build(&scratch)?;
    let [directory, socket] = ["rules", "s"].map(|name| scratch.join(name));
    rules::write_directory(&directory)?;
    let mut page = Page::new("startup");
    let mut links = links::all(&Places {
        socket: &socket,
        rules: &directory,
        child: &parts.child,
        doorward,
        also: &options.shared.also,
    });
    links.retain(|link| can_start(link, options, &mut page));

    println!("Machine: {}\n", machine::describe(doorward));
    let harness = Harness::at(&socket)?;
    let mut measured = Vec::new();
    let mut failed = Vec::new();
    for round in 0..options.shared.rounds {
        eprint!("\rstart-up: round {}/{} ", round + 1, options.shared.rounds);
        for (link, outcome) in links
            .iter()
            .zip(measure_round(&harness, &links, options.runs)?)
        {
            let link = link.name.clone();
            match outcome {
                Ok(times) => measured.push(Measured { round, link, times }),
                Err(error) => {
                    page.miss(format!("{link}: {error:#}"));
                    failed.push(link);
                }
            }
        }
        links.retain(|link| !failed.contains(&link.name));
    }
    eprintln!();
    report::add_to(&mut page, &links, &measured, options).context("unable to report")?;
    page.finish()
}

/// Each link once, again and again in turn: what else the machine does meets all alike. One that fails is given up.
fn measure_round(harness: &Harness, links: &[Link], runs: usize) -> Result<Vec<Result<Vec<f64>>>> {
    let given = links.iter().map(|link| harness.prepare(link));
    let given = given.collect::<Result<Vec<Given>>>()?;
    let mut outcomes: Vec<Result<Vec<f64>>> = links.iter().map(|_| Ok(Vec::new())).collect();
    let mut shuffle = Shuffle::new();
    for run in 0..=runs {
        for number in shuffle.order(links.len()) {
            let (Some(link), Some(given)) = (links.get(number), given.get(number)) else {
                continue;
            };
            let Some(Ok(times)) = outcomes.get_mut(number) else {
                continue;
            };
            match harness.time(link, given) {
                // The first brings the program into memory.
                Ok(_) if run == 0 => {}
                Ok(time) => times.push(time),
                Err(error) => outcomes[number] = Err(error),
            }
        }
    }
    for times in outcomes.iter_mut().flatten() {
        times.sort_by(f64::total_cmp);
    }
    Ok(outcomes)
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
