//! A real program that runs doorward, or that doorward runs: a supervisor, an inetd, a bridge's script.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lines::Lines;
use super::mark::Mark;
use super::need::find_program;
use super::{Client, Dial, Scratch, doorward, eventually, eventually_some, inspect};

/// A directory of a test's own in which `doorward` is found by its name, and what runs in it.
/// When dropped, all that was started in it ends, and the directory goes.
pub struct Neighbour {
    started: Vec<Child>,
    lines: Lines,
    mark: Mark,
    scratch: Scratch,
}

impl Neighbour {
    /// Nothing runs yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Neighbour {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("bin")).unwrap();
        symlink(doorward(), scratch.path("bin/doorward")).unwrap();
        Neighbour {
            started: Vec::new(),
            lines: Lines::default(),
            mark: Mark::new(),
            scratch,
        }
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    /// Writes a file into its directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Writes an executable script into its directory.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        self.scratch.script(name, text)
    }

    /// Copies a directory of the project, modes and all, into its directory.
    #[track_caller]
    pub fn copy(&self, from: &str) -> PathBuf {
        let from = project().join(from);
        let to = self.path(from.file_name().unwrap().to_str().unwrap());
        let status = Command::new("cp").arg("-a").args([&from, &to]).status();
        assert!(status.unwrap().success(), "copy {from:?}");
        to
    }

    /// A program with this directory's PATH and mark, started in this directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        let found = program.to_str().and_then(find_program);
        let mut command = Command::new(found.as_deref().map_or(program, Path::as_os_str));
        let path = format!(
            "{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.text("bin")
        );
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path(""))
            .current_dir(self.path(""))
            .stdin(Stdio::null());
        self.mark.put_on(&mut command);
        command
    }

    /// Starts it; `lines` then has what it and all below it write on both outputs.
    #[track_caller]
    pub fn start(&mut self, command: &mut Command) -> i32 {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        // The command keeps its ends of the pipe otherwise.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.lines = Lines::gather(reader);
        let pid = child.id() as i32;
        self.started.push(child);
        pid
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut command = self.command(program);
        command.args(args);
        command
            .output()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    /// The same for what must succeed: what it wrote.
    #[track_caller]
    pub fn say(&self, program: &str, args: &[&str]) -> String {
        let output = self.run(program, args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{program} {args:?}, {}: {text}{errors}\n{}",
            output.status,
            self.lines.all().join("\n")
        );
        text
    }

    /// What the started one writes.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Waits for a line with `text` from the started one.
    #[track_caller]
    pub fn wait_line(&self, text: &str) -> String {
        self.lines
            .take(text)
            .unwrap_or_else(|| panic!("no {text:?} in:\n{}", self.lines.all().join("\n")))
    }

    /// A connection to a socket in its directory, as soon as one is to be had.
    #[track_caller]
    pub fn connect(&self, socket: &str) -> Client {
        eventually_some(&format!("a server on {socket}"), || {
            Dial::to(self.path(socket)).try_connect().ok()
        })
    }

    /// The doorward that runs here: it must be one.
    #[track_caller]
    pub fn doorward(&self) -> i32 {
        let program = fs::canonicalize(doorward()).unwrap();
        eventually_some("one doorward", || {
            let runs = |&pid: &i32| {
                fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)
            };
            let all: Vec<i32> = self.mark.carriers().into_iter().filter(runs).collect();
            (all.len() == 1).then(|| all[0])
        })
    }

    /// Sends a signal and waits for the end of what was started last.
    #[track_caller]
    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        let child = self.started.last_mut().expect("one is started");
        kill(Pid::from_raw(child.id() as i32), signal).expect("signal");
        eventually_some("its end", || child.try_wait().unwrap())
    }

    /// Nothing that was started here runs any more.
    #[track_caller]
    pub fn assert_all_ended(&self) {
        eventually("the end of everything", || self.mark.carriers().is_empty());
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        for child in &mut self.started {
            self.mark.end_all(child);
        }
    }
}

/// The project's directory.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// No process below `pid` holds a listening socket, and there is one.
#[track_caller]
pub fn assert_no_child_listens(pid: i32) {
    let below = eventually_some("a child", || {
        let below = inspect::descendants(pid);
        (!below.is_empty()).then_some(below)
    });
    for child in below {
        assert!(
            !inspect::has_listening_socket(child),
            "{:?}",
            inspect::fds(child)
        );
    }
    assert!(inspect::has_listening_socket(pid), "doorward itself does");
}
