//! Backends that doorward starts: start, end, and start again.
#![forbid(unsafe_code)]

use super::{Backend, BackendPlan, WORKER, Workers};
use crate::report::{Seconds, Throttle, error, event};
use crate::serve::backoff::Backoff;
use crate::serve::control::TERM_TO_KILL;
use crate::serve::ends::signal_group;
use crate::sys;
use crate::sys::cvec::CVec;
use crate::sys::spawn::{Failure, Job, spawn};
use crate::sys::wait::End;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// One worker.
pub(super) struct Worker {
    pub(super) backoff: Backoff,
    pub(super) state: State,
}

pub(super) enum State {
    /// To be started at this time (with `--lazy`: not before there is something to take).
    Down(Duration),
    Up(Up),
}

pub(super) struct Up {
    pub(super) pid: libc::pid_t,
    pub(super) _pidfd: OwnedFd,
    pub(super) number: u32,
    pub(super) began: Duration,
    pub(super) ready: bool,
    /// When it pinged last, once it has.
    pub(super) pinged: Option<Duration>,
    /// Told to end; its group gets KILL at this time.
    pub(super) kill_at: Option<Duration>,
}

impl Backend {
    pub(super) fn update(&mut self, index: usize, change: impl FnOnce(&mut Up)) {
        if let Some(Worker {
            state: State::Up(up),
            ..
        }) = self.workers.get_mut(index)
        {
            change(up);
        }
    }

    pub(super) fn start(&mut self, index: usize, now: Duration) {
        static FAILED: Throttle = Throttle::new();
        let BackendPlan::Started(plan) = self.plan else {
            return;
        };
        let started = self.spawn(plan);
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        match started {
            Ok(child) => {
                self.starts = self.starts.wrapping_add(1);
                let number = WORKER + self.starts % (u32::MAX - WORKER);
                event!("backend start child={}", child.pid);
                if let Err(cause) = self.service.slots.watch_own(child.pidfd.as_fd(), number) {
                    // Unwatched, its end would never be seen: better none than that.
                    error!("unable to watch the backend: {}", cause.desc());
                    signal_group(child.pid, Signal::SIGKILL);
                    let _ = waitpid(Pid::from_raw(child.pid), None);
                    worker.state = State::Down(now + worker.backoff.after(Duration::ZERO));
                    return;
                }
                worker.state = State::Up(Up {
                    pid: child.pid,
                    _pidfd: child.pidfd,
                    number,
                    began: now,
                    ready: false,
                    pinged: None,
                    kill_at: None,
                });
            }
            Err(cause) => {
                let pause = worker.backoff.after(Duration::ZERO);
                worker.state = State::Down(now + pause);
                if FAILED.open() {
                    error!(
                        "unable to start the backend: {cause}; again in {} s",
                        Seconds(pause)
                    );
                }
            }
        }
    }

    pub(super) fn spawn(&mut self, plan: &Workers) -> io::Result<sys::spawn::Child> {
        let mut argv = CVec::default();
        for word in &plan.program.argv {
            argv.push(&[word.as_bytes()]);
        }
        let mut envp = CVec::default();
        envp.keep(plan.env.iter().copied());
        envp.push(&[b"LISTEN_FDS=1"]);
        envp.push(&[b"LISTEN_FDNAMES=handoff"]);
        if let Some((_, name)) = &self.notify {
            envp.push(&[b"NOTIFY_SOCKET=@", name.as_bytes()]);
        }
        if let Some(interval) = self.watchdog {
            envp.push(&[
                b"WATCHDOG_USEC=",
                interval.as_micros().to_string().as_bytes(),
            ]);
        }
        let pid_at = envp.push_pid_room(b"LISTEN_PID=");
        sys::fd::replace(self.handing.channel().backend_end(), &self.landing)?;
        let child = spawn(
            &mut self.stack,
            Job {
                path: &plan.program.path,
                argv: &mut argv,
                envp: &mut envp,
                pid_at: Some(pid_at),
                places: &[(self.landing.as_raw_fd(), 3)],
                low: self.handing.low.unsigned_abs(),
                nofile: plan.nofile,
                foreground: None,
            },
        );
        let _ = sys::fd::replace(self.null.as_fd(), &self.landing);
        child.map_err(|failure| match failure {
            Failure::NoProcess(error) | Failure::NoProgram(error) => error,
        })
    }

    pub(super) fn worker_ended(&mut self, index: usize, now: Duration) {
        let Some(Worker { backoff, state }) = self.workers.get_mut(index) else {
            return;
        };
        let State::Up(up) = state else { return };
        let pid = up.pid;
        let end = match sys::wait::reap(pid) {
            Ok(Some(end)) => end,
            Ok(None) => return,
            // Nobody else reaps our children; if it is gone all the same, it is gone.
            Err(_) => End::Unknown,
        };
        let lived = now.saturating_sub(up.began);
        let pause = backoff.after(lived);
        *state = State::Down(now + pause);
        self.status.clear();
        if self.stopping {
            event!("backend exit child={pid} {end} seconds={}", Seconds(lived));
        } else {
            event!(
                "backend exit child={pid} {end} seconds={} restart={}",
                Seconds(lived),
                Seconds(pause)
            );
        }
    }

    /// TERM to a worker's group now, KILL in a while.
    pub(super) fn end(&mut self, index: usize, now: Duration) {
        self.update(index, |up| {
            signal_group(up.pid, Signal::SIGTERM);
            signal_group(up.pid, Signal::SIGCONT);
            up.kill_at = Some(now + TERM_TO_KILL);
        });
    }
}
