//! Those who take what is handed off: started and restarted, or connected to and connected again.
#![forbid(unsafe_code)]

mod exchange;
mod hear;
mod listening;
mod worker;

use hear::notify_socket;
use worker::{State, Worker};

use super::Service;
use super::backoff::Backoff;
use super::ends::signal_group;
use crate::admission::Servers;
use crate::clock;
use crate::delivery::{Delivery, Handing, Landings, Program};
use crate::source::Address;
use crate::sys;
use crate::sys::spawn::Stack;
use nix::libc;
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How soon what a limit refused is tried again.
const SOON: Duration = Duration::from_millis(100);

/// Messages on the notification socket that are read in one go.
const AT_ONCE: usize = 64;

/// Numbers by which the poll reports our descriptors; workers have [`WORKER`] and above, a new one for each start.
pub(super) const NOTIFY: u32 = 8;
pub(super) const CONNECTION: u32 = 9;
const WORKER: u32 = 16;

/// Who takes what is handed off.
pub(crate) enum BackendPlan {
    Started(Workers),
    /// One that listens on a SEQPACKET socket of its own, and is served only if it is one of these.
    Listening {
        address: Address,
        servers: Servers,
    },
}

/// Programs of ours that share the channel.
pub(crate) struct Workers {
    pub(crate) program: Program,
    pub(crate) count: u32,
    /// Not before there is something to take.
    pub(crate) lazy: bool,
    /// The inherited environment, less what doorward manages.
    pub(crate) env: Vec<&'static CStr>,
    /// The descriptor limit that workers get back.
    pub(crate) nofile: Option<libc::rlimit>,
}

/// Keeps the backends going, on the control thread.
pub(super) struct Backend {
    service: &'static Service,
    handing: &'static Handing,
    plan: &'static BackendPlan,
    workers: Vec<Worker>,
    /// Numbers given so far.
    starts: u32,
    /// Where workers tell their readiness and status; its abstract name, for NOTIFY_SOCKET.
    notify: Option<(OwnedFd, String)>,
    status: String,
    watchdog: Option<Duration>,
    stack: Stack,
    /// A number that a worker can have for its end of the channel.
    landing: OwnedFd,
    null: OwnedFd,
    /// The control connection to a listening backend, and since when.
    connection: Option<(OwnedFd, Duration)>,
    connect_at: Option<Duration>,
    backoff: Backoff,
    /// Taken back from a channel that was shut down, and not queued again yet.
    returned: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    stopping: bool,
}

impl Backend {
    /// `None` where nothing is handed off.
    ///
    /// # Errors
    /// The system's, where what every backend needs cannot be made.
    pub(super) fn new(
        service: &'static Service,
        landings: &mut Landings,
        watchdog: Option<Duration>,
    ) -> io::Result<Option<Backend>> {
        let (Delivery::Handoff(handing), Some(plan)) =
            (&service.orders.delivery, &service.orders.backend)
        else {
            return Ok(None);
        };
        let [Some(landing), ..] = landings.take().unwrap_or_default() else {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        };
        let now = clock::now();
        let (count, notify) = match plan {
            BackendPlan::Started(workers) => (workers.count, Some(notify_socket(handing.low)?)),
            BackendPlan::Listening { .. } => (0, None),
        };
        if let Some((socket, _)) = &notify {
            service.slots.watch_own(socket.as_fd(), NOTIFY)?;
        }
        Ok(Some(Backend {
            service,
            handing,
            plan,
            workers: (0..count)
                .map(|_| Worker {
                    backoff: Backoff::default(),
                    state: State::Down(now),
                })
                .collect(),
            starts: 0,
            notify,
            status: String::new(),
            watchdog,
            stack: Stack::new()?,
            landing,
            null: sys::fd::lift(crate::report::open_null()?, handing.low)?,
            connection: None,
            connect_at: matches!(plan, BackendPlan::Listening { .. }).then_some(now),
            backoff: Backoff::default(),
            returned: VecDeque::new(),
            stopping: false,
        }))
    }

    /// When there is something to do, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let starts = self
            .workers
            .iter()
            .filter_map(|worker| match &worker.state {
                State::Down(at) if !self.stopping && self.may_start() => Some(*at),
                State::Down(_) => None,
                State::Up(up) => up.kill_at,
            });
        let again = (!self.returned.is_empty()).then(|| clock::now() + SOON);
        starts
            .chain(self.connect_at.filter(|_| !self.stopping))
            .chain(again)
            .min()
    }

    /// Does what is due: starts, connections, ends.
    pub(super) fn see_to(&mut self, now: Duration) {
        if self.handing.broken.swap(false, Ordering::SeqCst) {
            self.exchange_channel(now);
        }
        if !self.returned.is_empty() {
            self.queue_returned();
        }
        for index in 0..self.workers.len() {
            match self.workers.get(index).map(|worker| &worker.state) {
                Some(State::Down(at)) if *at <= now && !self.stopping && self.may_start() => {
                    self.start(index, now)
                }
                Some(State::Up(up)) if up.kill_at.is_some_and(|at| at <= now) => {
                    signal_group(up.pid, Signal::SIGKILL);
                    self.update(index, |up| up.kill_at = None);
                }
                _ => {}
            }
        }
        if !self.stopping && self.connect_at.is_some_and(|at| at <= now) {
            self.connect(now);
        }
        let attended = self.connection.is_some()
            || self
                .workers
                .iter()
                .any(|worker| matches!(worker.state, State::Up(_)));
        self.handing.unattended.store(!attended, Ordering::SeqCst);
        // Between the look and the store a door may have queued something and told nobody.
        if !attended && self.is_lazy() && self.has_work() {
            self.handing.unattended.store(false, Ordering::SeqCst);
        }
    }

    fn is_lazy(&self) -> bool {
        matches!(self.plan, BackendPlan::Started(workers) if workers.lazy)
    }

    fn has_work(&self) -> bool {
        !self.returned.is_empty()
            || self
                .handing
                .channel()
                .waiting()
                .is_ok_and(|waiting| waiting > 0)
    }

    fn may_start(&self) -> bool {
        !self.is_lazy() || self.has_work()
    }

    /// Whether everybody who is to take connections said that it can (a control connection stands for a backend of its own).
    pub(super) fn is_ready(&self) -> bool {
        match self.plan {
            BackendPlan::Started(_) => self
                .workers
                .iter()
                .all(|worker| matches!(&worker.state, State::Up(up) if up.ready)),
            BackendPlan::Listening { .. } => self.connection.is_some(),
        }
    }

    /// Whether those who ever pinged still do.
    pub(super) fn is_well(&self, now: Duration) -> bool {
        let Some(interval) = self.watchdog else {
            return true;
        };
        self.workers.iter().all(|worker| match &worker.state {
            State::Up(up) => up.pinged.is_none_or(|pinged| now <= pinged + interval),
            State::Down(_) => true,
        })
    }

    /// For the status line.
    pub(super) fn status(&self) -> String {
        let state = match self.plan {
            BackendPlan::Started(_) => {
                let up = self
                    .workers
                    .iter()
                    .filter(|worker| matches!(worker.state, State::Up(_)))
                    .count();
                format!("{up}/{} workers", self.workers.len())
            }
            BackendPlan::Listening { .. } if self.connection.is_some() => {
                "backend connected".to_owned()
            }
            BackendPlan::Listening { .. } => "waiting for the backend".to_owned(),
        };
        if self.status.is_empty() {
            state
        } else {
            format!("{state}: {}", self.status)
        }
    }

    /// An event on a descriptor of ours.
    pub(super) fn event(&mut self, number: u32, now: Duration) {
        match number {
            NOTIFY => self.hear(),
            CONNECTION => self.connection_event(now),
            number => {
                let index = self.workers.iter().position(
                    |worker| matches!(&worker.state, State::Up(up) if up.number == number),
                );
                if let Some(index) = index {
                    self.worker_ended(index, now);
                }
            }
        }
    }

    /// Nothing waits for a backend any more.
    pub(super) fn has_taken_all(&self) -> bool {
        !self.has_work()
    }

    /// Ends all workers and starts no more; `now` begins the time until KILL.
    pub(super) fn stop(&mut self, now: Duration) {
        self.stopping = true;
        for index in 0..self.workers.len() {
            self.end(index, now);
        }
        self.connection = None;
    }

    /// KILL at once to those that were told to end.
    pub(super) fn kill(&mut self) {
        for worker in &self.workers {
            if let State::Up(up) = &worker.state {
                signal_group(up.pid, Signal::SIGKILL);
            }
        }
    }

    /// Whether every worker has ended.
    pub(super) fn is_down(&self) -> bool {
        self.workers
            .iter()
            .all(|worker| matches!(worker.state, State::Down(_)))
    }
}
