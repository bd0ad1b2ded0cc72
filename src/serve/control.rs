//! The control thread: signals, readiness, watchdog, status, reload, the ends of children and the end of the service.
#![forbid(unsafe_code)]

use super::backend::Backend;
use super::bell::Bell;
use super::door::{Door, DoorState};
use super::ready::{Manager, ReadyFd};
use super::slots::{Event, Key, Slots};
use super::troubles::Troubles;
use super::{Counters, Orders, Service, SlotsOf, spawning_doors_each};
use crate::admission::{self, Denials, RuleTree, Rules};
use crate::delivery::{Delivery, Held, Landings};
use crate::exit::{self, Unable as _};
use crate::report::{self, Kind, OrDash, Seconds, error, event, warning};
use crate::sys::wait::End;
use crate::{clock, sys};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollTimeout};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::{Pid, getpgid};
use sd_notify::NotifyState;
use std::collections::VecDeque;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// From TERM to KILL.
pub(super) const TERM_TO_KILL: Duration = Duration::from_secs(5);
/// Status lines, and lines that sum up, come at most this often.
const SECOND: Duration = Duration::from_secs(1);
/// How soon what could not be done for want of room is tried again.
const SOON: Duration = Duration::from_millis(100);

const SIGNALS: u32 = 1;
const BELL: u32 = 2;

/// Serves until told to stop; gives the exit code.
///
/// # Errors
/// 111: what the service needs cannot be set up.
pub(crate) fn run(
    orders: Orders,
    landings: Landings,
    signals: SignalFd,
    manager: Manager,
    ready_fd: Option<ReadyFd>,
    watchdog: Option<Duration>,
) -> exit::Result<u8> {
    let mut control = Control::new(orders, landings, signals, manager, watchdog)?;
    control.open_doors()?;
    control.unready = Some(ready_fd);
    while !control.is_to_stop() {
        control.announce();
        control.turn(None);
    }
    Ok(control.drain())
}

pub(super) struct Control {
    /// Lives as long as the process, as the doors do.
    pub(super) service: &'static Service,
    pub(super) doors: Vec<JoinHandle<()>>,
    pub(super) manager: Manager,
    /// Signals to stop that came so far.
    pub(super) stops: u32,
    signals: SignalFd,
    /// The numbers that doors and children use, held for good.
    landings: Landings,
    pub(super) backend: Option<Backend>,
    /// Not said yet that the service is ready.
    unready: Option<Option<ReadyFd>>,
    /// Children that got TERM, and when their groups get KILL.
    condemned: VecDeque<(Duration, Key)>,
    timers: Timers,
    watchdog: Option<Watchdog>,
    status: Status,
    /// A socket that somebody else shut down: the process ends, with a code that says so.
    broken: bool,
}

/// When to look again, where something is going on.
#[derive(Default)]
struct Timers {
    denials: Option<Duration>,
    /// Set while doors wait for room.
    full: Option<Duration>,
    again: Option<Duration>,
    /// Set while the rules cannot be asked for somebody.
    rules: Option<Duration>,
    reload_again: bool,
    reloading: bool,
}

struct Watchdog {
    interval: Duration,
    next: Duration,
    beats: Vec<u64>,
}

#[derive(Default)]
struct Status {
    last: String,
    told: Duration,
    stale: bool,
}

/// What a reload has to say when it is done; one at a time.
static RELOADED: AtomicBool = AtomicBool::new(false);

impl Control {
    fn new(
        orders: Orders,
        landings: Landings,
        signals: SignalFd,
        manager: Manager,
        watchdog: Option<Duration>,
    ) -> exit::Result<Control> {
        let low = orders.delivery.low();
        let slots = Slots::new(low).unable("create the poll")?;
        let bell = Bell::new(low).unable("create an event descriptor")?;
        slots
            .watch_own(signals.as_fd(), SIGNALS)
            .unable("watch for signals")?;
        slots
            .watch_own(bell.descriptor(), BELL)
            .unable("watch the doors")?;
        // A hand-off keeps its thread for no time, and the channel is one.
        let each = match &orders.delivery {
            Delivery::Spawn(_) => spawning_doors_each(orders.sockets.len()),
            Delivery::Handoff(_) => 1,
        };
        let doors = (0..orders.sockets.len())
            .flat_map(|socket| (0..each).map(move |_| DoorState::at(socket)))
            .collect::<Vec<_>>();
        let beats = vec![0; doors.len()];
        let service = Box::leak(Box::new(Service {
            orders,
            slots,
            bell,
            denials: Denials::default(),
            doors,
            counters: Counters::default(),
            troubles: Troubles::default(),
            wants_news: AtomicBool::new(manager.is_there()),
            retired: AtomicBool::new(false),
        }));
        let watchdog = watchdog.map(|interval| Watchdog {
            interval: interval / 2,
            next: clock::now(),
            beats,
        });
        Ok(Control {
            service,
            doors: Vec::new(),
            manager,
            stops: 0,
            signals,
            landings,
            backend: None,
            unready: None,
            condemned: VecDeque::new(),
            timers: Timers::default(),
            watchdog,
            status: Status::default(),
            broken: false,
        })
    }

    fn open_doors(&mut self) -> exit::Result<()> {
        let service = self.service;
        let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.interval * 2);
        self.backend = Backend::new(service, &mut self.landings, watchdog)
            .unable("make the channel's other side")?;
        let benches = service
            .doors
            .iter()
            .map(|_| service.orders.delivery.desk(&mut self.landings))
            .collect::<std::io::Result<Vec<_>>>();
        for (state, bench) in service
            .doors
            .iter()
            .zip(benches.unable("make a stack for children")?)
        {
            let door = move || {
                Door::new(service, state, bench).work();
                // The kernel takes the thread that created a child for its parent: doors live as long as the process.
                loop {
                    std::thread::park();
                }
            };
            self.doors.push(
                std::thread::Builder::new()
                    .name("door".into())
                    .stack_size(128 * 1024)
                    .spawn(door)
                    .unable("start a door")?,
            );
        }
        Ok(())
    }

    /// Says that the service is ready, as soon as it is.
    fn announce(&mut self) {
        let waits = self.service.orders.ready_backend
            && self
                .backend
                .as_ref()
                .is_some_and(|backend| !backend.is_ready());
        if self.unready.is_none() || waits {
            return;
        }
        if let Some(Some(ready_fd)) = self.unready.take() {
            ready_fd.announce();
        }
        event!("ready");
        self.manager.tell(&[NotifyState::Ready]);
        self.tell_status();
    }

    fn is_to_stop(&self) -> bool {
        self.stops > 0 || self.broken
    }

    /// The exit code of a process that came to its end.
    pub(super) fn code(&self) -> u8 {
        if self.broken { exit::SYSTEM } else { 0 }
    }

    /// Waits for one round of events, at most until `limit`, and sees to all that is due.
    pub(super) fn turn(&mut self, limit: Option<Duration>) {
        let mut events = [EpollEvent::empty(); 64];
        if self.manager.is_behind() {
            self.timers.again.get_or_insert(clock::now() + SOON);
        }
        let timeout = self.timeout(limit);
        // The iterator borrows the array alone, so that handlers may change everything else.
        let happened: Vec<Event> = self.service.slots.wait(&mut events, timeout).collect();
        for event in happened {
            match event {
                Event::Ended(key) => self.end_event(key),
                Event::Greeting(key) => self.greeting_event(key),
                Event::Own(SIGNALS) => self.signal_events(),
                Event::Own(BELL) => self.bell_event(),
                Event::Own(number) => self.backend_event(number),
            }
        }
        self.see_to_timers();
    }

    /// Milliseconds until the next thing is due, rounded up.
    fn timeout(&self, limit: Option<Duration>) -> EpollTimeout {
        let status = self.status.stale.then_some(self.status.told + SECOND);
        let due = [
            limit,
            status,
            self.timers.denials,
            self.timers.full,
            self.timers.again,
            self.timers.rules,
            self.service.slots.next_lifetime(),
            self.condemned.front().map(|(deadline, _)| *deadline),
            self.watchdog.as_ref().map(|watchdog| watchdog.next),
            self.backend.as_ref().and_then(Backend::next_deadline),
        ];
        let Some(next) = due.into_iter().flatten().min() else {
            return EpollTimeout::NONE;
        };
        let wait = next.saturating_sub(clock::now());
        let milliseconds = wait.as_nanos().div_ceil(1_000_000).min(60_000);
        EpollTimeout::try_from(i32::try_from(milliseconds).unwrap_or(60_000))
            .unwrap_or(EpollTimeout::ZERO)
    }

    fn see_to_timers(&mut self) {
        let now = clock::now();
        let is_due = |timer: Option<Duration>| timer.is_some_and(|due| due <= now);
        while let Some(key) = self.service.slots.take_lifetime(now) {
            self.condemn(key, now, "lifetime");
        }
        while self
            .condemned
            .front()
            .is_some_and(|(deadline, _)| *deadline <= now)
        {
            if let Some((_, key)) = self.condemned.pop_front() {
                self.finish_off(key);
            }
        }
        if let Some(backend) = &mut self.backend {
            backend.see_to(now);
        }
        if is_due(self.timers.denials) {
            self.sum_denials_up(now);
        }
        if is_due(self.timers.full) {
            self.look_for_room(now);
        }
        if is_due(self.timers.rules) {
            self.look_at_rules(now);
        }
        if is_due(self.timers.again) {
            let left = self.service.slots.watch_again() | self.manager.catch_up();
            self.timers.again = left.then_some(now + SOON);
        }
        if self
            .watchdog
            .as_ref()
            .is_some_and(|watchdog| watchdog.next <= now)
        {
            self.pat_watchdog(now);
        }
        if self.status.stale && self.status.told + SECOND <= now {
            self.tell_status();
        }
    }

    fn signal_events(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo)
                .ok()
                .and_then(|number| Signal::try_from(number).ok())
            {
                Some(Signal::SIGTERM | Signal::SIGINT) => self.stops += 1,
                Some(Signal::SIGHUP) => self.reload(),
                Some(Signal::SIGUSR1) => event!("status {}", self.status_text()),
                _ => {}
            }
        }
    }

    fn bell_event(&mut self) {
        self.service.bell.hear();
        let now = clock::now();
        self.status.stale |= self.manager.is_there();
        // A window of suppressed refusals may have opened, a watch may have failed: looked at a little later, once for all that rang.
        self.timers.denials.get_or_insert(now + SECOND);
        self.timers.again.get_or_insert(now + SOON);
        let room = &self.service.orders.room;
        if room.waiting() > 0 && self.timers.full.is_none() {
            self.timers.full = Some(now + SECOND);
            event!(
                "full {} waiting={}",
                SlotsOf(self.service, room.slots()),
                room.waiting()
            );
        }
        if self.service.troubles.latest().is_some() {
            self.timers.rules.get_or_insert(now + SECOND);
        }
        if RELOADED.swap(false, Ordering::SeqCst) {
            self.reloaded();
        }
        let gone = |socket| {
            self.service
                .doors
                .iter()
                .filter(|door| door.socket == socket)
                .all(DoorState::is_gone)
        };
        self.broken |= self.stops == 0 && (0..self.service.orders.sockets.len()).any(gone);
    }

    fn backend_event(&mut self, number: u32) {
        if let Some(backend) = &mut self.backend {
            backend.event(number, clock::now());
            self.status.stale |= self.manager.is_there();
        }
    }

    fn look_for_room(&mut self, now: Duration) {
        let room = &self.service.orders.room;
        if room.waiting() > 0 {
            self.timers.full = Some(now + SECOND);
        } else {
            self.timers.full = None;
            event!("room {}", SlotsOf(self.service, room.slots()));
        }
    }

    /// Whether the rules can be asked again, for all for whom they could not.
    fn look_at_rules(&mut self, now: Duration) {
        let rules = &self.service.orders.rules;
        if self.service.troubles.are_over(|asker| rules.fail(asker)) {
            self.timers.rules = None;
            self.status.stale |= self.manager.is_there();
            event!("rules work again");
        } else {
            self.timers.rules = Some(now + SECOND);
        }
    }

    fn sum_denials_up(&mut self, now: Duration) {
        let (told, open) = self.service.denials.ended(now);
        for (user, reason, suppressed) in told {
            event!(
                "deny {} {} reason={reason} suppressed={suppressed}",
                admission::UserIs(user),
                SlotsOf(self.service, self.service.orders.room.slots())
            );
        }
        self.timers.denials = open.then_some(now + SECOND);
    }

    fn pat_watchdog(&mut self, now: Duration) {
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

    fn status_text(&self) -> String {
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

    /// SIGHUP: rules and names anew, in a thread of its own, for a resolver may take its time.
    fn reload(&mut self) {
        if self.timers.reloading {
            self.timers.reload_again = true;
            return;
        }
        self.timers.reloading = true;
        event!("reload");
        match NotifyState::monotonic_usec_now() {
            // In one datagram, or systemd waits for the rest until its timeout.
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

    fn reloaded(&mut self) {
        self.timers.reloading = false;
        self.manager.tell(&[NotifyState::Ready]);
        event!("reloaded");
        if std::mem::take(&mut self.timers.reload_again) {
            self.reload();
        }
    }

    /// What held a slot has ended: its child, or the lease that a backend had.
    fn end_event(&mut self, key: Key) {
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
        if !report::shows(Kind::Connection) {
            return;
        }
        let Some((user, began)) = self.service.slots.with(key, |slot| (slot.user, slot.began))
        else {
            return;
        };
        let (user, seconds) = (
            admission::UserIs(user),
            Seconds(clock::now().saturating_sub(began)),
        );
        report::line(
            Kind::Connection,
            format_args!("end child={} {user} {end} seconds={seconds}", OrDash(pid)),
        );
    }

    /// Something happened on a connection whose greeting was unread: is it read now?
    fn greeting_event(&mut self, key: Key) {
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
    fn finish_off(&mut self, key: Key) {
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

fn reload_rules(rules: &Rules) {
    match rules {
        Rules::None => {}
        Rules::Options(list) => {
            let again = admission::current(list).resolve_again();
            admission::exchange(list, again);
        }
        Rules::Tree { path, tree } => match RuleTree::open(path) {
            Ok(again) => admission::exchange(tree, again),
            // Asking the old one fails alike for as long as this lasts: nobody is admitted by it.
            Err(cause) => error!("unable to open the rules again: {cause}"),
        },
    }
}
