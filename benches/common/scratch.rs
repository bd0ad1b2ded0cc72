//! The temporary directory of a run, and what must not outlive the run: it and the servers.
//!
//! Three nets, each for what the one before cannot catch: `Drop` (a return, an error, a panic), a thread that
//! waits for SIGINT, SIGTERM and SIGHUP, and `setpriv --pdeathsig` for the servers (our own SIGKILL).
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, mkdtemp};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

static LEFTOVERS: Mutex<Leftovers> = Mutex::new(Leftovers {
    servers: Vec::new(),
    directories: Vec::new(),
});

struct Leftovers {
    servers: Vec<Pid>,
    directories: Vec<PathBuf>,
}

fn leftovers() -> MutexGuard<'static, Leftovers> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory with a short path (a socket's is limited to 107 bytes), removed with all in it on drop.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn create() -> Result<Self> {
        let path = mkdtemp(&std::env::temp_dir().join("dwbench-XXXXXX"))
            .context("unable to make a temporary directory")?;
        leftovers().directories.push(path.clone());
        Ok(Self(path))
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        leftovers()
            .directories
            .retain(|directory| *directory != self.0);
    }
}

/// Ends `server` by SIGKILL if the run is interrupted, until `forget_server`.
pub fn remember_server(server: Pid) {
    leftovers().servers.push(server);
}

/// To be called before the server is reaped: afterwards its number may be another's.
pub fn forget_server(server: Pid) {
    leftovers()
        .servers
        .retain(|remembered| *remembered != server);
}

/// Starts the thread that cleans up when the run is interrupted. Call it before any other thread exists: each
/// inherits the mask that keeps these signals for this one. (So do processes: a server takes it off.)
pub fn clean_up_on_signals() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().context("unable to block signals")?;
    thread::Builder::new()
        .name("clean-up".into())
        .spawn(move || {
            let signal = signals.wait();
            let leftovers = leftovers();
            for server in &leftovers.servers {
                let _ = kill(*server, Signal::SIGKILL);
            }
            for directory in &leftovers.directories {
                let _ = fs::remove_dir_all(directory);
            }
            std::process::exit(signal.map_or(111, |signal| 128 + signal as i32));
        })?;
    Ok(())
}
