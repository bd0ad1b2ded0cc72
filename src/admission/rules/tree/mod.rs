//! The rules directory: the s6 accessrules tree, read live, so that each connection gets the answer of that moment.
//!
//! What cannot be read or is not to be trusted is never passed over: it answers "failed", which denies.
#![forbid(unsafe_code)]

mod envdir;
mod key;
mod list;
mod memory;
mod place;
mod root;
mod text;

pub(crate) use envdir::value;

use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::{Answer, Asker, Record};
use crate::admission::trust::{Fault, Trust, escaped};
use key::Scan;
use memory::Seen;
use root::{Directory, Root};

/// How often a tree is read again because it changed meanwhile, before the answer is "failed".
const ROUNDS: usize = 3;

/// A rules directory, to be asked for each connection, from several threads at once.
/// Holds one descriptor of the directory (O_PATH, close-on-exec) and nothing of its contents.
#[derive(Debug)]
pub(crate) struct RuleTree {
    directory: Directory,
    trust: Trust,
    self_uid: u32,
    self_gid: u32,
}

impl RuleTree {
    /// Checks `dir`, the directories up to the root, and its `uid` and `gid`, with the credentials of this moment:
    /// to be called when privileges are dropped.
    /// # Errors
    /// "rules directory DIR: CAUSE": others can write there, it is missing or cannot be listed and searched.
    pub(crate) fn open(dir: &Path) -> Result<RuleTree, String> {
        RuleTree::open_as(dir, geteuid().as_raw(), getegid().as_raw())
    }

    /// The same where `self` in a key means these ids.
    pub(super) fn open_as(dir: &Path, self_uid: u32, self_gid: u32) -> Result<RuleTree, String> {
        let trust = Trust::of(geteuid().as_raw());
        let refused = |cause: String| {
            let name = std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str());
            format!("rules directory {}: {cause}", escaped(name))
        };
        let directory = Directory::at(dir).map_err(|error| refused(error.to_string()))?;
        let tree = RuleTree {
            directory,
            trust,
            self_uid,
            self_gid,
        };
        tree.check_readable()
            .map_err(|fault| refused(fault.to_string()))?;
        Ok(tree)
    }

    fn check_readable(&self) -> Result<(), Fault> {
        let root = self.directory.current(self.trust)?;
        root.check_readable(self.trust)?;
        Scan::new(self.trust, &root, None).check_readable()
    }

    /// Decides about one peer by what the directory holds now. It never waits for anybody (a FIFO, a lock held
    /// across a system call); a directory that changes while it is read is read again, three times at most.
    pub(crate) fn judge(&self, who: &Asker) -> Answer {
        self.in_rounds(|| self.answer(who))
            .unwrap_or_else(Answer::Failed)
    }

    /// Every name that may be a key, `A/B`, sorted; a hidden one is none.
    /// # Errors
    /// One line: what could not be listed, or is not to be trusted.
    pub(crate) fn keys(&self) -> Result<Vec<Vec<u8>>, String> {
        let root = self.directory.current(self.trust);
        let keys = root.and_then(|root| list::keys(root.site(self.trust)));
        keys.map_err(|fault| fault.to_string())
    }

    /// What `key`, one of [`RuleTree::keys`], holds now, as [`RuleTree::judge`] reads it.
    /// # Errors
    /// One line: whatever makes `judge` fail.
    pub(crate) fn record(&self, key: &[u8]) -> Result<Option<Record>, String> {
        self.in_rounds(|| {
            let root = self.directory.current(self.trust)?;
            key::record(root.site(self.trust), key)
        })
    }

    /// Takes everything for settled, however lately it was changed; gives whether answers are remembered here at all.
    #[cfg(test)]
    pub(super) fn remember_at_once(&mut self) -> bool {
        self.directory.remember_at_once();
        self.current_root().memory().is_local()
    }

    /// How many answers are.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.current_root().memory().answers()
    }

    #[cfg(test)]
    fn current_root(&self) -> std::sync::Arc<Root> {
        self.directory.current(self.trust).unwrap()
    }

    fn in_rounds<T>(&self, read: impl Fn() -> Result<T, Trouble>) -> Result<T, String> {
        for _ in 0..ROUNDS {
            match read() {
                Ok(read) => return Ok(read),
                Err(Trouble::Changed) => {}
                Err(Trouble::Fault(fault)) => return Err(fault.to_string()),
            }
        }
        let name = escaped(self.directory.name());
        Err(format!("{name} changes again and again while it is read"))
    }

    /// The answer of before, if everything that it rests on is as it was; else what is read now.
    fn answer(&self, who: &Asker) -> Result<Answer, Trouble> {
        let root = self.directory.current(self.trust)?;
        if let Some(answer) = root.recall(who) {
            return Ok(answer);
        }
        let seen = root.seen();
        let answer = self.read(&root, seen.as_ref(), who)?;
        if let Some(seen) = seen {
            root.keep(who, &answer, seen);
        }
        Ok(answer)
    }

    fn read(&self, root: &Root, seen: Option<&Seen>, who: &Asker) -> Result<Answer, Trouble> {
        let mut scan = Scan::new(self.trust, root, seen);
        for key in who.keys(self.self_uid, self.self_gid) {
            if let Some(record) = scan.ask(&key)? {
                return Ok(record.answer(&key));
            }
        }
        Ok(Answer::NoRule)
    }
}

/// Why a reading of the tree ended without an answer.
enum Trouble {
    /// What was read belongs to no one moment.
    Changed,
    Fault(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Fault(fault)
    }
}
