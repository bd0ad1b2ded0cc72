//! A server under test: started for one round or a part of it, ended by its pid.
#![forbid(unsafe_code)]

use super::programs::without_cargo_s;
use super::scratch::{Scratch, forget_server, remember_server};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to end by SIGTERM before it is killed, and its children to end by themselves.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stands in a command for the path of the socket: each start has one of its own, as several servers run at a time.
pub const SOCKET: &str = "@SOCKET@";

/// The word that makes the benchmark's own program become a server.
pub const WORD: &str = "become-server";

/// `become-server PROG [ARG...]`, with no signal blocked. In the benchmark some are, for the thread that waits for them, and
/// what it starts inherits that: SIGTERM would not end a server that leaves its signals alone.
pub fn main(arguments: &[String]) -> Result<()> {
    let (program, arguments) = arguments.split_first().context("no command")?;
    SigSet::empty().thread_set_mask()?;
    let error = without_cargo_s(Command::new(program).args(arguments)).exec();
    Err(error).with_context(|| format!("unable to run {program}"))
}

/// How many were started.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A running server, with what it says on stderr kept in a file.
pub struct Server {
    process: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, and waits until it has made its socket; its descriptors 0 and 1 are /dev/null. Dropped it gets
    /// SIGTERM, and SIGKILL if that does not help; and SIGKILL when this process dies, however it does.
    /// # Errors
    /// It cannot be started, has ended, or has made no socket after 5 s.
    pub fn start(scratch: &Scratch, command: &[String]) -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let [socket, log] = ["s", "log"].map(|name| scratch.join(format!("{name}{number}")));
        let path = socket.display().to_string();
        let words: Vec<String> = command
            .iter()
            .map(|word| word.replace(SOCKET, &path))
            .collect();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(std::env::current_exe().context("unable to find our own program")?)
            .arg(WORD)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("unable to run setpriv (package util-linux)")?;
        let mut server = Self {
            process,
            socket,
            log,
        };
        remember_server(server.pid());
        server.wait_for_socket()?;
        Ok(server)
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// (Whether it answers is for the load generator to find out.)
    fn wait_for_socket(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.socket.exists() {
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
        // Some remove their socket, others do not.
        for file in [&self.socket, &self.log] {
            let _ = fs::remove_file(file);
        }
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
