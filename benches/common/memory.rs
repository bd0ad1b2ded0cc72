//! What a process holds in memory, as the kernel counts it.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use nix::unistd::Pid;
use std::fs;

/// In kibibytes.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Resident set, shared pages counted whole.
    pub rss: u64,
    /// Proportional set: a page that N processes share counts 1/N.
    pub pss: u64,
}

impl Memory {
    /// Of one process, without its children.
    pub fn of(process: Pid) -> Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
            .context("unable to read smaps_rollup")?;
        Ok(Self {
            rss: field(&rollup, "Rss:")?,
            pss: field(&rollup, "Pss:")?,
        })
    }
}

fn field(rollup: &str, name: &str) -> Result<u64> {
    let line = rollup.lines().find(|line| line.starts_with(name));
    let figure = line
        .and_then(|line| line.split_whitespace().nth(1))
        .with_context(|| format!("no {name} in smaps_rollup"))?;
    Ok(figure.parse()?)
}
