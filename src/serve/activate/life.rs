//! What the manager hears and asks: signals, the status line, the watchdog's pings.
#![forbid(unsafe_code)]

use super::{Keeper, State};
use crate::clock;
use crate::report::{event, warning};
use crate::sys;
use nix::sys::signal::Signal;
use sd_notify::NotifyState;
use std::time::Duration;

/// Status lines come at most this often.
const SECOND: Duration = Duration::from_secs(1);

/// The manager's watchdog: half of its interval, and when the next ping is due.
pub(super) struct Watchdog {
    interval: Duration,
    pub(super) next: Duration,
}

impl Watchdog {
    pub(super) fn new(interval: Duration) -> Watchdog {
        Watchdog {
            interval: interval / 2,
            next: clock::now(),
        }
    }
}

/// The status line.
pub(super) struct Status {
    told: Option<Duration>,
    stale: bool,
}

impl Default for Status {
    fn default() -> Status {
        Status {
            told: None,
            stale: true,
        }
    }
}

impl Status {
    /// There is something new to tell.
    pub(super) fn change(&mut self) {
        self.stale = true;
    }

    /// When it is to be told, if there is something to tell.
    pub(super) fn due(&self) -> Option<Duration> {
        let due = self.told.map_or(Duration::ZERO, |told| told + SECOND);
        self.stale.then_some(due)
    }
}

impl Keeper {
    pub(super) fn signal_events(&mut self) {
        while let Some(signal) = sys::signal::next(&self.signals) {
            match signal {
                Signal::SIGTERM | Signal::SIGINT => self.stops += 1,
                Signal::SIGHUP => self.reload(),
                Signal::SIGUSR1 => event!("status {}", self.status_text()),
                _ => {}
            }
        }
    }

    /// There are no rules to read again; a manager that asked for a reload waits for its end all the same.
    fn reload(&mut self) {
        event!("reload: activate has nothing to reload");
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.manager.tell(&[NotifyState::Reloading, now]),
            Err(error) => warning!("unable to read the clock: {error}"),
        }
        self.manager.tell(&[NotifyState::Ready]);
    }

    fn status_text(&self) -> String {
        let daemon = match &self.state {
            State::Watching => "waiting for a client".to_owned(),
            State::Pausing(_) => "pausing before the daemon is started again".to_owned(),
            State::Running(running) => format!("daemon {} runs", running.pid),
        };
        let sockets = self.sockets.len();
        format!(
            "{daemon}, started {} times, serving {sockets} socket{}",
            self.starts,
            if sockets == 1 { "" } else { "s" }
        )
    }

    pub(super) fn tell_status(&mut self, now: Duration) {
        if self.status.due().is_none_or(|due| due > now) {
            return;
        }
        self.status.stale = false;
        if self.manager.is_there() {
            self.status.told = Some(now);
            // A manager that is behind hears the next one.
            self.status.stale = !self.manager.tell_status(&self.status_text());
        }
    }

    pub(super) fn pat_watchdog(&mut self, now: Duration) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        if watchdog.next > now {
            return;
        }
        watchdog.next = now + watchdog.interval;
        // Behind what waits already a ping would only be late, and more with each interval.
        if !self.manager.is_behind() {
            self.manager.tell(&[NotifyState::Watchdog]);
        }
    }
}
