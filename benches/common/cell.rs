//! What a load came to, as values: one slice of it, the cell that several slices make up, and what went wrong.
#![forbid(unsafe_code)]

use super::stats::quantile;
use anyhow::{Context, Result};
use std::fmt;
use std::str::FromStr;

/// What went wrong, counted by kind. A cell with any of them says nothing about speed.
#[derive(Clone, Copy, Default)]
pub struct Errors {
    pub refused: u64,
    pub again: u64,
    pub reset: u64,
    pub short: u64,
    pub other: u64,
}

impl Errors {
    pub fn total(&self) -> u64 {
        self.refused + self.again + self.reset + self.short + self.other
    }

    pub fn add(&mut self, more: &Errors) {
        self.refused += more.refused;
        self.again += more.again;
        self.reset += more.reset;
        self.short += more.short;
        self.other += more.other;
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            refused,
            again,
            reset,
            short,
            other,
        } = self;
        write!(
            f,
            "refused={refused} again={again} reset={reset} short={short} other={other}"
        )
    }
}

/// One server under one load for one short stretch of time.
pub struct Slice {
    /// From the first start to the last answer, as the clients saw them.
    pub seconds: f64,
    /// Of the connections that were answered rightly, from connect to end of file, in microseconds.
    pub latencies: Vec<f64>,
    pub errors: Errors,
}

/// One line of `key=value`, which `FromStr` reads back: the load generator is a process of its own.
impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seconds={} {} latencies=", self.seconds, self.errors)?;
        for latency in &self.latencies {
            write!(f, "{latency:.1},")?;
        }
        Ok(())
    }
}

impl FromStr for Slice {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let value = |key: &str| {
            let mut pairs = line
                .split_whitespace()
                .filter_map(|word| word.split_once('='));
            let found = pairs.find(|(name, _)| *name == key);
            found
                .map(|(_, text)| text)
                .with_context(|| format!("no {key}"))
        };
        let count = |key: &str| -> Result<u64> { Ok(value(key)?.parse()?) };
        let latencies = value("latencies")?.split_terminator(',').map(str::parse);
        Ok(Self {
            seconds: value("seconds")?.parse()?,
            latencies: latencies.collect::<Result<_, _>>()?,
            errors: Errors {
                refused: count("refused")?,
                again: count("again")?,
                reset: count("reset")?,
                short: count("short")?,
                other: count("other")?,
            },
        })
    }
}

/// What one row came to with one number of clients in one round.
#[derive(Clone, Copy)]
pub struct Cell {
    /// Connections that were answered rightly.
    pub connections: u64,
    /// The slices' together, without the time between them.
    pub seconds: f64,
    /// Over all connections of all slices.
    pub median_us: f64,
    pub p99_us: f64,
    pub errors: Errors,
}

impl Cell {
    /// The sum of some slices.
    pub fn of(slices: &[Slice]) -> Self {
        let mut latencies: Vec<f64> = slices
            .iter()
            .flat_map(|slice| slice.latencies.iter().copied())
            .collect();
        latencies.sort_by(f64::total_cmp);
        let mut errors = Errors::default();
        for slice in slices {
            errors.add(&slice.errors);
        }
        Self {
            connections: latencies.len() as u64,
            seconds: slices.iter().map(|slice| slice.seconds).sum(),
            median_us: quantile(&latencies, 0.5),
            p99_us: quantile(&latencies, 0.99),
            errors,
        }
    }

    /// Connections per second.
    pub fn rate(&self) -> f64 {
        self.connections as f64 / self.seconds
    }
}
