//! The rows: who is measured, how each is started, and what is missing here.
#![forbid(unsafe_code)]

use super::common::load::{self, Cell};
use super::common::machine::find_program;
use super::common::parts::Parts;
use super::common::scratch::Scratch;
use super::common::server::Server;
use super::common::systemd::Systemd;
use super::options::Options;
use anyhow::{Context, Result, bail};
use nix::unistd::{Pid, geteuid};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The names that ratios and other parts refer to.
pub const FLOOR: &str = "floor, 4 threads";
pub const S6: &str = "s6-ipcserver";
pub const DOORWARD: &str = "doorward spawn";

/// One row of the table.
pub struct Peer {
    pub name: String,
    start: Start,
}

enum Start {
    /// A command that listens on the socket that it names.
    Process(Vec<OsString>),
    /// The text of a socket unit's section and of its service, under the systemd of the bench.
    Units {
        socket: String,
        service: String,
        template: bool,
    },
}

/// All that is prepared once for a run.
pub struct Bench<'a> {
    pub options: &'a Options,
    pub peers: Vec<Peer>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
    scratch: &'a Scratch,
    parts: &'a Parts,
    doorward: &'a Path,
    program: PathBuf,
    systemd: Option<(Systemd, PathBuf)>,
}

/// A started row: gone again on drop.
pub struct Running<'a> {
    socket: PathBuf,
    program: &'a Path,
    wrapper: Vec<String>,
    server: Result<Server, (&'a Systemd, &'static str)>,
}

/// The packages of Debian that hold the neighbours.
const PACKAGES: [&str; 4] = ["s6", "ucspi-unix", "socat", "systemd"];
const UNIT: &str = "doorward-bench.socket";

/// Installs the neighbours.
pub fn install() -> Result<()> {
    if !geteuid().is_root() {
        bail!("--install needs root");
    }
    let status = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends"])
        .args(PACKAGES)
        .status()?;
    if !status.success() {
        bail!("apt-get: {status}");
    }
    Ok(())
}

impl<'a> Bench<'a> {
    pub fn prepare(
        options: &'a Options,
        scratch: &'a Scratch,
        parts: &'a Parts,
        doorward: &'a Path,
    ) -> Result<Self> {
        let program = std::env::current_exe().context("unable to find the load generator")?;
        let mut bench = Self {
            options,
            peers: Vec::new(),
            missing: Vec::new(),
            scratch,
            parts,
            doorward,
            program,
            systemd: None,
        };
        let rules = scratch.join("rules");
        write_rules(&rules)?;
        bench.add_processes(&rules);
        bench.add_units()?;
        Ok(bench)
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join("s")
    }

    fn add_processes(&mut self, rules: &Path) {
        let socket = self.socket().display().to_string();
        let child = self.parts.child.display().to_string();
        let rules = rules.display().to_string();
        let floor = self.parts.floor.display().to_string();
        self.add(FLOOR, &floor, "gcc", &[&socket, "4", &child, "7"]);
        self.add(
            "floor, 1 thread",
            &floor,
            "gcc",
            &[&socket, "1", &child, "7"],
        );

        // As many connections as s6-ipcserver is given below, every check of doorward's at work, and as quiet.
        let builds = [(DOORWARD.to_owned(), self.doorward.display().to_string())];
        let also = self.options.also.as_ref().map(|path| {
            (
                format!("also {}", path.display()),
                path.display().to_string(),
            )
        });
        for (name, program) in builds.into_iter().chain(also) {
            let limits = [
                "--max",
                "1000",
                "--max-per-user",
                "1000",
                "--rate",
                "1000000/1",
            ];
            let serve = ["spawn", "-q", "--bind", &socket];
            let prog = ["--", child.as_str(), "7"];
            let words = [&serve[..], &limits[..], &["--allow", "all"], &prog[..]].concat();
            self.add(&format!("{name} --allow"), &program, "doorward", &words);
            let words = [&serve[..], &limits[..], &["--rules", &rules], &prog[..]].concat();
            self.add(&format!("{name} --rules"), &program, "doorward", &words);
        }

        let serve = ["-q", "-c", "1000", "-C", "1000", &socket];
        self.add(
            S6,
            "s6-ipcserver",
            "s6",
            &[&serve[..], &[&child, "1"]].concat(),
        );
        let access = ["s6-ipcserver-access", "-v0", "-i", &rules, &child, "1"];
        self.add(
            "s6-ipcserver + access",
            "s6-ipcserver",
            "s6",
            &[&serve[..], &access[..]].concat(),
        );
        self.add(
            "unixserver",
            "unixserver",
            "ucspi-unix",
            &["-q", "-c", "1000", "-b", "1000", &socket, &child, "1"],
        );
        let listen = format!("UNIX-LISTEN:{socket},fork,backlog=1000");
        self.add(
            "socat fork",
            "socat",
            "socat",
            &[&listen, &format!("EXEC:{child} 1,nofork")],
        );
        let words = ["-a", "--inetd", "-l", &socket, &child, "1"];
        self.add(
            "systemd-socket-activate -a",
            "systemd-socket-activate",
            "systemd",
            &words,
        );
    }

    fn add(&mut self, name: &str, program: &str, package: &str, arguments: &[&str]) {
        if !self.options.selects(name) {
            return;
        }
        if program.contains('/') || find_program(program).is_some() {
            let command = std::iter::once(program)
                .chain(arguments.iter().copied())
                .map(OsString::from)
                .collect();
            self.peers.push(Peer {
                name: name.to_owned(),
                start: Start::Process(command),
            });
        } else {
            self.missing.push(format!("{name} (package {package})"));
        }
    }

    /// The rows that only a systemd can serve; it is booted here, once for all rounds.
    fn add_units(&mut self) -> Result<()> {
        let names = ["systemd Accept=yes", "doorward under systemd"];
        if !names.iter().any(|name| self.options.selects(name)) || !self.options.wants("rate") {
            return Ok(());
        }
        if let Some(obstacle) = Systemd::obstacle() {
            self.missing
                .extend(names.map(|name| format!("{name} ({obstacle})")));
            return Ok(());
        }
        let systemd = match Systemd::boot(self.scratch) {
            Ok(systemd) => systemd,
            Err(error) => {
                self.missing
                    .extend(names.map(|name| format!("{name} ({error:#})")));
                return Ok(());
            }
        };
        let child = systemd.place(&self.parts.child)?.display().to_string();
        let doorward = systemd.place(self.doorward)?.display().to_string();
        let program = systemd.place(&self.program)?;
        let accept_yes = Start::Units {
            socket: "Accept=yes\nMaxConnections=4096\nTriggerLimitIntervalSec=0".into(),
            service: format!("ExecStart={child} 1\nStandardInput=socket\nStandardOutput=socket"),
            template: true,
        };
        let limits = "--max 1000 --max-per-user 1000 --rate 1000000/1 --allow all";
        let accept_no = Start::Units {
            socket: "Accept=no".into(),
            service: format!(
                "Type=notify\nExecStart={doorward} spawn -q {limits} -- {child} 7\nTasksMax=8192"
            ),
            template: false,
        };
        for (name, start) in names.into_iter().zip([accept_yes, accept_no]) {
            if self.options.selects(name) {
                self.peers.push(Peer {
                    name: name.to_owned(),
                    start,
                });
            }
        }
        self.systemd = Some((systemd, program));
        Ok(())
    }

    /// Starts a row.
    pub fn start(&self, peer: &Peer) -> Result<Running<'_>> {
        match &peer.start {
            Start::Process(command) => self.start_process(command),
            Start::Units {
                socket,
                service,
                template,
            } => self.start_units(socket, service, *template),
        }
    }

    /// Starts `doorward spawn`, the floor or s6-ipcserver with children that can be held, for as many as `room`.
    pub fn start_holding(&self, name: &str, room: usize) -> Result<Running<'_>> {
        let socket = self.socket().display().to_string();
        let child = self.parts.child.display().to_string();
        let room = room.to_string();
        let command = match name {
            FLOOR => [self.parts.floor.display().to_string()]
                .into_iter()
                .chain(words(&[&socket, "4", &child, "7", "6"]))
                .collect(),
            S6 => words(&[
                "s6-ipcserver",
                "-q",
                "-c",
                &room,
                "-C",
                &room,
                &socket,
                &child,
                "1",
                "0",
            ]),
            _ => {
                let options = [
                    "spawn",
                    "-q",
                    "--bind",
                    &socket,
                    "--allow",
                    "all",
                    "--max",
                    &room,
                    "--max-per-user",
                    &room,
                ];
                let prog = ["--", child.as_str(), "7", "6"];
                [self.doorward.display().to_string()]
                    .into_iter()
                    .chain(words(&[&options[..], &prog[..]].concat()))
                    .collect::<Vec<_>>()
            }
        };
        self.start_process(&command.into_iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn start_process(&self, command: &[OsString]) -> Result<Running<'_>> {
        let socket = self.socket();
        // What the server before left: some remove their socket, others do not.
        let _ = fs::remove_file(&socket);
        let mut server = Server::start(self.scratch, command)?;
        server.wait_for_socket(&socket)?;
        Ok(Running {
            socket,
            program: &self.program,
            wrapper: Vec::new(),
            server: Ok(server),
        })
    }

    fn start_units(&self, socket: &str, service: &str, template: bool) -> Result<Running<'_>> {
        let (systemd, program) = self.systemd.as_ref().context("no systemd")?;
        let path = PathBuf::from("/run/bench/s");
        let listen = format!(
            "[Socket]\nListenStream={}\n{socket}\nRemoveOnStop=yes\n",
            path.display()
        );
        systemd.write_unit(UNIT, &listen)?;
        let name = if template {
            "doorward-bench@.service"
        } else {
            "doorward-bench.service"
        };
        systemd.write_unit(
            name,
            &format!("[Unit]\nCollectMode=inactive-or-failed\n[Service]\n{service}\n"),
        )?;
        systemd.reload()?;
        systemd.systemctl(&["start", UNIT])?;
        let service = if template {
            "doorward-bench@*.service"
        } else {
            "doorward-bench.service"
        };
        Ok(Running {
            socket: path,
            program,
            wrapper: systemd.wrapper(),
            server: Err((systemd, service)),
        })
    }
}

impl Running<'_> {
    /// Measures one cell.
    pub fn load(&mut self, clients: usize, seconds: f64) -> Result<Cell> {
        let cell = load::run(&self.wrapper, self.program, &self.socket, clients, seconds);
        cell.with_context(|| {
            self.server
                .as_ref()
                .map_or_else(|_| String::new(), |server| server.last_words())
        })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref().ok()
    }

    pub fn pid(&self) -> Result<Pid> {
        Ok(self.server().context("no process of ours")?.pid())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Err((systemd, service)) = &self.server {
            let _ = systemd.systemctl(&["stop", UNIT, service]);
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Ten entries in the format of the s6 accessrules; ours is found at the second place that is looked at, `uid/N`.
fn write_rules(directory: &Path) -> Result<()> {
    let user = geteuid();
    let others = (0..6).map(|other| format!("uid/{}", 4_000_000 + other));
    let groups = (0..2).map(|other| format!("gid/{}", 4_000_000 + other));
    for entry in others.chain(groups).chain([format!("uid/{user}")]) {
        fs::create_dir_all(directory.join(&entry))?;
        fs::write(directory.join(&entry).join("allow"), "")?;
    }
    fs::create_dir_all(directory.join("uid/default"))?;
    Ok(fs::write(directory.join("uid/default/deny"), "")?)
}
