//! The daemon: started with every socket, and ended.
#![forbid(unsafe_code)]

use crate::delivery::{Program, SocketLayout};
use crate::serve::ends::signal_group;
use crate::serve::groups;
use crate::source::Listening;
use crate::sys;
use crate::sys::cvec::CVec;
use crate::sys::spawn::{Child, Failure, Job, Stack, spawn};
use crate::sys::wait::End;
use nix::libc;
use nix::sys::signal::Signal;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// What is started, and how it gets its sockets.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) program: Program,
    /// What it inherits of doorward's environment, each `NAME=VALUE`.
    pub(crate) env: Vec<&'static CStr>,
    pub(crate) layout: SocketLayout,
    /// LISTEN_FDNAMES, one for each socket.
    pub(crate) names: Option<Vec<String>>,
    /// The descriptor limit to give back, if doorward raised its own.
    pub(crate) nofile: Option<libc::rlimit>,
}

impl Daemon {
    /// Starts it with `sockets`, which stand above every number that they are put on.
    pub(super) fn start(&self, stack: &mut Stack, sockets: &[Listening]) -> io::Result<Child> {
        let mut argv = CVec::default();
        for word in &self.program.argv {
            argv.push(&[word.as_bytes()]);
        }
        let mut envp = CVec::default();
        envp.keep(self.env.iter().copied());
        let pid_at = match self.layout {
            SocketLayout::Inetd => None,
            SocketLayout::Systemd => {
                envp.push(&[b"LISTEN_FDS=", sockets.len().to_string().as_bytes()]);
                if let Some(names) = &self.names {
                    envp.push(&[b"LISTEN_FDNAMES=", names.join(":").as_bytes()]);
                }
                Some(envp.push_pid_room(b"LISTEN_PID="))
            }
        };
        let places = places(self.layout, sockets);
        let highest = places.iter().map(|(from, _)| *from).max();
        let job = Job {
            path: &self.program.path,
            argv: &mut argv,
            envp: &mut envp,
            pid_at,
            places: &places,
            // The sockets' own numbers must be in the copy of the table; whatever else stands there is close-on-exec.
            low: highest.unwrap_or(0).unsigned_abs() + 1,
            nofile: self.nofile,
            foreground: None,
        };
        spawn(stack, job).map_err(|failure| match failure {
            Failure::NoProcess(error) | Failure::NoProgram(error) => error,
        })
    }
}

fn places(layout: SocketLayout, sockets: &[Listening]) -> Vec<(RawFd, RawFd)> {
    let from = sockets.iter().map(|socket| socket.socket().as_raw_fd());
    from.zip(layout.first()..).collect()
}

/// The lowest number on which no daemon with `count` sockets finds one.
pub(crate) fn above(count: usize) -> RawFd {
    let first = SocketLayout::Systemd.first();
    RawFd::try_from(count).map_or(RawFd::MAX, |count| first.saturating_add(count))
}

/// A daemon that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: libc::pid_t,
    pub(super) pidfd: OwnedFd,
    pub(super) began: Duration,
    /// Ended, but unreaped: its number still is its group's.
    ended: bool,
}

impl Running {
    pub(super) fn new(child: Child, began: Duration) -> Running {
        Running {
            pid: child.pid,
            pidfd: child.pidfd,
            began,
            ended: false,
        }
    }

    /// How it ended, if it has, and reaps it.
    pub(super) fn reap(&self) -> Option<End> {
        // Nobody else reaps our children; if it is gone all the same, it is gone.
        sys::wait::reap(self.pid).unwrap_or(Some(End::Unknown))
    }

    /// TERM to its group.
    pub(super) fn end(&self) {
        signal_group(self.pid, Signal::SIGTERM);
        signal_group(self.pid, Signal::SIGCONT);
    }

    /// KILL to what is left of its group.
    pub(super) fn kill(&self) {
        signal_group(self.pid, Signal::SIGKILL);
    }

    /// Whether it has ended, without reaping it: its number must not become another's before the KILL.
    pub(super) fn ended(&mut self) -> bool {
        self.ended |= !matches!(sys::wait::peek(self.pid), Ok(None));
        self.ended
    }

    /// Whether nobody of its group lives any more.
    pub(super) fn is_over(&self) -> bool {
        self.ended && !groups::any_alive(&[self.pid].into())
    }
}
