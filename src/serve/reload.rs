//! SIGHUP: rules and names anew.
#![forbid(unsafe_code)]

use super::control::Control;
use crate::admission::{self, Rules};
use crate::report::{error, event, warning};
use sd_notify::NotifyState;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a reload has to say when it is done; one at a time.
static RELOADED: AtomicBool = AtomicBool::new(false);

/// Where a reload is.
#[derive(Default)]
pub(super) struct Reload {
    running: bool,
    /// Asked for once more meanwhile.
    again: bool,
}

impl Reload {
    pub(super) fn is_running(&self) -> bool {
        self.running
    }
}

impl Control {
    /// SIGHUP: rules and names anew, in a thread of its own, for a resolver may take its time.
    pub(super) fn reload(&mut self) {
        if self.reload.running {
            self.reload.again = true;
            return;
        }
        self.reload.running = true;
        // A resolver may start a program of its own and wait for it.
        self.watch_each();
        event!("reload");
        match NotifyState::monotonic_usec_now() {
            // In one datagram, or systemd waits for the rest until its timeout.
            // Who is not ready yet has nothing to go back from.
            Ok(_) if self.unready.is_some() => {}
            Ok(now) => self.manager.tell(&[NotifyState::Reloading, now]),
            Err(error) => warning!("unable to read the clock: {error}"),
        }
        let service = self.service;
        let started = std::thread::Builder::new()
            .name("reload".into())
            .spawn(move || {
                reload_rules(&service.orders.rules);
                RELOADED.store(true, Ordering::SeqCst);
                service.bell.ring();
            });
        if let Err(cause) = started {
            error!("unable to start the reload: {cause}; rules and names stay as they are");
            self.reloaded();
        }
    }

    /// Takes the end of a reload down, if one has ended.
    pub(super) fn see_to_reload(&mut self) {
        if RELOADED.swap(false, Ordering::SeqCst) {
            self.reloaded();
        }
    }

    fn reloaded(&mut self) {
        self.reload.running = false;
        if self.unready.is_none() {
            self.manager.tell(&[NotifyState::Ready]);
        }
        event!("reloaded");
        if std::mem::take(&mut self.reload.again) {
            self.reload();
        }
    }
}

fn reload_rules(rules: &Rules) {
    match rules {
        Rules::None => {}
        Rules::Options(list) => {
            let again = admission::current(list).resolve_again();
            admission::exchange(list, again);
        }
        Rules::Stored(stored) => {
            // Nobody is admitted then, for as long as it lasts.
            if let Err(cause) = stored.open_again() {
                error!("unable to open the rules again: {cause}");
            }
        }
    }
}
