//! What is prepared once for a run, and the starting of its rows.
#![forbid(unsafe_code)]

use super::common::loaded::Loaded;
use super::common::parts::compile;
use super::common::rules;
use super::common::scratch::Scratch;
use super::options::Options;
use super::rows::{self, Places, Row};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// All that is prepared once for a run.
pub struct Bench<'a> {
    pub rows: Vec<Row>,
    scratch: &'a Scratch,
    /// The load generator, and the backend with the library: this very program.
    generator: PathBuf,
}

impl<'a> Bench<'a> {
    pub fn prepare(options: &Options, scratch: &'a Scratch, doorward: &Path) -> Result<Self> {
        let [rules, floor, backend] = ["rules", "floor", "backend"].map(|name| scratch.join(name));
        compile("handoff/floor.c", &[], &floor)?;
        compile("handoff/backend.c", &[], &backend)?;
        rules::write_directory(&rules)?;
        let generator = std::env::current_exe().context("unable to find the load generator")?;
        let mut rows = rows::all(&Places {
            rules: &rules,
            floor: &floor,
            backend: &backend,
            library: &generator,
            doorward,
            also: &options.shared.also,
        });
        rows.retain(|row| options.shared.selects(&row.name));
        Ok(Self {
            rows,
            scratch,
            generator,
        })
    }

    /// Starts a row, by its index.
    pub fn start(&self, row: usize) -> Result<Loaded> {
        let row = self.rows.get(row).context("no such row")?;
        Loaded::start(self.scratch, &self.generator, &row.command)
    }
}
