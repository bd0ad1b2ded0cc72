//! Keys, values, and whose they are.
#![forbid(unsafe_code)]

use std::collections::HashMap;

/// The longest key, in bytes.
const LONGEST_KEY: usize = 64;
/// How many keys one user may have.
const KEYS_PER_USER: usize = 1000;

/// Everything that is remembered.
#[derive(Default)]
pub struct Store {
    entries: HashMap<String, Entry>,
    /// Keys by user.
    counts: HashMap<u32, usize>,
}

struct Entry {
    value: String,
    owner: u32,
}

/// A change, for who watches the key.
pub struct Event {
    pub key: String,
    /// With its newline.
    pub line: String,
}

/// Why a change is refused, as the client reads it.
pub type Refusal = &'static str;

impl Store {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|entry| entry.value.as_str())
    }

    pub fn set(&mut self, key: &str, value: &str, user: u32) -> Result<Event, Refusal> {
        if let Some(entry) = self.entries.get_mut(key) {
            if !may_change(user, entry.owner) {
                return Err("not yours");
            }
            value.clone_into(&mut entry.value);
        } else {
            let count = self.counts.entry(user).or_default();
            if *count >= KEYS_PER_USER {
                return Err("too many keys");
            }
            *count += 1;
            let entry = Entry {
                value: value.to_owned(),
                owner: user,
            };
            self.entries.insert(key.to_owned(), entry);
        }
        Ok(Event {
            key: key.to_owned(),
            line: format!("changed {key} {user} {value}\n"),
        })
    }

    pub fn remove(&mut self, key: &str, user: u32) -> Result<Event, Refusal> {
        let owner = self.entries.get(key).ok_or("no such key")?.owner;
        if !may_change(user, owner) {
            return Err("not yours");
        }
        self.entries.remove(key);
        if let Some(count) = self.counts.get_mut(&owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&owner);
            }
        }
        Ok(Event {
            key: key.to_owned(),
            line: format!("removed {key} {user}\n"),
        })
    }
}

/// Root may change everything.
fn may_change(user: u32, owner: u32) -> bool {
    user == 0 || user == owner
}

/// Whether a word may be a key: printable ASCII, not too long.
pub fn is_key(word: &str) -> bool {
    (1..=LONGEST_KEY).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic())
}
