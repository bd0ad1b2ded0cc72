//! What the times say: a table for people, and startup.csv.
#![forbid(unsafe_code)]

use super::Measured;
use super::common::page::Page;
use super::common::stats::{Spread, quantile};
use super::common::table::{whole, write_csv};
use super::links::{Link, NONE};
use super::options::Options;
use anyhow::Result;
use std::fmt::Write;

/// Adds the table to `page`, and writes startup.csv.
pub fn add_to(
    page: &mut Page,
    links: &[Link],
    measured: &[Measured],
    options: &Options,
) -> Result<()> {
    page.say(&format!(
        "Links of a chain as whole processes, each of which becomes the smallest child: medians of {} rounds of {} runs [quartiles].",
        options.shared.rounds, options.runs
    ));
    let rows: Vec<Vec<String>> = links.iter().map(|link| row(link, measured)).collect();
    page.table(
        &["link", "us", "without the child", "x of", "s6's link"],
        &rows,
    );
    write_csv("startup.csv", &csv(links, measured)?)
}

fn row(link: &Link, measured: &[Measured]) -> Vec<String> {
    let rounds = medians(&link.name, measured);
    let versus = |other: &str, figure: fn(f64, f64) -> f64| {
        let others = medians(other, measured);
        let pairs = rounds.iter().filter_map(|(round, one)| {
            let (_, other) = others.iter().find(|(other, _)| other == round)?;
            Some(figure(*one, *other))
        });
        Spread::of(pairs.collect::<Vec<_>>())
    };
    vec![
        link.name.clone(),
        Spread::of(rounds.iter().map(|(_, median)| *median)).to_string(),
        whole(versus(NONE, |one, none| one - none).median),
        versus(link.beside, |one, other| one / other).ratio(),
        link.beside.to_owned(),
    ]
}

/// Of each round, with its number.
fn medians(link: &str, measured: &[Measured]) -> Vec<(usize, f64)> {
    measured
        .iter()
        .filter(|one| one.link == link)
        .map(|one| (one.round, quantile(&one.times, 0.5)))
        .collect()
}

fn csv(links: &[Link], measured: &[Measured]) -> Result<String> {
    let mut csv = "round,link,beside,runs,median_us,low_us,high_us\n".to_owned();
    for one in measured {
        let Some(link) = links.iter().find(|link| link.name == one.link) else {
            continue;
        };
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&one.times, share));
        writeln!(
            csv,
            "{},\"{}\",\"{}\",{},{median},{low},{high}",
            one.round,
            link.name,
            link.beside,
            one.times.len()
        )?;
    }
    Ok(csv)
}
