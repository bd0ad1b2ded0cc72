//! A systemd of our own as process 1 of its namespaces, for what only systemd can be asked.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where its units stand, as seen inside.
const UNITS: &str = "/run/systemd/system";
/// And what we give it.
pub const PLACE: &str = "/run/bench";

/// A running systemd; ended, with all that runs below it, on drop or by our death.
pub struct Systemd {
    /// Of its process 1, as seen from outside.
    pid: u32,
    /// Keeps it until the end of its own standard input.
    keeper: Child,
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

    /// Boots it to basic.target; the script bounds how long that may take.
    pub fn boot() -> Result<Self> {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/systemd-in-namespaces.sh");
        let mut keeper = Command::new("sh")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt from the terminal must not end it before it has cleared away.
            .process_group(0)
            .spawn()?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("no pipe")?).read_line(&mut line)?;
        let Ok(pid) = line.trim().parse() else {
            keeper.wait()?;
            bail!("systemd did not boot");
        };
        let systemd = Self { pid, keeper };
        fs::create_dir(systemd.outside(PLACE))?;
        // Not the journal's speed is measured; with it, Accept=yes would be slower still.
        systemd.systemctl(&["log-target", "null"])?;
        Ok(systemd)
    }

    /// A path inside, as seen from outside.
    pub fn outside(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        Path::new("/proc")
            .join(self.pid.to_string())
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
        let wrapper = self.wrapper();
        let (nsenter, options) = wrapper.split_first().context("no words")?;
        // A manager that hangs must not hang us.
        let output = Command::new("timeout")
            .arg("60")
            .arg(nsenter)
            .args(options)
            .arg("systemctl")
            .args(arguments)
            .stdin(Stdio::null())
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
        let target = self.pid.to_string();
        [
            "nsenter", "--target", &target, "--mount", "--uts", "--ipc", "--net", "--pid",
            "--cgroup", "--",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
