//! What peers were told, and all that it rests on. The same answer is given again for a look at each of those, as long as none has changed.
//!
//! A change of what a directory holds shows in its ctime, and one of a file's contents, owner or mode in the file's own. So the things that
//! were found bear an answer, and what was not found is borne by the directory that it was looked for in. That is true where a change
//! never leaves a ctime as it was: on a local file system, of things that had not just been changed when they were read (its clock may
//! tick once in 10 ms, or in a second), and that no link led to. Everything else is read anew each time. (What is written through a mapping
//! of the file shows when the kernel says so: at the first write to a page, and again after that was written back.)
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};

use crate::admission::rules::settled::{Began, Identity, MOST, Settled};
use crate::admission::rules::{Answer, Asker};
use crate::admission::trust::uninterrupted;

/// The answers that one rules directory gave.
#[derive(Debug)]
pub(super) struct Memory {
    settled: Settled,
    answers: RwLock<HashMap<Asker, Arc<Remembered>>>,
}

#[derive(Debug)]
struct Remembered {
    answer: Answer,
    things: Vec<Thing>,
}

/// Something in the tree that an answer rests on.
#[derive(Debug)]
struct Thing {
    /// From the rules directory.
    path: CString,
    identity: Identity,
}

/// What one reading has come by; nothing, if that would not bear an answer.
pub(super) struct Seen {
    things: RefCell<Option<Vec<Thing>>>,
    /// How much of a path leads to the rules directory, its slash included.
    root_length: usize,
    began: Began,
}

impl Memory {
    /// For the rules directory that `root` refers to.
    pub(super) fn of(root: impl AsFd, settled: Duration) -> Memory {
        Memory {
            settled: Settled::of(root, settled),
            answers: RwLock::default(),
        }
    }

    /// To be filled by a reading that is to be remembered.
    pub(super) fn seen(&self, root_name: &[u8]) -> Option<Seen> {
        Some(Seen {
            began: self.settled.begin()?,
            things: RefCell::new(Some(Vec::new())),
            root_length: root_name.len() + 1,
        })
    }

    /// The answer that `who` got before, if everything that it rests on is as it was; `root` is the rules directory.
    pub(super) fn recall(&self, root: BorrowedFd<'_>, who: &Asker) -> Option<Answer> {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        let known = Arc::clone(answers.get(who)?);
        drop(answers);
        // Each was as it is from the reading until now, so at the first of these looks all of them were.
        let stands = |thing: &Thing| {
            let stat = || fstatat(root, thing.path.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
            uninterrupted(stat).is_ok_and(|stat| Identity::of(&stat) == thing.identity)
        };
        known
            .things
            .iter()
            .all(stands)
            .then(|| known.answer.clone())
    }

    /// Keeps an answer, if what was seen bears it.
    pub(super) fn keep(&self, root: &Identity, who: &Asker, answer: &Answer, seen: Seen) {
        let bears = |identity: &Identity| {
            identity.is_on_device_of(root) && self.settled.bears(identity, seen.began)
        };
        let Some(things) = seen.things.into_inner() else {
            return;
        };
        if !bears(root) || !things.iter().all(|thing| bears(&thing.identity)) {
            return;
        }
        let remembered = Arc::new(Remembered {
            answer: answer.clone(),
            things,
        });
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST {
            answers.clear();
        }
        answers.insert(*who, remembered);
    }

    #[cfg(test)]
    pub(super) fn is_local(&self) -> bool {
        self.settled.is_local()
    }

    #[cfg(test)]
    pub(super) fn answers(&self) -> usize {
        self.answers.read().unwrap().len()
    }
}

impl Seen {
    /// What `path` names was found, with `stat`, and no link led to it.
    pub(super) fn note(&self, path: &[u8], stat: &FileStat) {
        let mut things = self.things.borrow_mut();
        let relative = path.get(self.root_length..).map(CString::new);
        match (things.as_mut(), relative) {
            (Some(things), Some(Ok(path))) => things.push(Thing {
                path,
                identity: Identity::of(stat),
            }),
            _ => *things = None,
        }
    }

    /// Something was found that bears nothing.
    pub(super) fn spoil(&self) {
        *self.things.borrow_mut() = None;
    }
}
