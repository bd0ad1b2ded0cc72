//! `doorward activate`: waits for the first client of any socket, starts the daemon with all of them, and waits for its end.
//!
//! One thread, one poll. While the daemon runs the sockets are not in it: their clients are the daemon's, and an event that it does not
//! take must not keep this process busy.
#![forbid(unsafe_code)]

mod again;
mod daemon;
mod end;
mod life;
mod queue;

pub(crate) use daemon::{Daemon, above};

use super::backoff::Backoff;
use super::ready::{Manager, ReadyFd};
use crate::exit::{self, Unable as _};
use crate::report::{Escaped, Seconds, Throttle, error, event};
use crate::source::{Address, Listening};
use crate::sys::spawn::Stack;
use crate::{clock, sys};
use daemon::Running;
use life::{Status, Watchdog};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;
use sd_notify::NotifyState;
use std::time::Duration;

/// How soon it is tried again where the system had no room for a watch.
const SOON: Duration = Duration::from_millis(100);
/// What the poll reports; sockets have their index.
const SIGNALS: u64 = u64::MAX;
const DAEMON: u64 = u64::MAX - 1;

/// What is watched, and for whom.
pub(crate) struct Watch {
    pub(crate) sockets: Vec<Listening>,
    pub(crate) daemon: Daemon,
    pub(crate) signals: SignalFd,
    pub(crate) manager: Manager,
    pub(crate) ready_fd: Option<ReadyFd>,
    /// The manager's watchdog interval.
    pub(crate) watchdog: Option<Duration>,
    /// How long the daemon may take to end.
    pub(crate) grace: Duration,
}

/// Serves until told to stop; gives the exit code.
///
/// # Errors
/// 111: what the service needs cannot be set up.
pub(crate) fn watch(watch: Watch) -> exit::Result<u8> {
    let ready_fd = watch.ready_fd;
    let mut keeper = Keeper {
        poll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unable("create the poll")?,
        stack: Stack::new().unable("make a stack for the daemon")?,
        sockets: watch.sockets,
        daemon: watch.daemon,
        state: State::Watching,
        signals: watch.signals,
        manager: watch.manager,
        watchdog: watch.watchdog.map(Watchdog::new),
        status: Status::default(),
        grace: watch.grace,
        backoff: Backoff::default(),
        fruitless: 0,
        waited: Vec::new(),
        starts: 0,
        stops: 0,
        broken: false,
    };
    keeper
        .poll
        .add(
            &keeper.signals,
            EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS),
        )
        .unable("watch for signals")?;
    keeper.watch_sockets().unable("watch the sockets")?;
    if let Some(ready_fd) = ready_fd {
        ready_fd.announce();
    }
    event!("ready");
    keeper.manager.tell(&[NotifyState::Ready]);
    // A service waits far longer than it starts. Where this is refused, it only takes more memory.
    sys::memory::release_code();
    while keeper.stops == 0 && !keeper.broken {
        keeper.turn(None);
    }
    Ok(keeper.end())
}

struct Keeper {
    sockets: Vec<Listening>,
    daemon: Daemon,
    state: State,
    poll: Epoll,
    /// What a child runs on until its exec.
    stack: Stack,
    signals: SignalFd,
    manager: Manager,
    watchdog: Option<Watchdog>,
    status: Status,
    grace: Duration,
    backoff: Backoff,
    /// Ends in a row that were no failure, and brought nobody forward as far as one can see.
    fruitless: u32,
    /// The clients that waited at the last start, of each socket, where the kernel tells.
    waited: Vec<Option<Vec<u32>>>,
    starts: u64,
    /// Signals to stop that came so far.
    stops: u32,
    /// A socket that somebody shut down: the process ends, with a code that says so.
    broken: bool,
}

enum State {
    /// For the first client.
    Watching,
    /// Until this time, whoever comes.
    Pausing(Duration),
    Running(Running),
}

impl Keeper {
    /// Waits for one round of events, at most until `limit`, and sees to all that is due.
    fn turn(&mut self, limit: Option<Duration>) {
        let mut events = [EpollEvent::empty(); 16];
        let timeout = self.timeout(limit);
        // Interrupted, or short of memory for a moment: the next round sees what this one has not.
        let count = self.poll.wait(&mut events, timeout).unwrap_or(0);
        let mut first = None;
        for event in events.iter().take(count) {
            match event.data() {
                SIGNALS => self.signal_events(),
                DAEMON => self.daemon_event(),
                index => {
                    let gone = EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP;
                    let index = usize::try_from(index).unwrap_or(usize::MAX);
                    if event.events().intersects(gone) {
                        self.broken = true;
                        let socket = self.address(index);
                        error!("somebody shut down {socket}: no client will come there any more");
                    }
                    first.get_or_insert(index);
                }
            }
        }
        if let (Some(index), State::Watching, false, 0) =
            (first, &self.state, self.broken, self.stops)
        {
            self.start(index);
        }
        self.see_to_timers(clock::now());
    }

    fn timeout(&self, limit: Option<Duration>) -> EpollTimeout {
        let pause = match self.state {
            State::Pausing(until) => Some(until),
            State::Watching | State::Running(_) => None,
        };
        let again = self.manager.is_behind().then(|| clock::now() + SOON);
        let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.next);
        let due = [limit, pause, again, watchdog, self.status.due()];
        let Some(next) = due.into_iter().flatten().min() else {
            return EpollTimeout::NONE;
        };
        let wait = next.saturating_sub(clock::now());
        let milliseconds = clock::milliseconds(wait).min(60_000);
        EpollTimeout::try_from(i32::try_from(milliseconds).unwrap_or(60_000))
            .unwrap_or(EpollTimeout::ZERO)
    }

    fn see_to_timers(&mut self, now: Duration) {
        if matches!(self.state, State::Pausing(until) if until <= now) && self.stops == 0 {
            self.go_on_watching(now);
        }
        if self.manager.is_behind() {
            self.manager.catch_up();
        }
        self.pat_watchdog(now);
        self.tell_status(now);
    }

    /// Puts the sockets into the poll.
    fn watch_sockets(&mut self) -> nix::Result<()> {
        for (index, socket) in (0..).zip(&self.sockets) {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            if let Err(error) = self
                .poll
                .add(socket.socket(), EpollEvent::new(flags, index))
            {
                self.leave_sockets();
                return Err(error);
            }
        }
        self.state = State::Watching;
        Ok(())
    }

    /// Takes the sockets out of the poll: what happens there is another's.
    fn leave_sockets(&self) {
        for socket in &self.sockets {
            // One that is not in it needs no more.
            let _ = self.poll.delete(socket.socket());
        }
    }

    fn go_on_watching(&mut self, now: Duration) {
        static FAILED: Throttle = Throttle::new();
        if let Err(error) = self.watch_sockets() {
            if FAILED.open() {
                error!("unable to watch the sockets: {}", error.desc());
            }
            self.state = State::Pausing(now + SOON);
        }
    }

    /// Starts the daemon, because somebody came to the socket of this index.
    fn start(&mut self, index: usize) {
        self.leave_sockets();
        self.status.change();
        self.waited = self.clients();
        let now = clock::now();
        match self.daemon.start(&mut self.stack, &self.sockets) {
            Ok(child) => {
                self.starts = self.starts.saturating_add(1);
                let socket = self.address(index);
                event!("daemon start child={} socket={socket}", child.pid);
                let running = Running::new(child, now);
                let flags = EpollEvent::new(EpollFlags::EPOLLIN, DAEMON);
                if let Err(cause) = self.poll.add(&running.pidfd, flags) {
                    // Unwatched, its end would never be seen: better none than that.
                    error!("unable to watch the daemon: {}", cause.desc());
                    running.kill();
                    let pid = nix::unistd::Pid::from_raw(running.pid);
                    let _ = nix::sys::wait::waitpid(pid, None);
                    self.state = State::Pausing(now + self.backoff.after(Duration::ZERO));
                    return;
                }
                self.state = State::Running(running);
            }
            Err(cause) => {
                let pause = self.backoff.after(Duration::ZERO);
                error!(
                    "unable to start the daemon {}: {cause}; again in {} s",
                    Escaped(self.daemon.program.path.to_bytes()),
                    Seconds(pause)
                );
                self.state = State::Pausing(now + pause);
            }
        }
    }

    fn address(&self, index: usize) -> &Address {
        let socket = self.sockets.get(index);
        socket.map_or(&Address::Unnamed, |socket| &socket.address)
    }

    fn daemon_event(&mut self) {
        if self.stops > 0 {
            return self.end_event();
        }
        let State::Running(running) = &self.state else {
            return;
        };
        let Some(end) = running.reap() else { return };
        let now = clock::now();
        let lived = now.saturating_sub(running.began);
        let (pid, seconds) = (running.pid, Seconds(lived));
        let pause = self.pause_after(end, lived);
        self.status.change();
        self.state = State::Pausing(now + pause);
        if pause.is_zero() {
            event!("daemon exit child={pid} {end} seconds={seconds}");
            self.go_on_watching(now);
        } else {
            let restart = Seconds(pause);
            event!("daemon exit child={pid} {end} seconds={seconds} restart={restart}");
        }
        self.look_for_paths();
    }
}
