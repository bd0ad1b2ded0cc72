//! The end of the service: no connection that a door or a queue of ours holds is lost, running ones may finish, and then it is over.
#![forbid(unsafe_code)]

use super::backend::Backend;
use super::control::{Control, TERM_TO_KILL};
use super::door::DoorState;
use super::groups;
use crate::report::{event, warning};
use crate::source::Listening;
use crate::{clock, sys};
use sd_notify::NotifyState;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is queued on sockets of our own is delivered for at least this long.
const QUEUE: Duration = Duration::from_secs(1);
/// How often a door is asked again to leave: the signal may come just before its accept4.
const AGAIN: Duration = Duration::from_millis(2);
/// How often it is looked whether the channel is empty, which nothing tells.
const LOOK: Duration = Duration::from_millis(10);
/// What the manager grants beyond the grace: TERM to KILL, and some.
const MARGIN: Duration = Duration::from_secs(20);
/// How often the manager is asked again for the time that is left: it forgets what it granted when it reloads its units.
const ASK_AGAIN: Duration = Duration::from_secs(2);

impl Control {
    /// Brings the service to its end; gives the exit code.
    pub(super) fn drain(&mut self) -> u8 {
        let grace = self.service.orders.grace;
        let began = clock::now();
        let deadline = began + grace;
        event!(
            "drain slots={} running={} grace={}",
            self.service.orders.room.slots(),
            self.service.slots.running(),
            grace.as_secs()
        );
        self.manager
            .tell(&[NotifyState::Stopping, time_until(deadline)]);
        self.close_doors(began + grace.max(QUEUE));
        self.empty_channel();
        if !grace.is_zero() {
            self.await_children(deadline);
            self.end_children();
        }
        self.end_backends();
        event!(
            "stop slots={} running={}",
            self.service.orders.room.slots(),
            self.service.slots.running()
        );
        self.code()
    }

    /// Lets running connections finish until `deadline`.
    fn await_children(&mut self, deadline: Duration) {
        let mut ask = clock::now() + ASK_AGAIN;
        while self.service.slots.running() > 0 && self.stops < 2 && clock::now() < deadline {
            self.turn(Some(deadline.min(ask)));
            if clock::now() >= ask {
                self.manager.tell(&[time_until(deadline)]);
                ask = clock::now() + ASK_AGAIN;
            }
        }
    }

    /// Ends accepting. Own sockets: nobody new gets in, and what is queued is delivered until `deadline`. Inherited ones: the queue is
    /// the manager's, and waits for the next of us.
    fn close_doors(&mut self, deadline: Duration) {
        let service = self.service;
        service.retired.store(true, Ordering::SeqCst);
        service.orders.sockets.iter().for_each(Listening::retire);
        if service.orders.sockets.iter().any(Listening::is_own) {
            while !self.all_gone() && self.stops < 2 && clock::now() < deadline {
                self.turn(Some(deadline));
            }
        }
        for door in &service.doors {
            door.leave.store(true, Ordering::SeqCst);
        }
        // What a door holds by now is delivered, even beyond --max.
        service.orders.room.open_beyond();
        let patience = clock::now() + TERM_TO_KILL;
        while !self.all_gone() && clock::now() < patience {
            for (state, handle) in service.doors.iter().zip(&self.doors) {
                if !state.is_gone() {
                    sys::signal::interrupt(handle);
                }
            }
            self.turn(Some(clock::now() + AGAIN));
        }
        for door in &service.doors {
            door.hurry.store(true, Ordering::SeqCst);
        }
        let patience = clock::now() + QUEUE;
        while !self.all_gone() && clock::now() < patience {
            self.turn(Some(clock::now() + AGAIN));
        }
        if !self.all_gone() {
            warning!("a door does not come back from a connection; going on without it");
        }
    }

    /// What waits in the channel is taken first, by backends that still run.
    fn empty_channel(&mut self) {
        let patience = clock::now() + TERM_TO_KILL;
        let taken = |control: &Control| control.backend.as_ref().is_none_or(Backend::has_taken_all);
        while !taken(self) && self.stops < 2 && clock::now() < patience {
            self.turn(Some(clock::now() + LOOK));
        }
        if !taken(self) {
            warning!(
                "backends have not taken all connections from the channel; those that wait there are lost"
            );
        }
    }

    /// TERM to the workers, KILL to what is left when the time is over or another signal comes.
    fn end_backends(&mut self) {
        let now = clock::now();
        let Some(backend) = &mut self.backend else {
            return;
        };
        backend.stop(now);
        let (deadline, stops) = (now + TERM_TO_KILL, self.stops);
        let down = |control: &Control| control.backend.as_ref().is_none_or(Backend::is_down);
        while !down(self) && self.stops == stops && clock::now() < deadline {
            self.turn(Some(deadline));
        }
        if let Some(backend) = &mut self.backend {
            backend.kill();
        }
        let patience = clock::now() + QUEUE;
        while !down(self) && clock::now() < patience {
            self.turn(Some(patience));
        }
    }

    fn all_gone(&self) -> bool {
        self.service.doors.iter().all(DoorState::is_gone)
    }

    /// TERM to all that still run, KILL to what is left of their groups when the time is over or another signal comes.
    fn end_children(&mut self) {
        let now = clock::now();
        for (key, _) in self.service.slots.with_child() {
            self.condemn(key, now, "drain");
        }
        let (deadline, stops) = (now + TERM_TO_KILL, self.stops);
        while self.groups_left() && self.stops == stops && clock::now() < deadline {
            self.turn(Some(deadline.min(clock::now() + Duration::from_millis(50))));
        }
        self.finish_all_off();
        let patience = clock::now() + Duration::from_secs(1);
        while self.service.slots.running() > 0 && clock::now() < patience {
            self.turn(Some(patience));
        }
    }

    /// Whether any process but a zombie is left in the groups of the children (their leaders may have ended, others not).
    fn groups_left(&self) -> bool {
        if self.service.slots.running() > 0 {
            return true;
        }
        let groups: std::collections::HashSet<i32> = self
            .service
            .slots
            .with_child()
            .into_iter()
            .map(|(_, pid)| pid)
            .collect();
        if groups.is_empty() {
            return false;
        }
        groups::any_alive(&groups)
    }
}

/// What the manager is to grant from now on: up to `deadline`, and what comes after it.
pub(super) fn time_until(deadline: Duration) -> NotifyState<'static> {
    let left = deadline.saturating_sub(clock::now()) + QUEUE + MARGIN;
    NotifyState::ExtendTimeoutUsec(u32::try_from(left.as_micros()).unwrap_or(u32::MAX))
}
