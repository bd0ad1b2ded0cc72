//! A server under test: started for one cell or a few, ended by its pid.
#![forbid(unsafe_code)]

use super::scratch::{Scratch, forget_server, remember_server};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to end by SIGTERM before it is killed, and its children to end by themselves.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running server, with what it says on stderr kept in a file.
pub struct Server {
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`; its descriptors 0 and 1 are /dev/null. Dropped it gets SIGTERM, and SIGKILL if that does not
    /// help; and SIGKILL when this process dies, however it does.
    pub fn start(scratch: &Scratch, command: &[String]) -> Result<Self> {
        let (program, arguments) = command.split_first().context("no command")?;
        // One server runs at a time.
        let log = scratch.join("log");
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("unable to run setpriv (package util-linux)")?;
        let server = Self { process, log };
        remember_server(server.pid());
        Ok(server)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Waits until there is a socket at `path`. (Whether it answers is for the load generator to find out.)
    /// # Errors
    /// The server has ended, or there is none after 5 s.
    pub fn wait_for_socket(&mut self, path: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !path.exists() {
            if !self.alive() {
                bail!("it has ended: {}", self.last_words());
            }
            if Instant::now() > deadline {
                bail!("it has made no socket: {}", self.last_words());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The end of what it wrote to stderr, for a message of ours.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .rev()
            .take(3)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join(" / ")
    }

    /// How many children it has.
    pub fn children(&self) -> usize {
        children_of(self.pid()).len()
    }

    /// Waits until its children have ended, as those of held connections do once the client is gone; at most 5 s.
    pub fn wait_for_children(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.children() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        forget_server(self.pid());
        let _ = kill(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while self.alive() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The processes whose parent is `parent`. (/proc/PID/task/TID/children would be cheaper, where the kernel has it.)
fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| child_of(parent, &entry.path()))
        .collect()
}

/// The fourth field of /proc/PID/stat; the second, the name, may hold anything and ends with the last parenthesis.
fn child_of(parent: Pid, process: &Path) -> Option<Pid> {
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let its_parent = after_name.split_whitespace().nth(1)?.parse().ok()?;
    (Pid::from_raw(its_parent) == parent).then_some(Pid::from_raw(pid))
}
