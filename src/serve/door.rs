//! A door: takes one connection after the other from accept to exec.
#![forbid(unsafe_code)]

use super::ends::{tell_end, tell_no_program};
use super::slots::Entered;
use super::{Counters, Service, SlotsOf};
use crate::admission::{Full, Peer, Reason, RuleName, Telling, User, Verdict};
use crate::delivery::{Admitted, Beside, Deliver, Held, Newborn, Trouble};
use crate::report::{self, Kind, Throttle, error, event, warning};
use crate::source::Listening;
use crate::sys::socket::PeerName;
use crate::{admission, clock, sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// How long a door waits before it tries again what a limit refused.
const PAUSE: u16 = 50;
/// How long a door that is to leave tries to deliver what it holds; shorter than the control thread waits for it.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// All that doors are short of, in accept or after it, makes one line a second together.
static SHORT: Throttle = Throttle::new();

/// What the control thread knows of a door.
pub(super) struct DoorState {
    /// The socket that it stands at.
    pub(super) socket: usize,
    /// Told to hold no further connection.
    pub(super) leave: AtomicBool,
    /// Told not to wait for a backend any longer.
    pub(super) hurry: AtomicBool,
    place: AtomicU8,
    /// Connections taken so far.
    beat: AtomicU64,
}

/// Where a door is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    /// In accept4.
    Idle,
    /// With a connection, or waiting out an error.
    Busy,
    /// With an admitted connection, until there is room.
    Waiting,
    /// Left for good: holds no connection and never will.
    Gone,
}

impl DoorState {
    pub(super) fn at(socket: usize) -> DoorState {
        DoorState {
            socket,
            leave: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            place: AtomicU8::new(Place::Idle as u8),
            beat: AtomicU64::new(0),
        }
    }

    /// Holds no connection and never will again.
    pub(super) fn is_gone(&self) -> bool {
        self.place.load(Ordering::SeqCst) == Place::Gone as u8
    }

    /// For the watchdog: a door that moved since `last`, or has every right to stand still. Gives what to pass as `last` next time.
    pub(super) fn is_well(&self, last: u64) -> (bool, u64) {
        let beat = self.beat.load(Ordering::SeqCst);
        let busy = self.place.load(Ordering::SeqCst) == Place::Busy as u8;
        (!busy || beat != last, beat)
    }

    fn go(&self, place: Place) {
        self.place.store(place as u8, Ordering::SeqCst);
    }

    fn is_to_leave(&self) -> bool {
        self.leave.load(Ordering::SeqCst)
    }

    fn is_hurried(&self) -> bool {
        self.hurry.load(Ordering::SeqCst)
    }

    fn stir(&self) {
        self.beat.fetch_add(1, Ordering::SeqCst);
    }
}

/// One door at work.
pub(super) struct Door<'a> {
    service: &'a Service,
    state: &'a DoorState,
    desk: Box<dyn Deliver>,
    newborn: Option<Arc<Newborn>>,
    /// Used again for each connection.
    peer: Peer,
    local_path: std::ffi::OsString,
}

impl<'a> Door<'a> {
    pub(super) fn new(
        service: &'a Service,
        state: &'a DoorState,
        desk: Box<dyn Deliver>,
    ) -> Door<'a> {
        let local_path = service
            .orders
            .sockets
            .get(state.socket)
            .map(|socket| socket.address.local_path())
            .unwrap_or_default();
        Door {
            service,
            state,
            newborn: desk.newborn(),
            desk,
            peer: Peer::default(),
            local_path,
        }
    }

    /// Takes connections until told to leave. (Under a name of ours, or `service.ld` would not know it from the start of any thread.)
    #[inline(never)]
    pub(super) fn work(mut self) {
        self.service.has_begun();
        if let Some(socket) = self.service.orders.sockets.get(self.state.socket) {
            while !self.state.is_to_leave() {
                if !self.desk.has_room() {
                    self.state.go(Place::Waiting);
                    continue;
                }
                self.state.go(Place::Idle);
                let accepted = sys::socket::accept(socket.socket());
                self.state.go(Place::Busy);
                self.state.stir();
                match accepted {
                    Ok((connection, name)) => self.attend(connection, &name),
                    Err(error) => {
                        if !self.survives(&error, socket) {
                            break;
                        }
                    }
                }
            }
        }
        self.state.go(Place::Gone);
        self.service.bell.ring();
    }

    /// One connection: who is it, may it, is there room, and off to its child.
    fn attend(&mut self, connection: OwnedFd, name: &PeerName) {
        let service = self.service;
        if let Err(cause) = self
            .peer
            .identify(connection.as_fd(), &service.orders.mapping)
        {
            self.peer.forget();
            return self.refuse(connection, Reason::Identity, format_args!("cause={cause}"));
        }
        let (rule, env, exec) = match service.orders.rules.judge(&self.peer) {
            Verdict::Allow { rule, env, exec } => (rule, env, exec),
            Verdict::Deny(rule) => {
                return self.refuse(connection, Reason::Rule, format_args!("rule={rule}"));
            }
            Verdict::Failed(cause) => {
                self.note_rules(cause);
                return self.refuse(connection, Reason::Rule, format_args!("rule=unreadable"));
            }
        };
        if exec.is_some() && !service.orders.delivery.runs_scripts() {
            return self.refuse(
                connection,
                Reason::Rule,
                format_args!("rule={rule} exec=cannot-run"),
            );
        }
        let number = match service.orders.room.reserve(self.peer.uid, clock::now()) {
            Ok(number) => number,
            Err(Full::MaxPerUser(limit)) => {
                return self.refuse(
                    connection,
                    Reason::MaxPerUser,
                    format_args!("limit={limit}"),
                );
            }
            Err(Full::Rate(rate)) => {
                return self.refuse(connection, Reason::Rate, format_args!("limit={rate}"));
            }
        };
        let slots = self.wait_for_room();
        let peer = std::mem::take(&mut self.peer);
        let local_path = std::mem::take(&mut self.local_path);
        let admitted = Admitted {
            connection,
            peer: &peer,
            peer_name: name.bytes(),
            local_path: &local_path,
            number: Some(number),
            slots,
            rule_env: &env,
            exec: exec.as_deref(),
        };
        self.deliver(admitted, &rule, slots);
        (self.peer, self.local_path) = (peer, local_path);
    }

    fn wait_for_room(&self) -> u32 {
        let slots = self.service.orders.room.enter(|| {
            self.state.go(Place::Waiting);
            // The control thread says so, and when it is over.
            self.service.bell.ring();
        });
        self.state.go(Place::Busy);
        slots
    }

    /// Delivers the connection, trying again as long as only a limit is in the way.
    fn deliver(&mut self, admitted: Admitted<'_>, rule: &RuleName, slots: u32) {
        let user = admitted.peer.uid;
        let mut beside = Beside::default();
        let mut give_up = None;
        loop {
            let delivered = self.desk.deliver(&admitted, &mut beside);
            if let (Err(_), Some(newborn)) = (&delivered, &self.newborn) {
                self.service.slots.stillborn(newborn);
            }
            match delivered {
                Ok(held) => return self.delivered(admitted, held, rule, slots),
                // Nothing is wrong: the control thread gives the backends a time to make room, even at the end.
                Err(Trouble::Full) if !self.state.is_hurried() => {
                    self.state.go(Place::Waiting);
                    self.state.stir();
                }
                Err(Trouble::Full) => {
                    error!(
                        "no backend takes the connection of {}; it is lost",
                        admitted.peer
                    );
                    break;
                }
                Err(Trouble::Later(what, cause)) => {
                    if SHORT.open() {
                        warning!(
                            "unable to {what}: {cause}; pausing {PAUSE} ms, {slots} connections open"
                        );
                    }
                    // At the end there is not much of a later.
                    if self.state.is_to_leave() {
                        let now = clock::now();
                        if now >= *give_up.get_or_insert(now + LAST_TRIES) {
                            error!(
                                "unable to {what}: {cause}; the connection of {} is lost",
                                admitted.peer
                            );
                            break;
                        }
                    }
                    self.ring_if_needed();
                    self.pause();
                }
                Err(Trouble::Client(what, cause)) => {
                    if SHORT.open() {
                        warning!(
                            "unable to {what}: {cause}; closing the connection of {}",
                            admitted.peer
                        );
                    }
                    break;
                }
                Err(Trouble::Program(program, cause)) => {
                    tell_no_program(program, &cause);
                    if beside.greeted() {
                        return self.leave_greeted(admitted.connection, user);
                    }
                    break;
                }
                Err(Trouble::TooLarge(bytes)) => {
                    if SHORT.open() {
                        error!(
                            "unable to hand a connection off: rule {rule} makes a message of {bytes} bytes, over the limit; closing the connection of {}",
                            admitted.peer
                        );
                    }
                    break;
                }
            }
        }
        self.service.orders.room.release(user);
    }

    /// Ends a connection that was greeted and has no child: an unread greeting keeps its slot all the same.
    fn leave_greeted(&self, connection: OwnedFd, user: User) {
        let _ = shutdown(connection.as_raw_fd(), Shutdown::Write);
        let greeting = Some(self.keep(connection));
        let now = clock::now();
        let slots = &self.service.slots;
        if let Entered::Tell = slots.enter(user, Held::Nothing, greeting, now, None, None) {
            self.service.bell.ring();
        }
    }

    /// Notes a delivered connection: the log line, and what keeps its slot.
    fn delivered(&self, admitted: Admitted<'_>, held: Held, rule: &RuleName, slots: u32) {
        let service = self.service;
        let (peer, user) = (admitted.peer, admitted.peer.uid);
        Counters::count(&service.counters.admitted);
        if report::shows(Kind::Connection) {
            let slots = SlotsOf(service, slots);
            match &held {
                Held::Child(child) => report::line(
                    Kind::Connection,
                    format_args!("allow {peer} {slots} rule={rule} child={}", child.pid),
                ),
                Held::Lease(_) | Held::Nothing => report::line(
                    Kind::Connection,
                    format_args!("allow {peer} {slots} rule={rule}"),
                ),
            }
        }
        let greets = service.orders.delivery.greets();
        let greeting = greets.then(|| self.keep(admitted.connection));
        if matches!(held, Held::Nothing) && greeting.is_none() {
            service.orders.room.release(user);
        } else {
            self.enter(user, held, greeting);
        }
        self.ring_if_needed();
    }

    /// Enters what keeps the slot, which may have ended by now.
    fn enter(&self, user: User, held: Held, greeting: Option<OwnedFd>) {
        let service = self.service;
        let began = clock::now();
        let (pid, greeted) = (held.child(), greeting.is_some());
        let lifetime = service.orders.lifetime;
        let newborn = self.newborn.as_deref();
        match service
            .slots
            .enter(user, held, greeting, began, lifetime, newborn)
        {
            Entered::Quietly => {}
            Entered::Tell => service.bell.ring(),
            Entered::Ended(end) => {
                tell_end(service, user, began, pid, &end);
                if !greeted {
                    service.orders.room.release(user);
                }
            }
        }
    }

    fn ring_if_needed(&self) {
        if self.service.takes_news() {
            self.service.bell.ring();
        }
    }

    /// What tells when the greeting of this connection is read: a copy above the numbers that children copy, or the connection itself
    /// where it stands there already, or where no such number is left.
    fn keep(&self, connection: OwnedFd) -> OwnedFd {
        let low = self.service.orders.delivery.low();
        if connection.as_raw_fd() >= low {
            return connection;
        }
        sys::fd::copy_above(connection.as_fd(), low).unwrap_or(connection)
    }

    /// Refuses: one log line, the deny text if there is one, and the end of the connection.
    fn refuse(&self, connection: OwnedFd, reason: Reason, detail: impl Display) {
        let service = self.service;
        Counters::count(&service.counters.refused);
        if let Some(text) = &service.orders.deny_text {
            admission::tell_refused(connection.as_fd(), text);
        }
        drop(connection);
        match service.denials.note(self.peer.uid, reason, clock::now()) {
            Telling::Line => event!(
                "deny {} {} reason={reason} {detail}",
                self.peer,
                SlotsOf(service, service.orders.room.slots())
            ),
            Telling::Suppressed { first: false } => {}
            Telling::Suppressed { first: true } => service.bell.ring(),
        }
        self.ring_if_needed();
    }

    /// Logs that the rules cannot be asked for this peer, unless that is known.
    fn note_rules(&self, cause: String) {
        if let Some(cause) = self.service.troubles.note(self.peer.asker(), cause) {
            error!("{cause}; denying whom this rule concerns");
            self.service.bell.ring();
        }
    }

    /// Whether this door goes on after a failed accept; false when the socket will give no further connection.
    fn survives(&self, cause: &io::Error, socket: &Listening) -> bool {
        let address = &socket.address;
        match cause.raw_os_error().map(Errno::from_raw) {
            // A signal (told to leave, perhaps), or a client that went away while it was in the queue.
            Some(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => true,
            // An inherited socket that is non-blocking (s6-ipcserver-socketbinder makes it so): the flag is everybody's, so it stays.
            Some(Errno::EAGAIN) => {
                self.state.go(Place::Idle);
                let _ = poll(
                    &mut [PollFd::new(socket.socket(), PollFlags::POLLIN)],
                    PollTimeout::NONE,
                );
                true
            }
            // What shutdown of the socket leaves when the queue is empty.
            Some(Errno::EINVAL) => {
                if !self.state.is_to_leave()
                    && !self.service.is_retired(self.state.socket)
                    && SHORT.open()
                {
                    error!(
                        "unable to accept on {address}: another holder of the socket has shut it down"
                    );
                }
                false
            }
            _ => {
                if SHORT.open() {
                    warning!(
                        "unable to accept: {cause}; pausing {PAUSE} ms, {} connections open",
                        self.service.orders.room.slots()
                    );
                }
                self.pause();
                true
            }
        }
    }

    /// Waits a little; the signal to leave ends it.
    fn pause(&self) {
        self.state.stir();
        let _ = poll(&mut [], PollTimeout::from(PAUSE));
    }
}
