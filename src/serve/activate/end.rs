//! The end: the daemon is told, has its grace, and what is left of it goes.
#![forbid(unsafe_code)]

use super::{Keeper, State};
use crate::report::event;
use crate::serve::drain::time_until;
use crate::source::Listening;
use crate::{clock, exit};
use sd_notify::NotifyState;
use std::time::Duration;

/// How often it is looked whether others of the daemon's group live on, which nothing tells.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take until what got KILL is gone.
const GONE: Duration = Duration::from_secs(1);

impl Keeper {
    /// Brings the service to its end; gives the exit code.
    ///
    /// The sockets are not shut down: the daemon may still take who waits there, and one that cannot accept any more might spin.
    pub(super) fn end(&mut self) -> u8 {
        let deadline = clock::now() + self.grace;
        let runs = matches!(self.state, State::Running(_));
        event!(
            "drain running={} grace={}",
            u32::from(runs),
            self.grace.as_secs()
        );
        self.manager
            .tell(&[NotifyState::Stopping, time_until(deadline)]);
        self.leave_sockets();
        self.sockets.iter().for_each(Listening::vacate);
        self.end_daemon(deadline);
        event!("stop");
        if self.broken { exit::SYSTEM } else { 0 }
    }

    /// TERM, and KILL to what is left of its group when the time is over or another signal comes.
    fn end_daemon(&mut self, deadline: Duration) {
        let stops = self.stops;
        if let State::Running(running) = &self.state {
            running.end();
        }
        while !self.is_over() && self.stops == stops && clock::now() < deadline {
            self.turn(Some(deadline.min(clock::now() + LOOK)));
            self.end_event();
        }
        if let State::Running(running) = &self.state {
            running.kill();
        }
        let patience = clock::now() + GONE;
        while !self.is_over() && clock::now() < patience {
            self.turn(Some(clock::now() + LOOK));
            self.end_event();
        }
        if let State::Running(running) = &self.state
            && let Some(end) = running.reap()
        {
            let lived = clock::now().saturating_sub(running.began);
            let seconds = crate::report::Seconds(lived);
            event!("daemon exit child={} {end} seconds={seconds}", running.pid);
        }
    }

    /// The daemon's process may have ended; its group gets KILL before it is reaped.
    pub(super) fn end_event(&mut self) {
        if let State::Running(running) = &mut self.state
            && running.ended()
        {
            // Readable from now on, and nothing to be read.
            let _ = self.poll.delete(&running.pidfd);
        }
    }

    fn is_over(&self) -> bool {
        match &self.state {
            State::Running(running) => running.is_over(),
            State::Watching | State::Pausing(_) => true,
        }
    }
}
