//! `doorward activate`: daemons that start at the first client or datagram, and what becomes of both when they end.

mod daemons;
mod end;
mod failing;
mod gets;
mod manager;
mod source;
mod systemd;

use crate::support::{Door, Served, inspect, probe};

/// `doorward activate OPTIONS`, on a socket of its own.
fn activate<const N: usize>(options: [&str; N]) -> Door {
    Door::new().command("activate").args(options)
}

/// A daemon that says what it was given, on standard output, and stays.
fn reporter() -> [String; 3] {
    let script = format!("{} report 1; exec sleep 1000", probe().display());
    ["sh".to_owned(), "-c".to_owned(), script]
}

/// A daemon that takes one client, answers it, and is done.
const ONE: [&str; 3] = [
    "python3",
    "-c",
    "import socket
s = socket.socket(fileno=3).accept()[0]
s.sendall(b'served\\n')",
];

/// The numbers of the descriptors that doorward's poll watches.
fn watched(door: &Served) -> Vec<i32> {
    let poll = door
        .fds()
        .into_iter()
        .find(|(_, to)| to == "anon_inode:[eventpoll]");
    let (number, _) = poll.expect("a poll");
    let info = format!("/proc/{}/fdinfo/{number}", door.pid());
    let info = std::fs::read_to_string(info).unwrap_or_default();
    let lines = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
    lines
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Those of doorward's descriptors that are in its poll and have `text` in what they lead to.
fn watches(door: &Served, text: &str) -> usize {
    let fds = inspect::fds(door.pid());
    let these = watched(door);
    these
        .iter()
        .filter(|number| fds.get(number).is_some_and(|to| to.contains(text)))
        .count()
}
