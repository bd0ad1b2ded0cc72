//! `doorward handoff`: what backends get, and what becomes of connections when backends misbehave or die.
//!
//! The backend of these tests is the probe's (tests/probe/backend.rs): it knows the wire and nothing of the library.

mod drain;
mod hostile;
mod lease;
mod limits;
mod listening;
mod message;
mod notify;
mod ready;
mod restart;
mod storm;
mod worker;
mod wrong_use;

use crate::support::{Client, Door, Served, eventually, probe};

/// `doorward handoff`, with everything in its log.
fn door() -> Door {
    Door::new().command("handoff").args(["-v"])
}

/// The command line of the probe's backend.
fn backend(options: &[&str]) -> Vec<String> {
    let probe = probe().to_str().expect("text").to_owned();
    let words = [probe, "backend".to_owned()];
    words
        .into_iter()
        .chain(options.iter().map(|&option| option.to_owned()))
        .collect()
}

/// For `--backend`: no program.
const NOBODY: [&str; 0] = [];

/// Sends the backend one line.
#[track_caller]
fn order(client: &mut Client, line: &str) {
    client.send(format!("{line}\n").as_bytes());
}

/// A connection of its own for one line, and the whole answer.
#[track_caller]
fn ask(door: &Served, line: &str) -> String {
    let mut client = door.connect();
    order(&mut client, line);
    client.read_text()
}

/// The pid of whoever serves now.
#[track_caller]
fn serving(door: &Served) -> i32 {
    pid(&ask(door, "pid"))
}

#[track_caller]
fn pid(answer: &str) -> i32 {
    let answer = answer.trim_end();
    answer
        .parse()
        .unwrap_or_else(|_| panic!("no pid: {answer:?}"))
}

/// A client of which the backend keeps everything.
#[track_caller]
fn kept(door: &Served) -> Client {
    let mut client = door.connect();
    order(&mut client, "keep");
    assert_eq!(client.read_line(), "kept");
    client
}

/// A client that the backend has taken and of which it waits for a line; it takes no other meanwhile.
#[track_caller]
fn occupying(door: &Served) -> Client {
    let mut client = door.connect();
    order(&mut client, "wait");
    assert_eq!(client.read_line(), "waiting");
    client
}

/// Waits until doorward has handed off `count` connections in all.
#[track_caller]
fn wait_allowed(door: &Served, count: usize) {
    eventually(&format!("{count} lines of allow"), || {
        door.count_log("doorward: allow ") == count
    });
}

/// What a backend tells of a message that it got.
struct Told {
    payload: Vec<u8>,
    truncated: bool,
    /// Number, kind of socket, flags, link, access mode, pid: as the probe has it.
    descriptors: Vec<String>,
}

impl Told {
    /// Asks for the message of a connection.
    #[track_caller]
    fn of(mut client: Client) -> Told {
        order(&mut client, "message");
        let text = client.read_text();
        let mut told = Told {
            payload: Vec::new(),
            truncated: true,
            descriptors: Vec::new(),
        };
        for line in text.lines() {
            let (key, value) = line.split_once(' ').expect("a key");
            match key {
                "payload" => told.payload = bytes(value),
                "truncated" => told.truncated = value != "0",
                "descriptor" => told.descriptors.push(value.to_owned()),
                _ => panic!("odd line {line:?}"),
            }
        }
        assert!(!told.truncated, "truncated: {text}");
        told
    }

    /// The entries of the payload, each of which a NUL ends.
    #[track_caller]
    fn entries(&self) -> Vec<String> {
        let text = String::from_utf8(self.payload.clone()).expect("text");
        let all = text.strip_suffix('\0').expect("a NUL at the end");
        all.split('\0').map(str::to_owned).collect()
    }

    /// The value of `name`; None where it is not set, Some(None) where it is to be unset.
    #[track_caller]
    fn value(&self, name: &str) -> Option<Option<String>> {
        let these: Vec<Option<String>> = self
            .entries()
            .iter()
            .filter_map(|entry| match entry.split_once('=') {
                Some((this, value)) => (this == name).then(|| Some(value.to_owned())),
                None => (entry == name).then_some(None),
            })
            .collect();
        assert!(these.len() <= 1, "{name} stands there twice: {these:?}");
        these.into_iter().next()
    }

    /// The value of a name that must be set.
    #[track_caller]
    fn get(&self, name: &str) -> String {
        self.value(name)
            .flatten()
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// The line of the descriptor that HANDOFF_FDS calls `name`.
    #[track_caller]
    fn descriptor(&self, name: &str) -> &str {
        let names = self.get("HANDOFF_FDS");
        assert_eq!(names.split(':').count(), self.descriptors.len());
        let at = names.split(':').position(|this| this == name);
        &self.descriptors[at.unwrap_or_else(|| panic!("no {name}"))]
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digits).collect()
}
