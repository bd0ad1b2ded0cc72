//! The installed systemd, booted as PID 1 of namespaces of its own (tests/support/systemd-in-namespaces.sh).
//!
//! One boot serves all tests: give units names of your own. It ends with this process, however that ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};

use super::lines::Lines;
use super::{doorward, eventually, probe};

/// The booted system.
pub struct Systemd {
    pid: i32,
    // Its standard input is what keeps the system up.
    _keeper: Child,
}

static RELOADS: Mutex<()> = Mutex::new(());

static SYSTEM: OnceLock<Result<Systemd, String>> = OnceLock::new();

impl Systemd {
    /// Boots it, or gives the one that is up. `/usr/bin/doorward` and `/usr/bin/doorward-probe` are the tests' own.
    #[track_caller]
    pub fn boot() -> &'static Systemd {
        match SYSTEM.get_or_init(Systemd::start) {
            Ok(system) => system,
            Err(why) => panic!("{why}"),
        }
    }

    fn start() -> Result<Systemd, String> {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/systemd-in-namespaces.sh");
        let mut command = Command::new("sh");
        // A group of its own: Ctrl-C must not end the keeper before it has cleared away.
        command
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut keeper = command.spawn().map_err(|e| format!("sh: {e}"))?;
        let log = Lines::gather(keeper.stderr.take().ok_or("no pipe")?);
        let mut line = String::new();
        let _ = BufReader::new(keeper.stdout.take().ok_or("no pipe")?).read_line(&mut line);
        let pid = line
            .trim()
            .parse()
            .map_err(|_| format!("systemd: no boot:\n{}", log.whole().join("\n")))?;
        let system = Systemd {
            pid,
            _keeper: keeper,
        };
        system.put(doorward(), "/usr/bin/doorward");
        system.put(&probe(), "/usr/bin/doorward-probe");
        Ok(system)
    }

    /// PID 1 of the namespaces, as this side sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A path inside as seen from here, short enough for a socket's address.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        Path::new("/proc")
            .join(self.pid.to_string())
            .join("root")
            .join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Copies a file of the machine to a path inside, executable if it was; changes there stay in memory.
    #[track_caller]
    pub fn put(&self, from: &Path, inside: &str) {
        let to = self.path(inside);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        // By cp: a file that this process holds open for writing could be inherited by some other test's child
        // just starting, and "text file busy" for whoever runs it.
        let copied = Command::new("cp").args([from, &to]).status().unwrap();
        assert!(copied.success(), "unable to copy {from:?} to {to:?}");
    }

    /// Writes a file inside.
    #[track_caller]
    pub fn write(&self, inside: &str, text: &str) {
        let to = self.path(inside);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, text).unwrap();
    }

    /// Writes an executable script inside.
    #[track_caller]
    pub fn script(&self, inside: &str, text: &str) {
        let to = self.path(inside);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        super::scratch::write_script(&to, text);
    }

    /// Installs a unit (or, as `x.service.d/y.conf`, a drop-in) by its text, and reloads.
    #[track_caller]
    pub fn install(&self, name: &str, text: &str) {
        // Another test's reload must not meet half a unit.
        let to = self.path(format!("/run/systemd/system/{name}"));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let draft = format!(".{:?}", std::thread::current().id());
        let draft = to.with_file_name(draft);
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &to).unwrap();
        let _alone = RELOADS.lock().unwrap_or_else(|held| held.into_inner());
        self.run(["systemctl", "daemon-reload"]);
    }

    /// While the guard lives no other test makes it reload its units: systemd forgets then by how much a service has asked
    /// it to extend a timeout.
    pub fn without_reloads(&self) -> MutexGuard<'static, ()> {
        RELOADS.lock().unwrap_or_else(|held| held.into_inner())
    }

    /// A command that will run inside, as root.
    pub fn enter<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string()]);
        command
            .args([
                "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
            ])
            .args(words);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command inside, which must succeed, and gives what it wrote.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> String {
        let mut command = self.enter(words);
        let output = command.output().expect("nsenter");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{command:?}: {}: {said}",
            output.status
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `systemctl`, whatever comes of it.
    pub fn systemctl(&self, args: &[&str]) -> Output {
        self.enter(["systemctl"].iter().chain(args))
            .output()
            .expect("nsenter")
    }

    /// `systemctl start`; panics with the unit's status and journal if that fails.
    #[track_caller]
    pub fn start_unit(&self, unit: &str) {
        let output = self.systemctl(&["start", unit]);
        let why = || format!("{}\n{}", self.status(unit), self.journal(unit));
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            why()
        );
    }

    /// `systemctl stop`; panics if that fails.
    #[track_caller]
    pub fn stop_unit(&self, unit: &str) {
        self.run(["systemctl", "stop", unit]);
    }

    /// `systemctl status`, for messages.
    pub fn status(&self, unit: &str) -> String {
        let output = self.systemctl(&["status", "--no-pager", "--full", unit]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// One property of a unit: `ActiveState`, `MainPID`, `StatusText`, `Result`.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.run(["systemctl", "show", "--value", "--property", property, unit])
            .trim_end()
            .to_owned()
    }

    /// Waits until a property has a value.
    #[track_caller]
    pub fn wait_show(&self, unit: &str, property: &str, value: &str) {
        eventually(&format!("{property}={value} of {unit}"), || {
            self.show(unit, property) == value
        });
    }

    /// The unit's main process, as this side sees its number; None without one.
    #[track_caller]
    pub fn main_pid(&self, unit: &str) -> Option<i32> {
        let inner: i32 = self
            .show(unit, "MainPID")
            .parse()
            .ok()
            .filter(|&pid| pid != 0)?;
        self.outer_pid(inner)
    }

    /// The number that a process inside has on this side.
    pub fn outer_pid(&self, inner: i32) -> Option<i32> {
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(self.pid);
        let number = |pid| {
            super::inspect::status_line(pid, "NSpid")?
                .split_whitespace()
                .last()?
                .parse()
                .ok()
        };
        super::inspect::pids()
            .into_iter()
            .find(|&pid| number(pid) == Some(inner) && namespace(pid) == ours)
    }

    /// The messages of a unit, one a line, systemd's own about it included.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        self.journalctl(&["--unit", unit, "--output", "cat"])
    }

    /// `journalctl` with what has been sent to it so far.
    #[track_caller]
    pub fn journalctl(&self, args: &[&str]) -> String {
        self.run(["journalctl", "--sync"]);
        self.run(["journalctl", "--no-pager", "--quiet"].iter().chain(args))
    }

    /// Waits until the unit's journal has `text`, and gives the line.
    #[track_caller]
    pub fn wait_journal(&self, unit: &str, text: &str) -> String {
        super::eventually_some(&format!("{text:?} in the journal of {unit}"), || {
            self.journal(unit)
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        })
    }
}
