//! The vocabulary of the tests. A test reads: arrange, act, assert.
//!
//! ```text
//! let door = Door::new().args(["--max-per-user", "1"]).serve(["sleep", "5"]);
//! let first = door.connect();
//! door.connect().assert_closed();
//! door.wait_log("reason=max-per-user");
//! ```
// Not every word of a vocabulary is in use at every moment.
#![allow(dead_code, unused_imports)]

#[macro_use]
pub mod need;

pub mod client;
pub mod door;
pub mod inspect;
pub mod lines;
pub mod mark;
pub mod neighbour;
pub mod notices;
pub mod outcome;
pub mod probe;
pub mod raw;
pub mod scratch;
pub mod screen;
pub mod served;
pub mod systemd;
pub mod users;

pub use client::{Client, Dial};
pub use door::{Door, doorward};
pub use neighbour::Neighbour;
pub use notices::Notice;
pub use outcome::Outcome;
pub use probe::{Report, probe};
pub use scratch::Scratch;
pub use screen::{Screen, Session};
pub use served::Served;
pub use systemd::Systemd;
pub use users::User;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives it up.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; panics after [`DEADLINE`], saying what was waited for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Waits until `look` finds something, and gives it; panics after [`DEADLINE`].
#[track_caller]
pub fn eventually_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "waited {DEADLINE:?} in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
