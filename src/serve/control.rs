//! The control thread: signals, readiness, watchdog, status, reload, the ends of children and the end of the service.
#![forbid(unsafe_code)]

use super::backend::Backend;
use super::bell::Bell;
use super::door::{Door, DoorState};
use super::ready::{Manager, ReadyFd};
use super::reload::Reload;
use super::slots::{Event, Key, Slots};
use super::status::{Status, Watchdog};
use super::troubles::Troubles;
use super::{Counters, Orders, Service, SlotsOf, spawning_doors_each};
use crate::admission::{self, Denials};
use crate::delivery::{Delivery, Landings};
use crate::exit::{self, Unable as _};
use crate::report::event;
use crate::{clock, sys};
use nix::sys::epoll::{EpollEvent, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use sd_notify::NotifyState;
use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize};
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
pub(super) const CHILDREN: u32 = 3;

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
    sys::memory::share_one_heap();
    control.open_doors()?;
    control.unready = Some(ready_fd);
    // What is said once is a part of the start.
    control.announce();
    control.service.has_begun();
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
    /// Where doors create children: tells that some have ended.
    pub(super) ends: Option<SignalFd>,
    /// Each child is watched by its pidfd, and `ends` is not.
    pub(super) watches_each: bool,
    /// The numbers that doors and children use, held for good.
    landings: Landings,
    pub(super) backend: Option<Backend>,
    /// Not said yet that the service is ready.
    pub(super) unready: Option<Option<ReadyFd>>,
    /// Children that got TERM, and when their groups get KILL.
    pub(super) condemned: VecDeque<(Duration, Key)>,
    timers: Timers,
    pub(super) reload: Reload,
    pub(super) watchdog: Option<Watchdog>,
    pub(super) status: Status,
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
}

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
        let ends = match &orders.delivery {
            Delivery::Spawn(_) => Some(children(&slots).unable("watch for ends of children")?),
            Delivery::Handoff(_) => None,
        };
        // A hand-off keeps its thread for no time, and the channel is one.
        let each = match &orders.delivery {
            Delivery::Spawn(_) => spawning_doors_each(orders.sockets.len()),
            Delivery::Handoff(_) => 1,
        };
        let doors = (0..orders.sockets.len())
            .flat_map(|socket| (0..each).map(move |_| DoorState::at(socket)))
            .collect::<Vec<_>>();
        let beats = vec![0; doors.len()];
        let threads = doors.len() + 1;
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
            // The doors, and this thread.
            starting: AtomicUsize::new(threads),
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
            ends,
            watches_each: false,
            landings,
            backend: None,
            unready: None,
            condemned: VecDeque::new(),
            timers: Timers::default(),
            reload: Reload::default(),
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
            if let Some(newborn) = bench.newborn() {
                service.slots.know(newborn);
            }
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
                Event::Own(CHILDREN) => self.children_event(),
                Event::Own(number) => self.backend_event(number),
            }
        }
        self.see_to_timers();
        self.watch_together_if_few();
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
        let milliseconds = clock::milliseconds(wait).min(60_000);
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
            if self.service.slots.should_watch_each() {
                self.watch_each();
            }
            let left = self.service.slots.watch_again()
                | self.service.slots.should_watch_each()
                | self.manager.catch_up();
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
        while let Some(signal) = sys::signal::next(&self.signals) {
            match signal {
                Signal::SIGTERM | Signal::SIGINT => self.stops += 1,
                Signal::SIGHUP => self.reload(),
                Signal::SIGUSR1 => event!("status {}", self.status_text()),
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
        if self.service.slots.should_watch_each() {
            self.watch_each();
        }
        if self.service.troubles.latest().is_some() {
            self.timers.rules.get_or_insert(now + SECOND);
        }
        self.see_to_reload();
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
}

/// Tells, as [`CHILDREN`], that children have ended.
fn children(slots: &Slots) -> std::io::Result<SignalFd> {
    let ends = sys::signal::ends_of_children()?;
    slots.watch_own(ends.as_fd(), CHILDREN)?;
    Ok(ends)
}
