//! The slots in use: which child and which unread greeting belong to whom. Every look-up is by index.
#![forbid(unsafe_code)]

use super::few::Few;
use crate::admission::User;
use crate::delivery::{Held, Newborn};
use crate::sys;
use crate::sys::spawn::Failure;
use crate::sys::wait::End;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What an event of the poll is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// What held the slot has ended: a child, or a lease.
    Ended(Key),
    /// Something happened on a connection whose greeting was not read yet.
    Greeting(Key),
    /// A descriptor of the control thread, by the number that it chose.
    Own(u32),
}

/// A slot's place, and a stamp that tells it from earlier ones there: an event may come after its slot has gone (a child that is
/// just being created keeps a closed pidfd's file open).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    index: u32,
    stamp: u32,
}

/// Lifetimes of ended children that are not worth a sweep.
const SPARE_LIFETIMES: usize = 1024;

const HELD: u32 = 0;
const GREETING: u32 = 1;
/// Index bits of a token's lower half; the stamp is the upper half, of which 0 means [`Event::Own`].
const KIND_BITS: u32 = 1;

impl Event {
    fn token(key: Key, kind: u32) -> u64 {
        u64::from(key.stamp) << 32 | u64::from(key.index << KIND_BITS | kind)
    }

    fn of(token: u64) -> Event {
        let (stamp, low) = ((token >> 32) as u32, token as u32);
        let key = Key {
            index: low >> KIND_BITS,
            stamp,
        };
        match (stamp, low & 1) {
            (0, _) => Event::Own(low),
            (_, HELD) => Event::Ended(key),
            _ => Event::Greeting(key),
        }
    }
}

/// One slot: a connection that counts.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) user: User,
    /// When it was delivered.
    pub(super) began: Duration,
    /// The child, until it is reaped; or the lease, until it is given back.
    pub(super) held: Held,
    /// A copy of the connection, until its greeting is read.
    pub(super) greeting: Option<OwnedFd>,
    /// The child was told to end: its group gets KILL later, and till then it stays unreaped.
    pub(super) condemned: bool,
    /// The end of the child, or of the lease, was seen.
    pub(super) ended: bool,
    /// The slot was given back to the limits (a condemned child may stay here longer).
    pub(super) released: bool,
}

impl Slot {
    /// The descriptor whose end is the holder's: the child's pidfd, if it has one, or the lease.
    fn holder(&self) -> Option<RawFd> {
        match &self.held {
            Held::Child(child) => raw(&child.pidfd),
            Held::Lease(lease) => Some(lease.as_raw_fd()),
            Held::Nothing => None,
        }
    }

    /// The child that is not reaped.
    pub(super) fn child(&self) -> Option<libc::pid_t> {
        self.held.child()
    }
}

enum Entry {
    Free { next: Option<u32> },
    Taken(Slot),
}

#[derive(Default)]
struct Table {
    entries: Vec<(u32, Entry)>,
    free: Option<u32>,
    /// Slots that a child or a lease holds.
    running: usize,
    few: Few,
}

/// What became of a connection that a door has entered.
pub(super) enum Entered {
    Quietly,
    /// The control thread should be told: of a lifetime, of something that is not watched.
    Tell,
    /// Its child has ended already. If it was greeted it has a slot, for the greeting alone; else it has none.
    Ended(End),
}

/// All slots in use, and the poll that watches their descriptors.
pub(super) struct Slots {
    table: Mutex<Table>,
    poll: Epoll,
    /// When the lifetimes of children end, soonest first: all are of one length.
    lifetimes: Mutex<VecDeque<(Duration, Key)>>,
    /// What the poll did not take for want of memory, to be tried again.
    unwatched: Mutex<Vec<(RawFd, libc::c_int, u64)>>,
}

impl Slots {
    pub(super) fn new(low: RawFd) -> io::Result<Slots> {
        let poll = Epoll(sys::fd::lift(
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0,
            low,
        )?);
        Ok(Slots {
            table: Mutex::default(),
            poll,
            lifetimes: Mutex::default(),
            unwatched: Mutex::default(),
        })
    }

    /// The doors' children, of which [`Slots::ended`] hears.
    pub(super) fn know(&self, newborn: Arc<Newborn>) {
        self.table().few.know(newborn);
    }

    /// Enters a connection that was just delivered; `newborn` is its door's.
    pub(super) fn enter(
        &self,
        user: User,
        mut held: Held,
        greeting: Option<OwnedFd>,
        began: Duration,
        lifetime: Option<Duration>,
        newborn: Option<&Newborn>,
    ) -> Entered {
        let events = match &held {
            Held::Child(_) => libc::EPOLLIN,
            // Its hang-up is reported in any case; what a backend writes into it is nothing to us.
            Held::Lease(_) | Held::Nothing => 0,
        };
        let greeting_fd = raw(&greeting);
        let mut table = self.table();
        let mut spare = None;
        let mut ended = None;
        if let (Held::Child(child), Some(newborn)) = (&mut held, newborn) {
            ended = table.few.born(child.pid, newborn);
            if !table.few.each() {
                spare = child.pidfd.take();
            }
        }
        if ended.is_some() {
            held = Held::Nothing;
        }
        if let (Some(end), None) = (ended, &greeting) {
            return Entered::Ended(end);
        }
        let slot = Slot {
            user,
            began,
            ended: matches!(held, Held::Nothing),
            held,
            greeting,
            condemned: false,
            released: false,
        };
        let (holder, child) = (slot.holder(), slot.child());
        let key = table.insert(slot);
        let mut tell = match child.filter(|_| holder.is_none()) {
            Some(pid) => table.few.add(pid, key),
            None => false,
        };
        drop(table);
        drop(spare);
        // The greeting first: after the holder's end nobody would add it any more. An edge comes with each read of the client's.
        if let Some(fd) = greeting_fd {
            tell |= !self.watch(
                fd,
                libc::EPOLLOUT | libc::EPOLLET,
                Event::token(key, GREETING),
            );
        }
        if let Some(end) = ended {
            return Entered::Ended(end);
        }
        if let Some(lifetime) = lifetime {
            let mut lifetimes = lock(&self.lifetimes);
            tell |= lifetimes.is_empty();
            lifetimes.push_back((began + lifetime, key));
            self.sweep(&mut lifetimes);
        }
        if let Some(fd) = holder {
            tell |= !self.watch_holder(fd, events, key);
        }
        if tell {
            Entered::Tell
        } else {
            Entered::Quietly
        }
    }

    /// Once: the file of a closed pidfd can live on in a child that is just being created, and would be reported without end.
    fn watch_holder(&self, fd: RawFd, events: libc::c_int, key: Key) -> bool {
        self.watch(fd, events | libc::EPOLLONESHOT, Event::token(key, HELD))
    }

    /// A door's child has become nothing.
    pub(super) fn stillborn(&self, newborn: &Newborn) {
        self.table().few.stillborn(newborn);
    }

    /// A child was reaped; gives its slot, unless its door has still to enter it, and is then told.
    pub(super) fn ended(&self, pid: libc::pid_t, end: End) -> Option<Key> {
        self.table().few.ended(pid, end)
    }

    /// Why a child that has ended never was its program, where that is so.
    pub(super) fn failure(&self, pid: libc::pid_t) -> Option<Failure> {
        self.table().few.failure(pid)
    }

    /// Whether children are without a watch that should have one.
    pub(super) fn should_watch_each(&self) -> bool {
        self.table().few.should_watch_each()
    }

    /// From now on each child has a pidfd that is watched; gives those that have none yet.
    pub(super) fn watch_each(&self) -> Vec<(libc::pid_t, Key)> {
        self.table().few.watch_each()
    }

    /// A child that should be watched and cannot be now.
    pub(super) fn leave_unwatched(&self, pid: libc::pid_t, key: Key) {
        self.table().few.add(pid, key);
    }

    /// Watches a child that had no pidfd.
    pub(super) fn watch_child(&self, key: Key, pidfd: OwnedFd) {
        let fd = pidfd.as_raw_fd();
        let kept = self.with(key, |slot| match &mut slot.held {
            Held::Child(child) => child.pidfd = Some(pidfd),
            Held::Lease(_) | Held::Nothing => {}
        });
        if kept.is_some() {
            self.watch_holder(fd, libc::EPOLLIN, key);
        }
    }

    /// From now on children are asked for together; none has a pidfd any more. For few children: it walks the whole table.
    pub(super) fn watch_together(&self) {
        let mut table = self.table();
        let mut children = Vec::new();
        let mut pidfds = Vec::new();
        for (key, slot) in table.taken() {
            if let Held::Child(child) = &mut slot.held {
                children.push((child.pid, key));
                pidfds.extend(child.pidfd.take());
            }
        }
        table.few.watch_together(children);
        drop(table);
        pidfds.into_iter().for_each(|pidfd| self.unwatch(pidfd));
    }

    /// Drops the lifetimes of children that ended before, once those are the most: a long lifetime would keep one of every child since.
    fn sweep(&self, lifetimes: &mut VecDeque<(Duration, Key)>) {
        let mut table = self.table();
        if lifetimes.len() > 2 * table.running + SPARE_LIFETIMES {
            lifetimes.retain(|(_, key)| table.slot(*key).is_some_and(|slot| !slot.ended));
        }
    }

    fn watch(&self, fd: RawFd, events: libc::c_int, token: u64) -> bool {
        let watched = sys::epoll::watch(self.poll.0.as_fd(), fd, events, token).is_ok();
        if !watched {
            lock(&self.unwatched).push((fd, events, token));
        }
        watched
    }

    /// Tries again what the poll did not take; gives whether something is left.
    pub(super) fn watch_again(&self) -> bool {
        let waiting = std::mem::take(&mut *lock(&self.unwatched));
        for (fd, events, token) in waiting {
            if self.holds(fd, token) {
                self.watch(fd, events, token);
            }
        }
        !lock(&self.unwatched).is_empty()
    }

    /// Whether `fd` still is what `token` was to tell of; closed meanwhile, the number may be another's. Of the descriptors in slots only the
    /// control thread, whose question this is, closes any.
    fn holds(&self, fd: RawFd, token: u64) -> bool {
        let held = match Event::of(token) {
            Event::Ended(key) => self.with(key, |slot| slot.holder()),
            Event::Greeting(key) => self.with(key, |slot| raw(&slot.greeting)),
            Event::Own(_) => None,
        };
        held.flatten() == Some(fd)
    }

    /// Watches a child once more whose event came to nothing.
    pub(super) fn watch_child_again(&self, key: Key) {
        let pidfd = self.with(key, |slot| slot.holder());
        if let Some(Some(fd)) = pidfd {
            let _ = sys::epoll::rearm(
                self.poll.0.as_fd(),
                fd,
                libc::EPOLLIN | libc::EPOLLONESHOT,
                Event::token(key, HELD),
            );
        }
    }

    /// Closes what was watched, such as the copy of a greeted connection. The poll must be told: it goes by the open file, which the
    /// child holds as well, and would wake the control thread at each read of the client's for as long as the child runs.
    pub(super) fn unwatch(&self, watched: OwnedFd) {
        // Not there if it never was (see `unwatched`).
        let _ = self.poll.delete(&watched);
    }

    /// Stops watching a descriptor of the control thread.
    pub(super) fn unwatch_own(&self, descriptor: BorrowedFd<'_>) -> nix::Result<()> {
        self.poll.delete(descriptor)
    }

    /// Watches a descriptor of the control thread; it comes back as [`Event::Own`] with `number`.
    pub(super) fn watch_own(&self, descriptor: BorrowedFd<'_>, number: u32) -> nix::Result<()> {
        self.poll.add(
            descriptor,
            EpollEvent::new(EpollFlags::EPOLLIN, u64::from(number)),
        )
    }

    /// Waits for events; none when the time is over or a signal came.
    pub(super) fn wait<'a>(
        &self,
        events: &'a mut [EpollEvent],
        timeout: EpollTimeout,
    ) -> impl Iterator<Item = Event> + use<'a> {
        let count = self.poll.wait(events, timeout).unwrap_or(0);
        events
            .iter()
            .take(count)
            .map(|event| Event::of(event.data()))
    }

    /// Looks at a slot, or changes it, if it still is the one that `key` means.
    pub(super) fn with<T>(&self, key: Key, look: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.table().slot(key).map(look)
    }

    /// Notes that what held a slot has ended.
    pub(super) fn holder_ended(&self, key: Key) {
        let mut table = self.table();
        if let Some(slot) = table.slot(key)
            && !slot.ended
        {
            slot.ended = true;
            table.running = table.running.saturating_sub(1);
            table.few.forget(key);
        }
    }

    /// Takes a slot out that has neither child nor greeting left.
    pub(super) fn remove_if_done(&self, key: Key) -> Option<Slot> {
        let mut table = self.table();
        let slot = table.slot(key)?;
        if !matches!(slot.held, Held::Nothing) || slot.greeting.is_some() {
            return None;
        }
        table.remove(key)
    }

    /// Slots that a child or a lease holds.
    pub(super) fn running(&self) -> usize {
        self.table().running
    }

    /// All slots with a child that is not reaped. For the end of the service: it walks the whole table.
    pub(super) fn with_child(&self) -> Vec<(Key, libc::pid_t)> {
        let mut table = self.table();
        let children = table
            .taken()
            .filter_map(|(key, slot)| Some((key, slot.child()?)));
        children.collect()
    }

    /// The lifetime that ends first.
    pub(super) fn next_lifetime(&self) -> Option<Duration> {
        lock(&self.lifetimes).front().map(|(deadline, _)| *deadline)
    }

    /// Takes out the next lifetime that is over.
    pub(super) fn take_lifetime(&self, now: Duration) -> Option<Key> {
        let mut lifetimes = lock(&self.lifetimes);
        if lifetimes
            .front()
            .is_some_and(|(deadline, _)| *deadline <= now)
        {
            lifetimes.pop_front().map(|(_, key)| key)
        } else {
            None
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

fn raw(descriptor: &Option<OwnedFd>) -> Option<RawFd> {
    descriptor.as_ref().map(|descriptor| descriptor.as_raw_fd())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn insert(&mut self, slot: Slot) -> Key {
        self.running += usize::from(!slot.ended);
        if let Some(index) = self.free
            && let Some((stamp, entry)) = self.entries.get_mut(index as usize)
            && let Entry::Free { next } = entry
        {
            self.free = *next;
            *entry = Entry::Taken(slot);
            return Key {
                index,
                stamp: *stamp,
            };
        }
        // Far fewer than 2^31: each slot has at least a process of its own.
        let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX >> KIND_BITS);
        self.entries.push((1, Entry::Taken(slot)));
        Key { index, stamp: 1 }
    }

    /// All slots that are taken.
    fn taken(&mut self) -> impl Iterator<Item = (Key, &mut Slot)> {
        let entries = self.entries.iter_mut().enumerate();
        entries.filter_map(|(index, (stamp, entry))| match entry {
            Entry::Taken(slot) => Some((
                Key {
                    index: u32::try_from(index).ok()?,
                    stamp: *stamp,
                },
                slot,
            )),
            Entry::Free { .. } => None,
        })
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        match self.entries.get_mut(key.index as usize) {
            Some((stamp, Entry::Taken(slot))) if *stamp == key.stamp => Some(slot),
            _ => None,
        }
    }

    fn remove(&mut self, key: Key) -> Option<Slot> {
        let (stamp, entry) = self.entries.get_mut(key.index as usize)?;
        if *stamp != key.stamp || matches!(entry, Entry::Free { .. }) {
            return None;
        }
        // Never 0, which is the mark of the control thread's own descriptors.
        *stamp = stamp.wrapping_add(1).max(1);
        let taken = std::mem::replace(entry, Entry::Free { next: self.free });
        self.free = Some(key.index);
        match taken {
            Entry::Taken(slot) => Some(slot),
            Entry::Free { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::spawn::Noted;

    fn slot(user: u32) -> Slot {
        Slot {
            user: Some(user),
            began: Duration::ZERO,
            held: Held::Nothing,
            greeting: None,
            condemned: false,
            ended: false,
            released: false,
        }
    }

    #[test]
    fn a_key_means_one_slot_and_never_its_successor() {
        let mut table = Table::default();
        let first = table.insert(slot(1));
        assert_eq!(table.remove(first).and_then(|slot| slot.user), Some(1));
        let second = table.insert(slot(2));
        assert_eq!(first.index, second.index);
        assert!(table.slot(first).is_none() && table.remove(first).is_none());
        assert_eq!(table.slot(second).map(|slot| slot.user), Some(Some(2)));
    }

    /// A child that nobody can watch: epoll takes no plain file.
    fn unwatchable(slots: &Slots, lifetime: Option<Duration>) -> Key {
        let file = || OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
        slots.watch_each();
        let child = Held::Child(Noted {
            pid: 1,
            pidfd: Some(file()),
        });
        slots.enter(Some(1), child, Some(file()), Duration::ZERO, lifetime, None);
        slots.with_child().pop().unwrap().0
    }

    fn end(slots: &Slots, key: Key) {
        slots.holder_ended(key);
        slots.with(key, |slot| {
            (slot.held, slot.greeting) = (Held::Nothing, None)
        });
        assert!(slots.remove_if_done(key).is_some());
    }

    #[test]
    fn children_that_end_early_do_not_leave_their_lifetimes_behind() {
        let slots = Slots::new(3).unwrap();
        for _ in 0..2 * SPARE_LIFETIMES {
            let key = unwatchable(&slots, Some(Duration::from_secs(86_400)));
            lock(&slots.unwatched).clear();
            end(&slots, key);
        }
        let kept = unwatchable(&slots, Some(Duration::from_secs(1)));
        let left = lock(&slots.lifetimes).clone();
        assert!(left.len() <= SPARE_LIFETIMES + 2, "{}", left.len());
        assert_eq!(left.back().map(|(_, key)| *key), Some(kept));
    }

    #[test]
    fn what_was_closed_unwatched_is_not_tried_again() {
        let slots = Slots::new(3).unwrap();
        let key = unwatchable(&slots, None);
        assert!(slots.watch_again(), "it is still there");
        end(&slots, key);
        assert!(!slots.watch_again());
    }

    #[test]
    fn places_are_used_again() {
        let mut table = Table::default();
        for round in 0..1000 {
            let keys: Vec<_> = (0..4).map(|user| table.insert(slot(user))).collect();
            assert!(table.entries.len() <= 4, "round {round}");
            assert!(keys.into_iter().all(|key| table.remove(key).is_some()));
        }
    }

    #[test]
    fn a_token_comes_back_as_its_event() {
        let key = Key {
            index: 77,
            stamp: 3,
        };
        assert_eq!(Event::of(Event::token(key, HELD)), Event::Ended(key));
        assert_eq!(Event::of(Event::token(key, GREETING)), Event::Greeting(key));
        assert_eq!(Event::of(5), Event::Own(5));
    }
}
