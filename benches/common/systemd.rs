//! A systemd of our own as process 1 of its namespaces, for what only systemd can be asked.
#![forbid(unsafe_code)]

use super::scratch::Scratch;
use super::server::{Server, children_of};
use anyhow::{Context, Result, bail};
use nix::unistd::{Pid, geteuid};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take to boot.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where its units and what we give it stand, as seen inside.
const UNITS: &str = "run/systemd/system";
const PLACE: &str = "/run/bench";

/// A running systemd; ended, with all that runs below it, on drop.
pub struct Systemd {
    first_process: Pid,
    // Fields are dropped in this order: the processes first, then the control group that they were in.
    _namespaces: Server,
    _control_group: ControlGroup,
}

impl Systemd {
    /// Why there can be none here, if so.
    pub fn obstacle() -> Option<&'static str> {
        if !geteuid().is_root() {
            Some("needs root")
        } else if !Path::new("/lib/systemd/systemd").exists() {
            Some("package systemd")
        } else {
            None
        }
    }

    /// Boots it to basic.target.
    pub fn boot(scratch: &Scratch) -> Result<Self> {
        let control_group = ControlGroup::named(format!("doorward-bench-{}", std::process::id()))?;
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/common/systemd-in-namespaces.sh");
        let command: [OsString; 2] = [script.into(), (&control_group.name).into()];
        // `unshare` ignores SIGTERM; killed, it takes its process 1 along, and that everything below.
        let mut namespaces = Server::start_to_be_killed(scratch, &command)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if !namespaces.alive() || Instant::now() > deadline {
                bail!("systemd did not boot: {}", namespaces.last_words());
            }
            if let Some(first_process) = children_of(namespaces.pid()).first().copied()
                && is_up(first_process)
            {
                let systemd = Self {
                    first_process,
                    _namespaces: namespaces,
                    _control_group: control_group,
                };
                fs::create_dir(systemd.outside(PLACE))?;
                return Ok(systemd);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A path inside, as seen from outside.
    pub fn outside(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        Path::new("/proc")
            .join(self.first_process.to_string())
            .join("root")
            .join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Copies a program to where it can be seen inside; gives its path there.
    pub fn place(&self, program: &Path) -> Result<PathBuf> {
        let inside = Path::new(PLACE).join(program.file_name().context("no file name")?);
        fs::copy(program, self.outside(&inside))
            .with_context(|| format!("unable to copy {}", program.display()))?;
        Ok(inside)
    }

    /// Writes a unit file; `reload` makes it known.
    pub fn write_unit(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.outside(UNITS).join(name), text)?)
    }

    pub fn reload(&self) -> Result<()> {
        self.systemctl(&["daemon-reload"])
    }

    pub fn systemctl(&self, arguments: &[&str]) -> Result<()> {
        let output = command_inside(self.first_process)
            .arg("systemctl")
            .args(arguments)
            .output()?;
        if !output.status.success() {
            bail!(
                "systemctl {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// The words to put before a command that is to run inside.
    pub fn wrapper(&self) -> Vec<String> {
        wrapper(self.first_process)
    }
}

fn wrapper(first_process: Pid) -> Vec<String> {
    let target = first_process.to_string();
    [
        "nsenter", "--target", &target, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
        "--",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn command_inside(first_process: Pid) -> Command {
    let mut words = wrapper(first_process).into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null());
    command
}

fn is_up(first_process: Pid) -> bool {
    let output = command_inside(first_process)
        .args(["systemctl", "is-active", "basic.target"])
        .output();
    output.is_ok_and(|output| output.status.success())
}

/// A control group that is removed, with those below it, on drop.
struct ControlGroup {
    name: String,
    path: PathBuf,
}

impl ControlGroup {
    fn named(name: String) -> Result<Self> {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let hierarchy = if unified.is_dir() {
            unified
        } else {
            Path::new("/sys/fs/cgroup")
        };
        if !hierarchy.join("cgroup.controllers").exists() {
            bail!("no cgroup2 hierarchy at {}", hierarchy.display());
        }
        Ok(Self {
            path: hierarchy.join(&name),
            name,
        })
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The processes below a killed process 1 take a moment to be gone.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.path.exists() && Instant::now() < deadline {
            remove_groups(&self.path);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Children first: a group that has groups cannot be removed. The files in it are no obstacle.
fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
