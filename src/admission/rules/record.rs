//! What one key holds, in whatever form the rules are stored.
#![forbid(unsafe_code)]

use super::{Answer, Grant};

/// A variable's name, and what to set it to; `None` removes it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// What stands at a key that has an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Allow {
        /// Each name once.
        env: Vec<Change>,
        /// The text as it is stored; an empty one is none.
        exec: Vec<u8>,
    },
    Deny,
}

impl Record {
    /// What it says to a peer that was asked for by `key`.
    pub(super) fn answer(self, key: &str) -> Answer {
        match self {
            Record::Allow { env, exec } => Answer::Allow(Grant {
                key: key.to_owned(),
                env,
                exec: program(exec),
            }),
            Record::Deny => Answer::Deny(key.to_owned()),
        }
    }
}

/// The text to run: up to its first zero byte, as an argument of execlineb. An empty file is none at all.
fn program(mut text: Vec<u8>) -> Option<Vec<u8>> {
    if text.is_empty() {
        return None;
    }
    if let Some(end) = text.iter().position(|&byte| byte == 0) {
        text.truncate(end);
    }
    Some(text)
}
