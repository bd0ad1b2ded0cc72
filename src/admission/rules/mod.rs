//! Rules by uid and gid in the formats of s6: a directory that is read live, or a constant database (cdb).
//!
//! The keys are asked in the order uid/self, uid/N, gid/self, gid/N, uid/default; the first that has an answer gives it.
#![forbid(unsafe_code)]

mod cdb;
mod record;
mod settled;
mod stored;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use cdb::{Database, Writer, encode};
pub(crate) use record::{Change, Record};
pub(crate) use stored::{Form, Stored};
pub(crate) use tree::{RuleTree, value};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Asker {
    /// The keys to ask, in their order, where `self` means these ids.
    fn keys(&self, self_uid: u32, self_gid: u32) -> impl Iterator<Item = String> {
        let keys = [
            (self.uid == Some(self_uid)).then(|| "uid/self".to_owned()),
            self.uid.map(|uid| format!("uid/{uid}")),
            (self.gid == Some(self_gid)).then(|| "gid/self".to_owned()),
            self.gid.map(|gid| format!("gid/{gid}")),
            Some("uid/default".to_owned()),
        ];
        keys.into_iter().flatten()
    }
}
