//! Answers that a database gave, given again while it is as it was.
//!
//! After a look the file must have the size and the time of change that it had when it was opened; for an answer of before it must also have
//! the ctime that it had then, and be settled (see [`settled`](super::super::settled)). So one fstat(2) takes the place of the reads and
//! the fstat of a look.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{PoisonError, RwLock};

use crate::admission::rules::settled::{Began, Identity, MOST, SETTLED, Settled};
use crate::admission::rules::{Answer, Asker};

/// What one database has answered.
#[derive(Debug)]
pub(super) struct Memory {
    settled: Settled,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The file when it gave the answers.
    file: Option<Identity>,
    answers: HashMap<Asker, Answer>,
}

impl Memory {
    /// For the database in `file`.
    pub(super) fn of(file: impl AsFd) -> Memory {
        Memory {
            settled: Settled::of(file, SETTLED),
            kept: RwLock::default(),
        }
    }

    /// The answer that `who` got before, and how the file must be.
    pub(super) fn recall(&self, who: &Asker) -> Option<(Identity, Answer)> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        Some((kept.file?, kept.answers.get(who)?.clone()))
    }

    /// A look begins; `None`: its answer is not to be kept.
    pub(super) fn begin(&self) -> Option<Began> {
        self.settled.begin()
    }

    /// Keeps the answer of a look, if `file`, as it was after it, bears that.
    pub(super) fn keep(&self, began: Began, file: Identity, who: &Asker, answer: &Answer) {
        if !self.settled.bears(&file, began) {
            return;
        }
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.file != Some(file) || kept.answers.len() >= MOST {
            kept.answers.clear();
            kept.file = Some(file);
        }
        kept.answers.insert(*who, answer.clone());
    }

    /// Takes a file for settled, however lately it was changed; gives whether answers are kept here at all.
    #[cfg(test)]
    pub(super) fn remember_at_once(&mut self) -> bool {
        self.settled.at_once();
        self.settled.is_local()
    }
}
