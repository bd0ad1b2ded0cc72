//! For whom the rules could not be asked, and why: told once each, until all of it is over.
#![forbid(unsafe_code)]

use crate::admission::Asker;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Further ones are denied like these, and not told: the log has enough to mend.
const MOST: usize = 16;

/// What is wrong with the rules at the moment.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    known: Mutex<Vec<Trouble>>,
}

#[derive(Debug)]
struct Trouble {
    /// Somebody who was denied because of it.
    asker: Asker,
    cause: String,
}

impl Troubles {
    /// Takes a trouble down; gives the cause back if nobody was told of it yet.
    pub(super) fn note(&self, asker: Asker, cause: String) -> Option<String> {
        let mut known = self.known();
        if known.len() >= MOST || known.iter().any(|trouble| trouble.cause == cause) {
            return None;
        }
        known.push(Trouble {
            asker,
            cause: cause.clone(),
        });
        Some(cause)
    }

    /// The cause of the last one.
    pub(super) fn latest(&self) -> Option<String> {
        self.known().last().map(|trouble| trouble.cause.clone())
    }

    /// Asks again for whom the rules failed; whether that was the end of the last trouble. The rules are read without the lock.
    pub(super) fn are_over(&self, fail: impl Fn(&Asker) -> bool) -> bool {
        let askers: Vec<Asker> = self.known().iter().map(|trouble| trouble.asker).collect();
        let mended: Vec<Asker> = askers.into_iter().filter(|asker| !fail(asker)).collect();
        let mut known = self.known();
        known.retain(|trouble| !mended.contains(&trouble.asker));
        known.is_empty()
    }

    fn known(&self) -> MutexGuard<'_, Vec<Trouble>> {
        // A list of finished entries, whatever a thread was at.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(uid: u32) -> Asker {
        Asker {
            uid: Some(uid),
            gid: None,
        }
    }

    #[test]
    fn each_cause_is_told_once_until_it_is_over() {
        let troubles = Troubles::default();
        assert!(troubles.note(asker(1), "a".into()).is_some());
        assert!(troubles.note(asker(1), "a".into()).is_none());
        assert!(troubles.note(asker(2), "a".into()).is_none());
        assert!(troubles.note(asker(2), "b".into()).is_some());
        assert_eq!(troubles.latest().as_deref(), Some("b"));

        assert!(!troubles.are_over(|failing| failing.uid == Some(1)));
        assert_eq!(troubles.latest().as_deref(), Some("a"));
        assert!(troubles.are_over(|_| false));
        assert_eq!(troubles.latest(), None);
        assert!(troubles.note(asker(1), "a".into()).is_some());
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let troubles = Troubles::default();
        let told = (0..1000).filter(|&n| troubles.note(asker(n), n.to_string()).is_some());
        assert_eq!(told.count(), MOST);
    }
}
