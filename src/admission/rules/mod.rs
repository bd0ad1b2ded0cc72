//! The rules directory: the s6 accessrules tree, read live, so that each connection gets the answer of that moment.
//!
//! The keys are asked in the order uid/self, uid/N, gid/self, gid/N, uid/default; the first that has an answer gives
//! it. What cannot be read or is not to be trusted is never passed over: it answers "failed", which denies.
#![forbid(unsafe_code)]

mod envdir;
mod key;
mod place;
mod root;
mod text;

#[cfg(test)]
mod tests;

use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::trust::{Fault, Trust, escaped};
use key::Scan;
use root::Directory;

/// How often a tree is read again because it changed meanwhile, before the answer is "failed".
const ROUNDS: usize = 3;

/// What an `allow` gives to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The key that allowed, such as "uid/1000".
    pub key: String,
    /// Variables to set, or to unset (`None`), each name once.
    pub env: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The text to run with execlineb in place of the program; without a zero byte.
    pub exec: Option<Vec<u8>>,
}

/// What the rules say of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow(Grant),
    /// Denied by this key, such as "uid/1000".
    Deny(String),
    /// No key has an answer.
    NoRule,
    /// The rules cannot be read or trusted: one line that names the path, control bytes escaped.
    Failed(String),
}

/// The peer as the rules see it. An id that is unmapped is `None`, and matches no `self` and no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

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
    fn open_as(dir: &Path, self_uid: u32, self_gid: u32) -> Result<RuleTree, String> {
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
        Scan::new(self.trust, &root).check_readable()
    }

    /// Decides about one peer by what the directory holds now. It never waits for anybody (a FIFO, a lock held
    /// across a system call); a directory that changes while it is read is read again, three times at most.
    pub(crate) fn judge(&self, who: &Asker) -> Answer {
        for _ in 0..ROUNDS {
            match self.read(who) {
                Ok(Some(answer)) => return answer,
                Ok(None) => return Answer::NoRule,
                Err(Trouble::Changed) => {}
                Err(Trouble::Fault(fault)) => return Answer::Failed(fault.to_string()),
            }
        }
        let name = self.directory.name();
        Answer::Failed(format!(
            "{} changes again and again while it is read",
            escaped(name)
        ))
    }

    fn read(&self, who: &Asker) -> Result<Option<Answer>, Trouble> {
        let root = self.directory.current(self.trust)?;
        let mut scan = Scan::new(self.trust, &root);
        let keys = [
            (who.uid == Some(self.self_uid)).then(|| "uid/self".to_owned()),
            who.uid.map(|uid| format!("uid/{uid}")),
            (who.gid == Some(self.self_gid)).then(|| "gid/self".to_owned()),
            who.gid.map(|gid| format!("gid/{gid}")),
            Some("uid/default".to_owned()),
        ];
        for key in keys.into_iter().flatten() {
            if let Some(answer) = scan.ask(&key)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
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
