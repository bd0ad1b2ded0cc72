//! A service that is started here: its descriptors, its start and its end.
#![forbid(unsafe_code)]

use super::error::{Error, Unable as _};
use super::{Service, environment};
use crate::backend::Peer;
use crate::lookup::{Found, find};
use crate::sys::cvec::CVec;
use crate::sys::fd::copy_above;
use crate::sys::spawn::{Child, Failure, Job, Stack, spawn_from_anywhere};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::ffi::{CString, OsStr, OsString};
use std::fs::OpenOptions;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// The connection's numbers in the layout `ucspi`, and the notification socket's.
const CONNECTION: [RawFd; 2] = [6, 7];
const NOTIFY: RawFd = 8;
/// Everything from here on is free of targets.
const ABOVE: RawFd = 10;

/// How long a service has to exit by itself at the end of file.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long it has from SIGTERM to SIGKILL, and from that to being given up (a process in the kernel's hands cannot be killed).
const GRACE: Duration = Duration::from_secs(5);

/// Starts `command` with fresh socketpairs.
pub(super) fn start<W: AsRef<OsStr>>(
    command: impl IntoIterator<Item = W>,
) -> Result<Service, Error> {
    let words: Vec<OsString> = command
        .into_iter()
        .map(|word| word.as_ref().to_os_string())
        .collect();
    let name = words.first().cloned().unwrap_or_default();
    let path = match find(&name) {
        Found::At(path) => CString::new(path.into_os_string().into_vec()).ok(),
        Found::NotExecutable | Found::Nowhere => None,
    };
    let path = path.ok_or(Error::NoProgram(name))?;
    let mut argv = CVec::default();
    for word in words {
        argv.push(&[word.as_encoded_bytes()]);
    }

    let (connection, its_connection) = UnixStream::pair().unable("make a connection")?;
    let (notification, its_notification) = UnixStream::pair().unable("make a second socket")?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unable("open /dev/null")?;
    let client = Peer::of(its_connection.as_fd()).map_err(|error| match error {
        crate::backend::Error::System(what, cause) => Error::System(what, cause),
        other => Error::System(
            "ask for this process's own credentials",
            std::io::Error::other(other),
        ),
    })?;
    let mut envp = environment::of(std::env::vars_os(), &client, NOTIFY);

    // Out of the way of the numbers that the child puts them on.
    let lift = |fd| copy_above(fd, ABOVE).unable("copy a descriptor");
    let from = (
        lift(null.as_fd())?,
        lift(its_connection.as_fd())?,
        lift(its_notification.as_fd())?,
    );
    let places = [
        (from.0.as_raw_fd(), 0),
        (from.1.as_raw_fd(), CONNECTION[0]),
        (from.1.as_raw_fd(), CONNECTION[1]),
        (from.2.as_raw_fd(), NOTIFY),
    ];
    let job = Job {
        path: &path,
        argv: &mut argv,
        envp: &mut envp,
        pid_at: None,
        places: &places,
        low: 3,
        nofile: None,
        foreground: None,
    };
    let mut stack = Stack::new().unable("get memory for a child")?;
    let child = spawn_from_anywhere(&mut stack, job).map_err(|failure| match failure {
        Failure::NoProcess(cause) => Error::System("create a child", cause),
        Failure::NoProgram(cause) => Error::System("run the command", cause),
    })?;
    Ok(Service {
        connection,
        notification,
        process: Some(Process::new(child)),
    })
}

/// A child that is ended and reaped with the value.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    done: bool,
}

impl Process {
    fn new(child: Child) -> Process {
        Process {
            pid: Pid::from_raw(child.pid),
            pidfd: child.pidfd,
            done: false,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Ends it, gently first; its sockets are closed by now.
    pub(super) fn end(mut self) -> Result<ExitStatus, Error> {
        self.finish()
    }

    fn finish(&mut self) -> Result<ExitStatus, Error> {
        self.done = true;
        if !self.exits_within(FAREWELL)? {
            self.signal(Signal::SIGTERM);
            if !self.exits_within(GRACE)? {
                self.signal(Signal::SIGKILL);
                if !self.exits_within(GRACE)? {
                    return Err(Error::System(
                        "end the service",
                        std::io::ErrorKind::TimedOut.into(),
                    ));
                }
            }
        }
        match self
            .wait(WaitPidFlag::WEXITED)
            .unable("wait for the service")?
        {
            WaitStatus::Exited(_, code) => Ok(ExitStatus::from_raw(code << 8)),
            WaitStatus::Signaled(_, signal, core) => {
                let core = if core { 0x80 } else { 0 };
                Ok(ExitStatus::from_raw(signal as i32 | core))
            }
            _ => Err(Error::System(
                "wait for the service",
                std::io::ErrorKind::InvalidData.into(),
            )),
        }
    }

    fn exits_within(&self, limit: Duration) -> Result<bool, Error> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut watched = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, left) {
                Err(Errno::EINTR) => {}
                Ok(count) => return Ok(count > 0),
                Err(error) => return Err(Error::System("wait for the service", error.into())),
            }
        }
    }

    /// To its process group, as long as the leader is our unreaped child: after that the number may be another's.
    fn signal(&self, signal: Signal) {
        let ours = self.wait(WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG);
        if ours.is_ok() {
            // It may be gone this very moment, which is what is wanted.
            let _ = killpg(self.pid, signal);
        }
    }

    fn wait(&self, flags: WaitPidFlag) -> nix::Result<WaitStatus> {
        loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.done {
            // Nobody is left to be told.
            let _ = self.finish();
        }
    }
}
