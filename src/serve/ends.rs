//! The ends of children, leases and greetings: a slot is given back when nothing holds it any more.
#![forbid(unsafe_code)]

use super::Service;
use super::control::{CHILDREN, Control, TERM_TO_KILL};
use super::few::FEW;
use super::slots::Key;
use crate::admission::{User, UserIs};
use crate::delivery::Held;
use crate::report::{self, Escaped, Kind, OrDash, Seconds, Throttle, error};
use crate::sys::spawn::Failure;
use crate::sys::wait::End;
use crate::{clock, sys};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::{Pid, getpgid};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

/// The status of a child that cannot become its program.
const NO_PROGRAM: libc::c_int = 127;

impl Control {
    /// Children have ended that nobody watches each by itself.
    pub(super) fn children_event(&mut self) {
        // Before they are asked for: who ends later makes it readable once more.
        if let Some(ends) = &self.ends {
            let _ = ends.read_signal();
        }
        while let Ok(Some((pid, end))) = sys::wait::reap_any() {
            if let Some(key) = self.service.slots.ended(pid, end) {
                self.tell_end(key, Some(pid), &end);
                self.end_slot(key, true);
            }
        }
    }

    /// From now on each child is watched by itself: there are many, or one must not be reaped when it ends, or other children than the
    /// doors' are about. For whom there is no descriptor now is asked for alone, and tried again soon.
    pub(super) fn watch_each(&mut self) {
        if let Some(ends) = &self.ends
            && !std::mem::replace(&mut self.watches_each, true)
        {
            let _ = self.service.slots.unwatch_own(ends.as_fd());
        }
        let slots = &self.service.slots;
        for (pid, key) in slots.watch_each() {
            // Only this thread reaps, so the number is still the child's.
            match sys::process::open(pid) {
                Ok(pidfd) => slots.watch_child(key, pidfd),
                Err(_) => {
                    slots.leave_unwatched(pid, key);
                    self.end_event(key);
                }
            }
        }
    }

    /// Asks for all children together again, if there are few and nothing is against it.
    pub(super) fn watch_together_if_few(&mut self) {
        if !self.watches_each
            || !self.condemned.is_empty()
            || self.reload.is_running()
            || self.service.slots.running() > FEW
        {
            return;
        }
        let Some(ends) = &self.ends else { return };
        if self.service.slots.watch_own(ends.as_fd(), CHILDREN).is_ok() {
            self.service.slots.watch_together();
            self.watches_each = false;
            // Those that have ended meanwhile.
            self.children_event();
        }
    }

    /// What held a slot has ended: its child, or the lease that a backend had.
    pub(super) fn end_event(&mut self, key: Key) {
        let holder = self
            .service
            .slots
            .with(key, |slot| (slot.child(), slot.condemned));
        match holder {
            Some((Some(pid), condemned)) => self.child_event(key, pid, condemned),
            Some((None, _)) => {
                self.tell_end(key, None, &End::Unknown);
                self.end_slot(key, true);
            }
            None => {}
        }
    }

    fn child_event(&mut self, key: Key, pid: libc::pid_t, condemned: bool) {
        // A condemned child stays unreaped until its group got KILL: its number must not become another's before.
        let end = if condemned {
            sys::wait::peek(pid)
        } else {
            sys::wait::reap(pid)
        };
        let end = match end {
            Ok(Some(end)) => end,
            Ok(None) => return self.service.slots.watch_child_again(key),
            // Nobody else reaps our children; if it is gone all the same, so is its slot.
            Err(_) => End::Unknown,
        };
        self.tell_end(key, Some(pid), &end);
        self.end_slot(key, !condemned);
    }

    /// Nothing holds a slot any more, but perhaps an unread greeting; `drop_holder` unless a condemned child is still to be reaped.
    fn end_slot(&mut self, key: Key, drop_holder: bool) {
        self.service.slots.holder_ended(key);
        let greeting = self.service.slots.with(key, |slot| {
            if drop_holder {
                slot.held = Held::Nothing;
            }
            slot.greeting.take()
        });
        match greeting.flatten() {
            Some(greeting) if is_read(&greeting) => self.service.slots.unwatch(greeting),
            Some(greeting) => {
                // Its client may still read what the child wrote, and the greeting; then the copy goes too.
                let _ = shutdown(greeting.as_raw_fd(), Shutdown::Write);
                self.service
                    .slots
                    .with(key, |slot| slot.greeting = Some(greeting));
            }
            None => {}
        }
        self.settle(key);
    }

    fn tell_end(&self, key: Key, pid: Option<libc::pid_t>, end: &End) {
        if let Some((user, began)) = self.service.slots.with(key, |slot| (slot.user, slot.began)) {
            tell_end(self.service, user, began, pid, end);
        }
    }

    /// Something happened on a connection whose greeting was unread: is it read now?
    pub(super) fn greeting_event(&mut self, key: Key) {
        let Some(Some(greeting)) = self.service.slots.with(key, |slot| slot.greeting.take()) else {
            return;
        };
        if is_read(&greeting) {
            self.service.slots.unwatch(greeting);
            self.settle(key);
        } else {
            self.service
                .slots
                .with(key, |slot| slot.greeting = Some(greeting));
        }
    }

    /// Gives the slot back as soon as neither child nor greeting holds it.
    fn settle(&mut self, key: Key) {
        let freed = self.service.slots.with(key, |slot| {
            let free = slot.ended && slot.greeting.is_none() && !slot.released;
            slot.released |= free;
            free.then_some(slot.user)
        });
        if let Some(Some(user)) = freed {
            self.service.orders.room.release(user);
            self.status.stale |= self.manager.is_there();
        }
        self.service.slots.remove_if_done(key);
    }

    /// TERM to a child's group now, KILL in a while.
    pub(super) fn condemn(&mut self, key: Key, now: Duration, why: &str) {
        self.watch_each();
        let pid = self.service.slots.with(key, |slot| {
            let runs = !slot.ended && !slot.condemned;
            slot.condemned |= runs;
            if runs { slot.child() } else { None }
        });
        let Some(Some(pid)) = pid else { return };
        if report::shows(Kind::Connection) {
            report::line(
                Kind::Connection,
                format_args!("term child={pid} reason={why}"),
            );
        }
        // The child is not reaped yet, so the number is its own. A stopped one could not act on TERM.
        signal_group(pid, Signal::SIGTERM);
        signal_group(pid, Signal::SIGCONT);
        self.condemned.push_back((now + TERM_TO_KILL, key));
    }

    /// KILL to what is left of a condemned child's group; a child that ended meanwhile can be reaped now.
    pub(super) fn finish_off(&mut self, key: Key) {
        let Some((Some(pid), ended)) = self
            .service
            .slots
            .with(key, |slot| (slot.child(), slot.ended))
        else {
            return;
        };
        signal_group(pid, Signal::SIGKILL);
        if ended {
            let _ = sys::wait::reap(pid);
            self.service
                .slots
                .with(key, |slot| slot.held = Held::Nothing);
            self.settle(key);
        } else {
            // Its end is reaped as any other's.
            self.service.slots.with(key, |slot| slot.condemned = false);
        }
    }

    /// KILL at once to every group that was told to end.
    pub(super) fn finish_all_off(&mut self) {
        while let Some((_, key)) = self.condemned.pop_front() {
            self.finish_off(key);
        }
    }
}

/// The line for the end of what held the slot of a connection; and why its child never was its program, if so.
pub(super) fn tell_end(
    service: &Service,
    user: User,
    began: Duration,
    pid: Option<libc::pid_t>,
    end: &End,
) {
    if let (Some(pid), End::Code(NO_PROGRAM)) = (pid, end) {
        match (
            service.slots.failure(pid),
            service.orders.delivery.program(),
        ) {
            (Some(Failure::NoProgram(cause)), Some(program)) => {
                tell_no_program(Escaped(program.to_bytes()), &cause);
            }
            (Some(Failure::NoProcess(cause)), _) => tell_no_program("a child", &cause),
            (Some(Failure::NoProgram(_)), None) | (None, _) => {}
        }
    }
    if !report::shows(Kind::Connection) {
        return;
    }
    let seconds = Seconds(clock::now().saturating_sub(began));
    report::line(
        Kind::Connection,
        format_args!(
            "end child={} {} {end} seconds={seconds}",
            OrDash(pid),
            UserIs(user)
        ),
    );
}

/// Says that a connection is lost because its program cannot be run; with many of them, once a second.
pub(super) fn tell_no_program(program: impl Display, cause: &io::Error) {
    static THROTTLE: Throttle = Throttle::new();
    if THROTTLE.open() {
        error!("unable to run {program}: {cause}");
    }
}

/// Signals the group that a child leads, and the child itself if it has left that group. The child is not reaped yet, so the numbers
/// are its own.
pub(super) fn signal_group(pid: libc::pid_t, signal: Signal) {
    let pid = Pid::from_raw(pid);
    if killpg(pid, signal).is_err() || getpgid(Some(pid)) != Ok(pid) {
        let _ = kill(pid, signal);
    }
}

/// Whether the client has read everything, greeting included, or is gone.
fn is_read(connection: &OwnedFd) -> bool {
    let mut gone = [PollFd::new(connection.as_fd(), PollFlags::empty())];
    let hung_up = poll(&mut gone, PollTimeout::ZERO).is_ok_and(|count| count > 0);
    hung_up || sys::socket::unread_by_peer(connection.as_fd()).is_ok_and(|bytes| bytes == 0)
}
