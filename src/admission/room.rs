//! Is there room: the counts behind a lock, and the wait of an admitted connection for its slot.
#![forbid(unsafe_code)]

use super::User;
use super::limits::{Full, Limits, Tally};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The slots of one process. The lock is never held across a system call.
pub(crate) struct Room {
    limits: Limits,
    tally: Mutex<Tally>,
    freed: Condvar,
    /// Doors that wait: nobody is woken up in vain.
    waiting: AtomicU32,
    /// Set at the end: what a door already holds is delivered, even beyond `--max`.
    beyond: AtomicBool,
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Room {
        Room {
            limits,
            tally: Mutex::default(),
            freed: Condvar::new(),
            waiting: AtomicU32::new(0),
            beyond: AtomicBool::new(false),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn slots(&self) -> u32 {
        self.tally().slots()
    }

    /// Doors that hold an admitted connection and wait for a slot.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// As [`Tally::reserve`].
    pub(crate) fn reserve(&self, user: User, now: Duration) -> Result<u32, Full> {
        self.tally().reserve(&self.limits, user, now)
    }

    /// Takes a slot for a reserved place; where there is none, calls `full` (without the lock, counted as waiting) and waits. Gives the slots taken.
    pub(crate) fn enter(&self, full: impl FnOnce()) -> u32 {
        let mut tally = self.tally();
        if tally.enter(&self.limits, self.goes_beyond()) {
            return tally.slots();
        }
        drop(tally);
        // Counted before anybody is told: who is told asks for the count.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        full();
        let mut tally = self.tally();
        while !tally.enter(&self.limits, self.goes_beyond()) {
            tally = self
                .freed
                .wait(tally)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        tally.slots()
    }

    pub(crate) fn release(&self, user: User) {
        self.tally().release(user);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Lets everybody in who waits, now and later.
    pub(crate) fn open_beyond(&self) {
        self.beyond.store(true, Ordering::SeqCst);
        // With the lock in between, a door that looked before the store is in its wait by the time of the notice.
        drop(self.tally());
        self.freed.notify_all();
    }

    fn goes_beyond(&self) -> bool {
        self.beyond.load(Ordering::SeqCst)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Counts are changed by code that cannot panic half way.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_that_it_is_full_sees_somebody_wait() {
        let room = Room::new(Limits {
            max: 1,
            max_per_user: None,
            rate: None,
        });
        room.enter(|| unreachable!("there is room"));
        let mut seen = 0;
        room.enter(|| {
            seen = room.waiting();
            room.release(None);
        });
        assert_eq!((seen, room.waiting(), room.slots()), (1, 0, 1));
    }
}
