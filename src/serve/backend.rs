//! Those who take what is handed off: started and restarted, or connected to and connected again.
#![forbid(unsafe_code)]

use super::Service;
use super::control::{TERM_TO_KILL, signal_group};
use crate::admission::{List, Mapping, Peer, Verdict};
use crate::clock;
use crate::delivery::{Channel, Delivery, Handing, Landings, Program};
use crate::report::{Escaped, Seconds, Throttle, error, event, warning};
use crate::source::Address;
use crate::sys;
use crate::sys::cvec::CVec;
use crate::sys::scm;
use crate::sys::spawn::{Failure, Job, Stack, spawn};
use crate::sys::wait::End;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, getsockname, setsockopt, socket,
    sockopt,
};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The first pause before a new start, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Who has lived for this long is no failure, however it ended.
const SUCCESS: Duration = Duration::from_secs(10);
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
        path: PathBuf,
        servers: List,
    },
}

/// Programs of ours that share the channel.
pub(crate) struct Workers {
    pub(crate) program: Program,
    pub(crate) count: u32,
    /// Not before there is something to take.
    pub(crate) lazy: bool,
    /// The inherited environment, less what doorward manages.
    pub(crate) env: Vec<OsString>,
    /// The descriptor limit that workers get back.
    pub(crate) nofile: Option<libc::rlimit>,
}

/// Pauses that double with each failure.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after an end that came `lived` after the start.
    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= SUCCESS {
            self.failures = 0;
        }
        let pause = FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }
}

/// One worker.
struct Worker {
    backoff: Backoff,
    state: State,
}

enum State {
    /// To be started at this time (with `--lazy`: not before there is something to take).
    Down(Duration),
    Up(Up),
}

struct Up {
    pid: libc::pid_t,
    _pidfd: OwnedFd,
    number: u32,
    began: Duration,
    ready: bool,
    /// When it pinged last, once it has.
    pinged: Option<Duration>,
    /// Told to end; its group gets KILL at this time.
    kill_at: Option<Duration>,
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
            NOTIFY => self.hear(now),
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

    fn update(&mut self, index: usize, change: impl FnOnce(&mut Up)) {
        if let Some(Worker {
            state: State::Up(up),
            ..
        }) = self.workers.get_mut(index)
        {
            change(up);
        }
    }

    fn start(&mut self, index: usize, now: Duration) {
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

    fn spawn(&mut self, plan: &Workers) -> io::Result<sys::spawn::Child> {
        let mut argv = CVec::default();
        for word in &plan.program.argv {
            argv.push(&[word.as_bytes()]);
        }
        let mut envp = CVec::default();
        for entry in &plan.env {
            envp.push(&[entry.as_bytes()]);
        }
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
            },
        );
        let _ = sys::fd::replace(self.null.as_fd(), &self.landing);
        child.map_err(|failure| match failure {
            Failure::NoProcess(error) | Failure::NoProgram(error) => error,
        })
    }

    fn worker_ended(&mut self, index: usize, now: Duration) {
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

    /// What workers say on the notification socket; others are not heard.
    fn hear(&mut self, _now: Duration) {
        let mut text = [0; 4096];
        // Everybody may send here, without end: the other events have their turn in between.
        for _ in 0..AT_ONCE {
            let Some((socket, _)) = &self.notify else {
                return;
            };
            let Ok(received) = scm::receive(socket.as_fd(), &mut text, libc::MSG_DONTWAIT) else {
                return;
            };
            let index = self.workers.iter().position(
                |worker| matches!(&worker.state, State::Up(up) if received.sender == Some(up.pid)),
            );
            let (Some(index), Some(said)) = (index, text.get(..received.length)) else {
                continue;
            };
            for line in said.split(|&byte| byte == b'\n') {
                match line {
                    b"READY=1" => self.update(index, |up| up.ready = true),
                    b"WATCHDOG=1" => self.update(index, |up| up.pinged = Some(clock::now())),
                    b"STOPPING=1" => self.update(index, |up| up.ready = false),
                    _ => {
                        if let Some(status) = line.strip_prefix(b"STATUS=") {
                            self.status = String::from_utf8_lossy(status)
                                .chars()
                                .filter(|letter| !letter.is_control())
                                .take(200)
                                .collect();
                        }
                    }
                }
            }
        }
    }

    /// Connects to a listening backend, looks who it is, and gives it the channel.
    fn connect(&mut self, now: Duration) {
        static WAITING: Throttle = Throttle::new();
        let BackendPlan::Listening { path, servers } = self.plan else {
            return;
        };
        self.connect_at = None;
        let shown = Address::Path(path.clone());
        match self.try_to_connect(path, servers) {
            Ok(connection) => {
                event!("backend start path={shown}");
                // That it is there again is all that doorward can see of its success.
                self.backoff = Backoff::default();
                self.connection = Some((connection, now));
            }
            Err(cause) => {
                let pause = self.backoff.after(Duration::ZERO);
                self.connect_at = Some(now + pause);
                if WAITING.open() {
                    event!(
                        "backend wait path={shown} cause={} again={}",
                        Escaped(cause.to_string().as_bytes()),
                        Seconds(pause)
                    );
                }
            }
        }
    }

    fn try_to_connect(&self, path: &std::path::Path, servers: &List) -> io::Result<OwnedFd> {
        let connection = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )?;
        let connection = sys::fd::lift(connection, self.handing.low)?;
        connect(connection.as_raw_fd(), &UnixAddr::new(path)?)?;
        let mut server = Peer::default();
        server.identify(connection.as_fd(), &Mapping::read())?;
        if !matches!(servers.judge(&server), Verdict::Allow { .. }) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("who serves it is not who --server says: {server}"),
            ));
        }
        let channel = self.handing.channel();
        scm::send(
            connection.as_fd(),
            b"HANDOFF=1\0HANDOFF_FDS=channel\0",
            &[channel.backend_end()],
        )?;
        self.service
            .slots
            .watch_own(connection.as_fd(), CONNECTION)?;
        Ok(connection)
    }

    fn connection_event(&mut self, now: Duration) {
        let Some((connection, began)) = &self.connection else {
            return;
        };
        // A backend has nothing to say here; its end of file is its death.
        match scm::receive(connection.as_fd(), &mut [0; 4096], libc::MSG_DONTWAIT) {
            Ok(received) if received.length > 0 => return,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return;
            }
            _ => {}
        }
        let lived = now.saturating_sub(*began);
        let pause = self.backoff.after(lived);
        self.connection = None;
        self.connect_at = Some(now + pause);
        if let BackendPlan::Listening { path, .. } = self.plan {
            event!(
                "backend exit path={} seconds={} again={}",
                Address::Path(path.clone()),
                Seconds(lived),
                Seconds(pause)
            );
        }
    }

    /// Some backend shut the channel down: a new one, with everything that the old one still holds, and new backends.
    fn exchange_channel(&mut self, now: Duration) {
        let old = self.handing.channel();
        if !old.is_broken() {
            return;
        }
        let channel = match Channel::new(self.handing.low) {
            Ok(channel) => channel,
            Err(cause) => {
                warning!("unable to make a new channel: {cause}");
                self.handing.broken.store(true, Ordering::SeqCst);
                return;
            }
        };
        error!("a backend shut the channel down; taking back what is queued, and starting anew");
        while let Some(message) = old.take_back() {
            self.returned.push_back(message);
        }
        *self
            .handing
            .channel
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(channel);
        self.queue_returned();
        for index in 0..self.workers.len() {
            self.end(index, now);
        }
        if self.connection.take().is_some() {
            self.connect_at = Some(now + self.backoff.after(Duration::ZERO));
        }
    }

    fn queue_returned(&mut self) {
        let channel = self.handing.channel();
        while let Some((payload, descriptors)) = self.returned.front() {
            let descriptors: Vec<_> = descriptors
                .iter()
                .map(|descriptor| descriptor.as_fd())
                .collect();
            if !channel.put_back(payload, &descriptors) {
                return;
            }
            self.returned.pop_front();
        }
    }

    /// TERM to a worker's group now, KILL in a while.
    fn end(&mut self, index: usize, now: Duration) {
        self.update(index, |up| {
            signal_group(up.pid, Signal::SIGTERM);
            signal_group(up.pid, Signal::SIGCONT);
            up.kill_at = Some(now + TERM_TO_KILL);
        });
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

/// A datagram socket with a name that the kernel chose in the abstract namespace; each message tells its sender's pid.
fn notify_socket(low: std::os::fd::RawFd) -> io::Result<(OwnedFd, String)> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let socket = sys::fd::lift(socket, low)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
    let address: UnixAddr = getsockname(socket.as_raw_fd())?;
    let name = address
        .as_abstract()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    name.map(|name| (socket, name))
        .ok_or_else(|| io::Error::other("the kernel gave the notification socket no name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_success_begins_anew() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9)
            .map(|_| backoff.after(Duration::from_secs(1)).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(backoff.after(SUCCESS), FIRST_PAUSE);
        assert_eq!(backoff.after(Duration::ZERO), FIRST_PAUSE * 2);
    }

    #[test]
    fn the_notification_socket_has_a_name() -> io::Result<()> {
        let (_socket, name) = notify_socket(3)?;
        assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit()) && !name.is_empty());
        Ok(())
    }
}
