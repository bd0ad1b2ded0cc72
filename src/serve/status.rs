//! What the manager hears while the service runs: the status line and the watchdog's pings.
#![forbid(unsafe_code)]

use super::SlotsOf;
use super::control::Control;
use crate::clock;
use crate::report::warning;
use sd_notify::NotifyState;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The manager's watchdog: half of its interval, and when the next ping is due.
pub(super) struct Watchdog {
    pub(super) interval: Duration,
    pub(super) next: Duration,
    /// Connections that each door had taken at the last look.
    pub(super) beats: Vec<u64>,
}

/// The status line.
#[derive(Default)]
pub(super) struct Status {
    last: String,
    pub(super) told: Duration,
    pub(super) stale: bool,
}

impl Control {
    pub(super) fn pat_watchdog(&mut self, now: Duration) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        watchdog.next = now + watchdog.interval;
        let mut well = true;
        for (door, beat) in self.service.doors.iter().zip(&mut watchdog.beats) {
            let (is_well, new) = door.is_well(*beat);
            *beat = new;
            well &= is_well;
        }
        let backend_is_well = self
            .backend
            .as_ref()
            .is_none_or(|backend| backend.is_well(now));
        // Behind what waits already a ping would only be late, and more with each interval.
        if well && backend_is_well && !self.manager.is_behind() {
            self.manager.tell(&[NotifyState::Watchdog]);
        }
        if !well {
            warning!(
                "a door has stood still for half a watchdog interval; the watchdog is not told that all is well"
            );
        }
        if !backend_is_well {
            warning!(
                "a backend has missed its watchdog interval; the watchdog is not told that all is well"
            );
        }
    }

    pub(super) fn status_text(&self) -> String {
        let service = self.service;
        let room = &service.orders.room;
        let sockets = service.orders.sockets.len();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
        let mut text = format!(
            "{}, {} admitted, {} refused, serving {sockets} socket{}",
            SlotsOf(service, room.slots()),
            count(&service.counters.admitted),
            count(&service.counters.refused),
            if sockets == 1 { "" } else { "s" }
        );
        if room.waiting() > 0 {
            text += ", full";
        }
        if let Some(backend) = &self.backend {
            text += &format!(", {}", backend.status());
        }
        if let Some(cause) = service.troubles.latest() {
            text += &format!(", rules failing: {cause}");
        }
        text
    }

    pub(super) fn tell_status(&mut self) {
        self.status.stale = false;
        if !self.manager.is_there() {
            return;
        }
        // Before the text is made: what changes after this rings the bell again.
        self.service.wants_news.store(true, Ordering::SeqCst);
        let text = self.status_text();
        if text != self.status.last {
            self.status.told = clock::now();
            if self.manager.tell_status(&text) {
                self.status.last = text;
            } else {
                self.status.stale = true;
            }
        }
    }
}
