//! The children while they are few: who of them has ended is asked of all together.
//!
//! A pidfd for each child makes its end cost the same however many there are, and costs a tenth of a connection to make, watch and close.
//! One waitid(2) for any child costs a tenth of that, and looks through all children that there are. So up to [`MOST`] children have none;
//! when there are more, each gets one, until there are few again.
//!
//! Only the control thread reaps, so what it was not told of yet (a child may end before its door has entered it) is told apart here:
//! the kernel notes the pid of a child in its door's [`Newborn`] before the child runs.
#![forbid(unsafe_code)]

use super::slots::Key;
use crate::delivery::Newborn;
use crate::sys::spawn::Failure;
use crate::sys::wait::End;
use nix::libc::pid_t;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many children may be without pidfds. Looking through them takes the kernel a few microseconds.
const MOST: usize = 64;
/// When there are so few again, they are asked for together again.
pub(super) const FEW: usize = MOST / 4;

/// Which children have no pidfd that is watched.
#[derive(Default)]
pub(super) struct Few {
    /// All children are watched, each by its pidfd; those in the list are still to be.
    each: bool,
    children: Vec<(pid_t, Key)>,
    /// Ended and reaped before their doors have entered them; at most one a door.
    early: Vec<(pid_t, End)>,
    /// Of all doors.
    newborns: Vec<Arc<Newborn>>,
}

impl Few {
    pub(super) fn know(&mut self, newborn: Arc<Newborn>) {
        self.newborns.push(newborn);
    }

    /// Whether each child is watched by itself.
    pub(super) fn each(&self) -> bool {
        self.each
    }

    /// A door has its child: gives how it ended, if it has ended already.
    pub(super) fn born(&mut self, pid: pid_t, newborn: &Newborn) -> Option<End> {
        newborn.note.pid.store(0, Ordering::Relaxed);
        self.take_early(pid)
    }

    /// A door's child has become nothing, and was reaped.
    pub(super) fn stillborn(&mut self, newborn: &Newborn) {
        let pid = newborn.note.pid.swap(0, Ordering::Relaxed);
        self.take_early(pid);
    }

    /// Notes a child that nobody watches; gives whether the control thread must be told, because there are too many of them.
    pub(super) fn add(&mut self, pid: pid_t, key: Key) -> bool {
        self.children.push((pid, key));
        self.should_watch_each()
    }

    /// Whether there are children in the list that should not be.
    pub(super) fn should_watch_each(&self) -> bool {
        self.children.len() > if self.each { 0 } else { MOST }
    }

    /// A child was reaped: gives its slot, unless its door has not entered it yet. Then the door is told.
    pub(super) fn ended(&mut self, pid: pid_t, end: End) -> Option<Key> {
        if let Some(at) = self.children.iter().position(|(known, _)| *known == pid) {
            return Some(self.children.swap_remove(at).1);
        }
        let is_ours = |newborn: &Arc<Newborn>| newborn.note.pid.load(Ordering::Relaxed) == pid;
        // Else somebody else's, who ran in this process before doorward did: nobody waits for it.
        if self.newborns.iter().any(is_ours) {
            self.early.push((pid, end));
        }
        None
    }

    /// Why a child that has ended never was its program, where that is so.
    pub(super) fn failure(&self, pid: pid_t) -> Option<Failure> {
        let mut notes = self.newborns.iter().map(|newborn| &newborn.note);
        notes.find_map(|note| note.failure(pid))
    }

    /// A slot's child is gone, however that was learned.
    pub(super) fn forget(&mut self, key: Key) {
        self.children.retain(|(_, known)| *known != key);
    }

    /// From now on each child is to be watched; gives those that are not yet.
    pub(super) fn watch_each(&mut self) -> Vec<(pid_t, Key)> {
        self.each = true;
        self.tell();
        std::mem::take(&mut self.children)
    }

    /// From now on `children`, all that there are, and those that come are asked for together.
    pub(super) fn watch_together(&mut self, children: Vec<(pid_t, Key)>) {
        self.each = false;
        self.tell();
        self.children = children;
    }

    fn tell(&self) {
        for newborn in &self.newborns {
            newborn.wants_pidfd.store(self.each, Ordering::Relaxed);
        }
    }

    fn take_early(&mut self, pid: pid_t) -> Option<End> {
        let at = self.early.iter().position(|(known, _)| *known == pid)?;
        Some(self.early.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slots;
    use super::*;
    use crate::delivery::Held;
    use crate::sys::spawn::Noted;
    use std::time::Duration;

    const END: End = End::Code(0);

    /// Keys can only be had from slots.
    fn key(slots: &Slots, pid: pid_t) -> Key {
        let held = Held::Child(Noted { pid, pidfd: None });
        slots.enter(None, held, None, Duration::ZERO, None, None);
        slots.with_child().pop().unwrap().0
    }

    #[test]
    fn an_end_is_its_slots_or_waits_for_its_door_or_is_nobody_s() {
        let slots = Slots::new(3).unwrap();
        let newborn = Arc::new(Newborn::default());
        let mut few = Few::default();
        few.know(Arc::clone(&newborn));
        let entered = key(&slots, 10);
        few.add(10, entered);
        newborn.note.pid.store(11, Ordering::Relaxed);
        assert_eq!(few.ended(10, END), Some(entered));
        assert_eq!(few.ended(10, END), None, "it is gone");
        assert_eq!(few.ended(11, END), None, "its door comes later");
        assert_eq!(few.ended(12, END), None);
        assert_eq!(few.born(11, &newborn), Some(END));
        assert_eq!(newborn.note.pid.load(Ordering::Relaxed), 0);
        newborn.note.pid.store(12, Ordering::Relaxed);
        assert_eq!(few.born(12, &newborn), None, "that end was nobody's");
    }

    #[test]
    fn the_end_of_a_child_that_became_nothing_is_not_that_of_the_next_with_its_number() {
        let newborn = Arc::new(Newborn::default());
        let mut few = Few::default();
        few.know(Arc::clone(&newborn));
        newborn.note.pid.store(11, Ordering::Relaxed);
        assert_eq!(few.ended(11, END), None);
        few.stillborn(&newborn);
        assert_eq!(few.ended(11, END), None, "after its door has given it up");
        newborn.note.pid.store(11, Ordering::Relaxed);
        assert_eq!(few.born(11, &newborn), None);
    }

    #[test]
    fn one_too_many_asks_for_a_watch_of_each_and_so_does_everyone_after_it() {
        let slots = Slots::new(3).unwrap();
        let newborn = Arc::new(Newborn::default());
        let mut few = Few::default();
        few.know(Arc::clone(&newborn));
        let one = key(&slots, 1);
        for pid in 0..MOST {
            assert!(!few.add(i32::try_from(pid).unwrap(), one));
        }
        assert!(few.add(1000, one) && few.should_watch_each());
        assert_eq!(few.watch_each().len(), MOST + 1);
        assert!(newborn.wants_pidfd.load(Ordering::Relaxed) && !few.should_watch_each());
        assert!(few.add(1001, one), "whose door did not know yet");
        few.watch_together(vec![(1001, one)]);
        assert!(!newborn.wants_pidfd.load(Ordering::Relaxed));
        assert_eq!(few.ended(1001, END), Some(one));
    }
}
