//! What is prepared once for a run, and the starting of its rows.
#![forbid(unsafe_code)]

use super::common::load::{self, Cell};
use super::common::parts::compile;
use super::common::rate;
use super::common::rules::write_directory;
use super::common::scratch::Scratch;
use super::common::server::Server;
use super::options::Options;
use super::rows::{self, Places, Row};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// All that is prepared once for a run.
pub struct Bench<'a> {
    pub rows: Vec<Row>,
    scratch: &'a Scratch,
    /// The load generator, and the backend with the library: this very program.
    generator: PathBuf,
    socket: PathBuf,
}

impl<'a> Bench<'a> {
    pub fn prepare(options: &Options, scratch: &'a Scratch, doorward: &Path) -> Result<Self> {
        let [socket, rules, floor, backend] =
            ["s", "rules", "floor", "backend"].map(|name| scratch.join(name));
        compile("handoff/floor.c", &[], &floor)?;
        compile("handoff/backend.c", &[], &backend)?;
        write_directory(&rules)?;
        let generator = std::env::current_exe().context("unable to find the load generator")?;
        let mut rows = rows::all(&Places {
            socket: &socket,
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
            socket,
        })
    }

    /// Starts a row, by its index.
    pub fn start(&self, row: usize) -> Result<Running<'_>> {
        let row = self.rows.get(row).context("no such row")?;
        // What the server before left: doorward removes its socket, the others do not.
        let _ = fs::remove_file(&self.socket);
        let mut server = Server::start(self.scratch, &row.command)?;
        server.wait_for_socket(&self.socket)?;
        Ok(Running {
            bench: self,
            server,
        })
    }
}

/// A started row; ended on drop.
pub struct Running<'a> {
    bench: &'a Bench<'a>,
    server: Server,
}

impl rate::Running for Running<'_> {
    fn load(&mut self, clients: usize, seconds: f64) -> Result<Cell> {
        let Bench {
            generator, socket, ..
        } = self.bench;
        load::run(&[], generator, socket, clients, seconds)
            .with_context(|| format!("its last words: {:?}", self.server.last_words()))
    }
}
