//! What is prepared once for a run, and the starting of its rows.
#![forbid(unsafe_code)]

use super::common::cell::Slice;
use super::common::generator::Generator;
use super::common::loaded::Loaded;
use super::common::page::Page;
use super::common::parts::Parts;
use super::common::programs;
use super::common::rate;
use super::common::rules;
use super::common::scratch::Scratch;
use super::common::server::Server;
use super::common::systemd::Systemd;
use super::options::Options;
use super::peers::{self, Peer, Places, Start};
use super::units::{self, Units};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// All that is prepared once for a run.
pub struct Bench<'a> {
    pub options: &'a Options,
    pub peers: Vec<Peer>,
    pub scratch: &'a Scratch,
    parts: &'a Parts,
    doorward: &'a Path,
    /// The load generator: this very program.
    generator: PathBuf,
    rules: PathBuf,
    database: PathBuf,
    inside: Option<Inside>,
}

/// A systemd, and where in it the load generator is.
struct Inside {
    systemd: Systemd,
    generator: PathBuf,
}

impl<'a> Bench<'a> {
    /// Finds out which rows can be measured here, and boots a systemd for those that need it.
    pub fn prepare(
        options: &'a Options,
        scratch: &'a Scratch,
        parts: &'a Parts,
        doorward: &'a Path,
        page: &mut Page,
    ) -> Result<Self> {
        let mut bench = Self {
            options,
            peers: Vec::new(),
            scratch,
            parts,
            doorward,
            generator: std::env::current_exe().context("unable to find the load generator")?,
            rules: scratch.join("rules"),
            database: scratch.join("rules.cdb"),
            inside: None,
        };
        rules::write_directory(&bench.rules)?;
        rules::write_database(&bench.database)?;
        for peer in peers::processes(&bench.places()) {
            if bench.can_start(&peer, page) {
                bench.peers.push(peer);
            }
        }
        let selected = units::NAMES.iter().any(|name| options.shared.selects(name));
        if options.wants("rate") && selected {
            bench.add_units(page);
        }
        Ok(bench)
    }

    pub fn places(&self) -> Places<'_> {
        Places {
            rules: &self.rules,
            database: &self.database,
            parts: self.parts,
            doorward: self.doorward,
            also: &self.options.shared.also,
        }
    }

    /// Whether a row is selected and its programs are there.
    pub fn can_start(&self, peer: &Peer, page: &mut Page) -> bool {
        if !self.options.shared.selects(&peer.name) {
            return false;
        }
        if let Some(command) = peer.needs_command
            && !programs::has_command(self.doorward, command)
        {
            page.miss(format!("{}: this doorward has no {command}", peer.name));
            return false;
        }
        let Start::Process(command) = &peer.start else {
            return true;
        };
        let found = command.first().and_then(|program| programs::find(program));
        if found.is_none() {
            page.miss(format!(
                "{}: not installed (package {})",
                peer.name, peer.package
            ));
        }
        found.is_some()
    }

    fn add_units(&mut self, page: &mut Page) {
        let prepared = match Systemd::obstacle() {
            Some(obstacle) => Err(obstacle.to_owned()),
            None => self.boot().map_err(|error| format!("{error:#}")),
        };
        match prepared {
            Ok(rows) => {
                let selected = rows
                    .into_iter()
                    .filter(|peer| self.options.shared.selects(&peer.name));
                self.peers.extend(selected);
            }
            Err(why) => {
                for name in units::NAMES {
                    page.miss(format!("{name}: {why}"));
                }
            }
        }
    }

    fn boot(&mut self) -> Result<Vec<Peer>> {
        let systemd = Systemd::boot()?;
        let child = systemd.place(&self.parts.child)?;
        let doorward = systemd.place(self.doorward)?;
        let generator = systemd.place(&self.generator)?;
        let rows = units::rows(&doorward, &child);
        for row in &rows {
            if let Start::Units(units) = &row.start {
                systemd.write_unit(&units.socket_name(), &units.socket())?;
                systemd.write_unit(&units.service_name(), &units.service())?;
            }
        }
        systemd.reload()?;
        self.inside = Some(Inside { systemd, generator });
        Ok(rows)
    }

    /// Starts a row, by its index.
    pub fn start_row(&self, row: usize) -> Result<Running<'_>> {
        self.start(self.peers.get(row).context("no such row")?)
    }

    /// Starts a row.
    pub fn start(&self, peer: &Peer) -> Result<Running<'_>> {
        match &peer.start {
            Start::Process(command) => self.start_process(command),
            Start::Units(units) => self.start_units(units),
        }
    }

    /// Starts one of the servers that `peers::holding` knows, for `room` connections.
    pub fn start_holding(&self, name: &str, room: usize) -> Result<Running<'_>> {
        self.start_process(&peers::holding(name, room, &self.places()))
    }

    fn start_process(&self, command: &[String]) -> Result<Running<'_>> {
        let loaded = Loaded::start(self.scratch, &self.generator, command)?;
        Ok(Running::Process(loaded))
    }

    fn start_units(&self, units: &Units) -> Result<Running<'_>> {
        let Inside { systemd, generator } = self.inside.as_ref().context("no systemd")?;
        systemd.systemctl(&["start", &units.socket_name()])?;
        let generator = Generator::start(&systemd.wrapper(), generator, &units.path())?;
        Ok(Running::Units(UnderSystemd {
            generator,
            systemd,
            names: [units.socket_name(), units.services()],
        }))
    }
}

/// A started row; ended on drop.
pub enum Running<'a> {
    Process(Loaded),
    Units(UnderSystemd<'a>),
}

impl rate::Running for Running<'_> {
    fn load(&mut self, clients: usize, seconds: f64) -> Result<Slice> {
        match self {
            Self::Process(loaded) => loaded.load(clients, seconds),
            Self::Units(units) => {
                let slice = units.generator.load(clients, seconds);
                slice.context("under systemd")
            }
        }
    }
}

impl Running<'_> {
    /// A row that is a process of ours.
    /// # Errors
    /// A systemd runs it.
    pub fn server(&self) -> Result<&Server> {
        match self {
            Self::Process(loaded) => Ok(&loaded.server),
            Self::Units(_) => bail!("no process of ours"),
        }
    }
}

/// A row that a systemd runs.
pub struct UnderSystemd<'a> {
    generator: Generator,
    systemd: &'a Systemd,
    /// To be stopped.
    names: [String; 2],
}

impl Drop for UnderSystemd<'_> {
    fn drop(&mut self) {
        let [socket, services] = self.names.each_ref().map(String::as_str);
        let _ = self.systemd.systemctl(&["stop", socket, services]);
    }
}
