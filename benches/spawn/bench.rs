//! What is prepared once for a run, and the starting of its rows.
#![forbid(unsafe_code)]

use super::common::load::{self, Cell};
use super::common::page::Page;
use super::common::parts::Parts;
use super::common::programs;
use super::common::rate;
use super::common::rules;
use super::common::scratch::Scratch;
use super::common::server::Server;
use super::common::systemd::Systemd;
use super::options::Options;
use super::peers::{self, Peer, Places, Start, Units};
use anyhow::{Context, Result};
use nix::unistd::Pid;
use std::fs;
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
    socket: PathBuf,
    rules: PathBuf,
    database: PathBuf,
    inside: Option<Inside>,
}

/// A systemd, and where in it the load generator is.
struct Inside {
    systemd: Systemd,
    generator: PathBuf,
}

const SOCKET_UNIT: &str = "doorward-bench.socket";
/// The socket of a unit, as seen inside.
const UNIT_PATH: &str = "/run/bench/s";

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
            socket: scratch.join("s"),
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
        let selected = peers::UNITS.iter().any(|name| options.shared.selects(name));
        if options.wants("rate") && selected {
            bench.add_units(page);
        }
        Ok(bench)
    }

    pub fn places(&self) -> Places<'_> {
        Places {
            socket: &self.socket,
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
                for name in peers::UNITS {
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
        self.inside = Some(Inside { systemd, generator });
        Ok(peers::units(&doorward, &child))
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
        // What the server before left: some remove their socket, others do not.
        let _ = fs::remove_file(&self.socket);
        let mut server = Server::start(self.scratch, command)?;
        server.wait_for_socket(&self.socket)?;
        Ok(Running {
            socket: &self.socket,
            generator: &self.generator,
            wrapper: Vec::new(),
            by: By::Us(server),
        })
    }

    fn start_units(&self, units: &Units) -> Result<Running<'_>> {
        let Inside { systemd, generator } = self.inside.as_ref().context("no systemd")?;
        let socket = format!(
            "[Socket]\nListenStream={UNIT_PATH}\nRemoveOnStop=yes\n{}\n",
            units.socket
        );
        systemd.write_unit(SOCKET_UNIT, &socket)?;
        let service = if units.template {
            "doorward-bench@.service"
        } else {
            "doorward-bench.service"
        };
        let text = format!(
            "[Unit]\nCollectMode=inactive-or-failed\n[Service]\n{}\n",
            units.service
        );
        systemd.write_unit(service, &text)?;
        systemd.reload()?;
        systemd.systemctl(&["start", SOCKET_UNIT])?;
        let by = By::Systemd {
            systemd,
            services: service.replace('@', "@*"),
        };
        Ok(Running {
            socket: Path::new(UNIT_PATH),
            generator,
            wrapper: systemd.wrapper(),
            by,
        })
    }
}

/// A started row; ended on drop.
pub struct Running<'a> {
    socket: &'a Path,
    generator: &'a Path,
    wrapper: Vec<String>,
    by: By<'a>,
}

/// Who runs it.
enum By<'a> {
    Us(Server),
    Systemd {
        systemd: &'a Systemd,
        services: String,
    },
}

impl rate::Running for Running<'_> {
    fn load(&mut self, clients: usize, seconds: f64) -> Result<Cell> {
        let cell = load::run(&self.wrapper, self.generator, self.socket, clients, seconds);
        cell.with_context(|| match &self.by {
            By::Us(server) => format!("its last words: {:?}", server.last_words()),
            By::Systemd { .. } => "under systemd".to_owned(),
        })
    }
}

impl Running<'_> {
    pub fn socket(&self) -> &Path {
        self.socket
    }

    /// Waits until the children of closed connections have ended.
    pub fn wait_for_children(&self) {
        if let By::Us(server) = &self.by {
            server.wait_for_children();
        }
    }

    /// How many children it has.
    /// # Errors
    /// A systemd runs it.
    pub fn children(&self) -> Result<usize> {
        match &self.by {
            By::Us(server) => Ok(server.children()),
            By::Systemd { .. } => anyhow::bail!("no process of ours"),
        }
    }

    /// # Errors
    /// A systemd runs it.
    pub fn pid(&self) -> Result<Pid> {
        match &self.by {
            By::Us(server) => Ok(server.pid()),
            By::Systemd { .. } => anyhow::bail!("no process of ours"),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let By::Systemd { systemd, services } = &self.by {
            let _ = systemd.systemctl(&["stop", SOCKET_UNIT, services]);
        }
    }
}
