//! From readiness to the end: what the service says of itself, how it takes signals, and how it bears what comes.
//!
//! | module | its subject |
//! | --- | --- |
//! | `ready` | NOTIFY_SOCKET and `--ready-fd` |
//! | `status` | STATUS lines and SIGUSR1 |
//! | `reload` | SIGHUP |
//! | `watchdog` | pings, and none where a door hangs |
//! | `drain` | SIGTERM: what is held, what runs, the grace |
//! | `restart` | stop and start: inherited sockets, own sockets, `kill -9` |
//! | `stderr` | every kind of standard error, above all those that nobody reads |
//! | `forged` | names with newlines and escapes in every message |
//! | `wrong_use` | exit codes, and options that make no sense together |
//! | `overload` | limits of the system, bursts, programs that fail |
//! | `resources` | memory and descriptors after thousands of connections |

mod drain;
mod forged;
mod overload;
mod ready;
mod reload;
mod resources;
mod restart;
mod status;
mod stderr;
mod watchdog;
mod wrong_use;

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::support::{Client, Notice, Served, eventually_some, probe, raw};

/// The words that start the probe.
fn probe_with<const N: usize>(words: [&str; N]) -> Vec<String> {
    let mut all = vec![probe().to_str().unwrap().to_owned()];
    all.extend(words.map(str::to_owned));
    all
}

/// Each child copies what its client says back to it.
fn echo() -> Vec<String> {
    probe_with(["echo", "6", "7"])
}

/// Each child waits for its client to leave.
fn hold() -> Vec<String> {
    probe_with(["hold", "6"])
}

/// Options of a door that is full with one.
const MAX_1: [&str; 4] = ["--max", "1", "--max-per-user", "1000"];

/// A connection to an [`echo`] that has its child.
#[track_caller]
fn served(mut client: Client) -> Client {
    assert_echoes(&mut client);
    client
}

/// It is served, and stays open.
#[track_caller]
fn assert_echoes(client: &mut Client) {
    client.send(b"there?");
    assert_eq!(client.read_exactly(6), b"there?");
}

/// Every one of the clients is answered, in whichever order there is room.
#[track_caller]
fn assert_all_answered(mut clients: Vec<Client>) {
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("client {number}").as_bytes());
        client.shutdown_write();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.read_text(), format!("client {number}"));
    }
}

/// The service is well: a new client is answered.
#[track_caller]
fn assert_serves(door: &Served) {
    assert_eq!(door.connect().ask(b"hello"), b"hello");
}

/// Places and texts of notices so far that contain `text`.
fn notices_with(door: &Served, text: &str) -> Vec<(usize, Notice)> {
    let all = door.notices().all().into_iter().enumerate();
    all.filter(|(_, notice)| notice.text.contains(text))
        .collect()
}

/// A copy of a program that is the test's own.
fn copy_of(program: &str, to: PathBuf) -> PathBuf {
    // By cp, for the reason that `write_script` gives.
    let copied = std::process::Command::new("cp")
        .arg(program)
        .arg(&to)
        .status();
    assert!(copied.unwrap().success(), "copy {program}");
    to
}

/// From now on whoever opens `path` (to run it, for one) waits, until what this gives is dropped.
#[track_caller]
fn stall(path: &Path) -> File {
    // Another test's child that is just starting may have the file open for a moment.
    eventually_some("a lease", || {
        let file = File::open(path).unwrap();
        raw::lease(&file).ok().map(|()| file)
    })
}
