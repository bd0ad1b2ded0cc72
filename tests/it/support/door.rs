//! How to start doorward.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::lines::Lines;
use super::mark::Mark;
use super::notices::Notices;
use super::{DEADLINE, Outcome, Scratch, Served, probe, raw};

/// The binary under test.
pub fn doorward() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_doorward"))
}

/// What is to be started. Unless told otherwise: `doorward spawn --bind DIR/s OPTIONS PROG...` with no descriptors but
/// 0 (/dev/null), 1 and 2 (pipes of ours), an environment of PATH and NOTIFY_SOCKET alone, no signal changed.
pub struct Door {
    scratch: Scratch,
    command: String,
    bind: Option<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    arg0: Option<OsString>,
    wrap: Vec<OsString>,
    stdin: Stdio,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    placed: Vec<(RawFd, OwnedFd)>,
    activated: Option<&'static str>,
    notify_abstract: bool,
    notify: bool,
}

impl Door {
    /// `doorward spawn`.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Door {
        let scratch = Scratch::new();
        let bind = Some(scratch.path("s").into_os_string());
        Door {
            scratch,
            command: "spawn".to_owned(),
            bind,
            args: Vec::new(),
            env: Vec::new(),
            arg0: None,
            wrap: Vec::new(),
            stdin: Stdio::null(),
            stdout: None,
            stderr: None,
            placed: Vec::new(),
            activated: None,
            notify_abstract: false,
            notify: true,
        }
    }

    /// Another subcommand than `spawn`.
    pub fn command(mut self, name: &str) -> Door {
        name.clone_into(&mut self.command);
        self
    }

    /// More options, before the program.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Door {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable of doorward's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Door {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Without `--bind`: the socket is inherited.
    pub fn no_bind(mut self) -> Door {
        self.bind = None;
        self
    }

    /// Another path (or `@name`) for `--bind`; `socket()` gives it.
    pub fn bind(mut self, path: impl AsRef<OsStr>) -> Door {
        self.bind = Some(path.as_ref().to_owned());
        self
    }

    /// Descriptor 0, in the manner of inetd's `wait`.
    pub fn fd0(mut self, fd: impl Into<OwnedFd>) -> Door {
        self.stdin = Stdio::from(fd.into());
        self
    }

    /// Descriptor 1 instead of the pipe that `output()` reads.
    pub fn fd1(mut self, fd: impl Into<OwnedFd>) -> Door {
        self.stdout = Some(Stdio::from(fd.into()));
        self
    }

    /// Descriptor 2 instead of the pipe that `log()` reads, which then stays empty.
    pub fn fd2(mut self, fd: impl Into<OwnedFd>) -> Door {
        self.stderr = Some(Stdio::from(fd.into()));
        self
    }

    /// Any other descriptor at its number.
    pub fn fd(mut self, number: RawFd, fd: impl Into<OwnedFd>) -> Door {
        self.placed.push((number, fd.into()));
        self
    }

    /// Sockets from 3 on, as systemd passes them: LISTEN_FDS, LISTEN_PID and, with names, LISTEN_FDNAMES.
    pub fn listen_fds(
        mut self,
        fds: impl IntoIterator<Item = impl Into<OwnedFd>>,
        names: &[&str],
    ) -> Door {
        let first = 3;
        let before = self.placed.len();
        self.placed
            .extend((first..).zip(fds.into_iter().map(Into::into)));
        let count = self.placed.len() - before;
        let door = self.env("LISTEN_FDS", count.to_string()).listen_pid();
        if names.is_empty() {
            door
        } else {
            door.env("LISTEN_FDNAMES", names.join(":"))
        }
    }

    /// LISTEN_PID right, alone: for tests that set LISTEN_FDS by hand.
    pub fn listen_pid(mut self) -> Door {
        self.activated = Some("listen-pid");
        self
    }

    /// LISTEN_PIDFDID right as well.
    pub fn listen_pidfdid(mut self) -> Door {
        self.activated = Some("listen-pidfdid");
        self
    }

    /// A program that execs doorward: `["setpriv", "--reuid", "990"]`. It keeps the pid.
    pub fn wrap<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Door {
        self.wrap
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// The first word of doorward's own argument list (without `wrap` and `listen_fds` only).
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Door {
        self.arg0 = Some(name.as_ref().to_owned());
        self
    }

    /// NOTIFY_SOCKET with an abstract address.
    pub fn notify_abstract(mut self) -> Door {
        self.notify_abstract = true;
        self
    }

    /// No NOTIFY_SOCKET. `serve` then returns as soon as the process runs: wait for a log line.
    pub fn no_notify(mut self) -> Door {
        self.notify = false;
        self
    }

    /// The directory of this door, mode 0755, removed with it.
    pub fn dir(&self) -> &Path {
        self.scratch.dir()
    }

    /// A path in that directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Writes an executable script into that directory.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        self.scratch.script(name, text)
    }

    /// Starts it and waits for READY=1; panics with the log if it ends first.
    #[track_caller]
    pub fn serve<S: AsRef<OsStr>>(self, program: impl IntoIterator<Item = S>) -> Served {
        let notify = self.notify;
        let mut served = self.start(program);
        if !notify {
            return served;
        }
        let end = Instant::now() + DEADLINE;
        loop {
            if served
                .notices()
                .wait_for("READY=1", Duration::from_millis(20))
                .is_some()
            {
                return served;
            }
            if let Some(status) = served.child.try_wait().expect("wait") {
                panic!(
                    "doorward ended before it was ready, {status}:\n{}",
                    served.log.whole().join("\n")
                );
            }
            assert!(
                Instant::now() < end,
                "doorward is not ready:\n{}",
                served.log().join("\n")
            );
        }
    }

    /// Starts it, ready or not.
    #[track_caller]
    pub fn start<S: AsRef<OsStr>>(self, program: impl IntoIterator<Item = S>) -> Served {
        let mark = Mark::new();
        let notices = match (self.notify, self.notify_abstract) {
            (false, _) => None,
            (true, false) => Some(Notices::at_path(&self.scratch.path("notify"))),
            (true, true) => Some(Notices::at_name(&format!("doorward-test-{}", mark.text()))),
        };
        let mut words = self.wrap;
        if let Some(mode) = self.activated {
            // Last of all that exec, so that the pid is told by who has it.
            words.extend([probe().into_os_string(), mode.into()]);
        }
        words.push(doorward().into());
        words.push(self.command.into());
        if let Some(path) = &self.bind {
            words.extend(["--bind".into(), path.clone()]);
        }
        words.extend(self.args);
        words.extend(program.into_iter().map(|word| word.as_ref().to_owned()));

        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear();
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        mark.put_on(&mut command);
        if let Some(notices) = &notices {
            command.env("NOTIFY_SOCKET", notices.address());
        }
        command.envs(self.env);
        if let Some(arg0) = self.arg0 {
            std::os::unix::process::CommandExt::arg0(&mut command, arg0);
        }
        command.stdin(self.stdin);
        command.stdout(self.stdout.unwrap_or_else(Stdio::piped));
        command.stderr(self.stderr.unwrap_or_else(Stdio::piped));
        raw::place_descriptors(&mut command, self.placed);
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("unable to start {words:?}: {e}"));
        // The placed descriptors live in `command`: away with them, or the test keeps inherited sockets open.
        drop(command);
        let gather =
            |from: Option<Box<dyn Read + Send>>| from.map_or_else(Lines::default, Lines::gather);
        let log = gather(child.stderr.take().map(|from| Box::new(from) as _));
        let output = gather(child.stdout.take().map(|from| Box::new(from) as _));
        let socket = self
            .bind
            .map_or_else(|| self.scratch.path("s"), PathBuf::from);
        Served {
            child,
            log,
            output,
            notices,
            socket,
            mark,
            scratch: self.scratch,
        }
    }

    /// Starts it where it must fail before it is ready, and gives exit code and stderr.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr>>(self, program: impl IntoIterator<Item = S>) -> Outcome {
        let mut served = self.start(program);
        let status = served.wait_exit();
        if let Some(notices) = &served.notices {
            assert!(
                notices.wait_for("READY=1", Duration::ZERO).is_none(),
                "it was ready before it failed"
            );
        }
        let stderr = served.log.whole().join("\n");
        Outcome {
            status,
            stderr,
            _door: served,
        }
    }
}
