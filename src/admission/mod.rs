//! Who is it, may it, is there room: each question has a file, this one asks them in order.
#![forbid(unsafe_code)]

mod denials;
mod deny_text;
mod limits;
pub(crate) mod names;
mod peer;
mod room;
mod rules;
mod servers;
mod trust;
mod who;

pub(crate) use denials::{Denials, Telling};
pub(crate) use deny_text::tell_refused;
pub(crate) use limits::{Full, Limits, Rate};
pub(crate) use peer::{Mapping, Peer, User, UserIs};
pub(crate) use room::Room;
pub(crate) use rules::{
    Answer, Asker, Change, Database, Form, Grant, Record, RuleTree, Stored, Writer, encode, value,
};
pub(crate) use servers::Servers;
pub(crate) use trust::escaped;
pub(crate) use who::{Effect, List, Who};

use std::fmt::{self, Display};
use std::sync::{Arc, PoisonError, RwLock};

/// Why a peer is refused, in the words of `reason=`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Reason {
    Identity,
    Rule,
    MaxPerUser,
    Rate,
}

impl Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Reason::Identity => "identity",
            Reason::Rule => "rule",
            Reason::MaxPerUser => "max-per-user",
            Reason::Rate => "rate",
        })
    }
}

/// The rule that decided, for `rule=`.
#[derive(Clone, Debug)]
pub(crate) enum RuleName {
    /// `none`, `default`.
    Fixed(&'static str),
    /// An option, as it was given.
    Option(Arc<str>),
    /// A key of the stored rules.
    Key(String),
}

impl Display for RuleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleName::Fixed(name) => formatter.write_str(name),
            RuleName::Option(name) => formatter.write_str(name),
            RuleName::Key(name) => formatter.write_str(name),
        }
    }
}

/// What the rules say of one peer.
pub(crate) enum Verdict {
    Allow {
        rule: RuleName,
        /// What the rule sets and removes in the environment; `None` as value removes.
        env: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        exec: Option<Vec<u8>>,
    },
    Deny(RuleName),
    /// The rules could not be asked; the cause, one line.
    Failed(String),
}

impl Verdict {
    fn allow(rule: RuleName) -> Verdict {
        Verdict::Allow {
            rule,
            env: Vec::new(),
            exec: None,
        }
    }
}

/// Where the rules are; one source at a time.
pub(crate) enum Rules {
    /// The socket's mode and owner decide alone.
    None,
    /// `--allow` and `--deny`; exchanged whole when names are resolved again.
    Options(RwLock<Arc<List>>),
    /// `--rules`: a directory, read at each connection, or a database.
    Stored(Stored),
}

impl Rules {
    pub(crate) fn judge(&self, peer: &Peer) -> Verdict {
        match self {
            Rules::None => Verdict::allow(RuleName::Fixed("none")),
            Rules::Options(list) => current(list).judge(peer),
            Rules::Stored(stored) => match stored.judge(&peer.asker()) {
                Answer::Allow(Grant { key, env, exec }) => Verdict::Allow {
                    rule: RuleName::Key(key),
                    env,
                    exec,
                },
                Answer::Deny(key) => Verdict::Deny(RuleName::Key(key)),
                Answer::NoRule => Verdict::Deny(RuleName::Fixed("none")),
                Answer::Failed(cause) => Verdict::Failed(cause),
            },
        }
    }

    /// Whether the rules cannot be asked for `asker`.
    pub(crate) fn fail(&self, asker: &Asker) -> bool {
        match self {
            Rules::None | Rules::Options(_) => false,
            Rules::Stored(stored) => matches!(stored.judge(asker), Answer::Failed(_)),
        }
    }
}

/// The value as it is now; the lock is held for no longer than a count.
pub(crate) fn current<T>(shared: &RwLock<Arc<T>>) -> Arc<T> {
    // A writer only stores a finished value, so a poisoned lock still holds a whole one.
    Arc::clone(&shared.read().unwrap_or_else(PoisonError::into_inner))
}

/// Puts a new value in place of the old.
pub(crate) fn exchange<T>(shared: &RwLock<Arc<T>>, value: T) {
    *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
}
