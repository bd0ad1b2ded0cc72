//! Answers that a database gave, given again while it is as it was.
//!
//! After a look the file must have the size and the time of change that it had when it was opened; for an answer of before it must also have
//! the ctime that it had then, be on a local file system, and not have been changed just before (see [`tree::SETTLED`]). So one fstat(2)
//! takes the place of the reads and the fstat of a look.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::stat::FileStat;
use nix::sys::time::TimeSpec;

use crate::admission::rules::{Answer, Asker, tree};

/// What one database has answered.
#[derive(Debug)]
pub(super) struct Memory {
    settled: Duration,
    is_local: bool,
    /// It was asked once. A process that asks only once has nothing to remember it for.
    asked: AtomicBool,
    kept: RwLock<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The file's ctime when it gave the answers.
    changed: TimeSpec,
    answers: HashMap<Asker, Answer>,
}

/// That a look began, whose answer may be kept; and when, since 1970.
pub(super) struct Look(Duration);

impl Memory {
    /// For the database in `file`.
    pub(super) fn of(file: impl AsFd) -> Memory {
        Memory {
            settled: tree::SETTLED,
            is_local: tree::is_local(file),
            asked: AtomicBool::new(false),
            kept: RwLock::new(Kept {
                changed: TimeSpec::new(0, 0),
                answers: HashMap::new(),
            }),
        }
    }

    /// The answer that `who` got before, and the ctime that the file must have.
    pub(super) fn recall(&self, who: &Asker) -> Option<(TimeSpec, Answer)> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        Some((kept.changed, kept.answers.get(who)?.clone()))
    }

    /// A look begins; `None`: its answer is not to be kept.
    pub(super) fn look(&self) -> Option<Look> {
        let asked_before = self.asked.swap(true, Ordering::Relaxed);
        let now = || SystemTime::now().duration_since(UNIX_EPOCH);
        (self.is_local && asked_before).then(|| Look(now().unwrap_or_default()))
    }

    /// Keeps the answer of a look, after which the file was as `stat` says.
    pub(super) fn keep(&self, look: &Look, stat: &FileStat, who: &Asker, answer: &Answer) {
        let changed = ctime(stat);
        if Duration::from(changed) >= look.0.saturating_sub(self.settled) {
            return;
        }
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.changed != changed || kept.answers.len() >= tree::MOST {
            kept.answers.clear();
            kept.changed = changed;
        }
        kept.answers.insert(*who, answer.clone());
    }

    /// Takes a file for settled, however lately it was changed; gives whether answers are kept here at all.
    #[cfg(test)]
    pub(super) fn remember_at_once(&mut self) -> bool {
        self.settled = Duration::ZERO;
        self.is_local
    }
}

pub(super) fn ctime(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_ctime, stat.st_ctime_nsec)
}
