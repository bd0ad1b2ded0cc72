//! Clients that mean no good: others are served all the same.

use super::{ALL, Guest};
use crate::support::Client;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use std::os::fd::{AsFd, AsRawFd};

/// Sends until the other side's queue is full.
fn stuff(client: &Client, line: &[u8]) {
    loop {
        match send(client.as_fd().as_raw_fd(), line, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return,
            Err(other) => panic!("send: {other}"),
        }
    }
}

#[test]
fn client_that_says_nothing_half_a_line_or_never_reads_makes_nobody_wait() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let (door, program) = language.door();
        let door = door.serve(program);
        let _silent = door.connect();
        let mut half = Guest::greeted(door.connect());
        half.client.send(b"get la");
        let mut value = Guest::greeted(door.connect());
        assert_eq!(value.ask(&format!("set lamp {}", "x".repeat(3000))), "ok");
        let deaf = Guest::greeted(door.connect());
        stuff(&deaf.client, b"get lamp\n");

        assert_eq!(value.ask("get other"), "none");
        let mut next = Guest::greeted(door.connect());
        assert_eq!(next.ask("get other"), "none");
        half.client.send(b"mp2\n");
        assert_eq!(half.client.read_line(), "none");
    }
}

#[test]
fn line_without_end_is_the_end_and_one_of_the_longest_is_not() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let (door, program) = language.door();
        let door = door.serve(program);
        let mut guest = Guest::greeted(door.connect());
        let longest = format!("set lamp {}", "x".repeat(4095 - "set lamp ".len()));
        assert_eq!(guest.ask(&longest), "ok");
        guest.client.send(&[b'x'; 4096]);
        assert_eq!(guest.client.read_line(), "error too long");
        guest.client.assert_closed();
        let mut next = Guest::greeted(door.connect());
        assert_eq!(next.ask("get other"), "none");
    }
}

#[test]
fn events_that_are_not_read_are_dropped_and_the_client_is_told_how_many() {
    need!("python3", "gcc", "go");
    const EVENTS: usize = 400;
    for language in ALL {
        let (door, program) = language.door();
        let door = door.serve(program);
        let mut slow = Guest::greeted(door.connect());
        assert_eq!(slow.ask("watch lamp"), "ok");
        let mut setting = Guest::greeted(door.connect());
        for n in 0..EVENTS {
            let line = format!("set lamp {n} {}", "x".repeat(3000));
            assert_eq!(setting.ask(&line), "ok");
        }
        // Room for one more at least, and then the account.
        let first = slow.events.read_line();
        assert!(first.starts_with("changed lamp 0 0 x"), "{first}");
        for _ in 0..20 {
            slow.events.read_line();
        }
        assert_eq!(setting.ask("set lamp last"), "ok");
        let mut heard = 21;
        let lost: usize = loop {
            let line = slow.events.read_line();
            if let Some(lost) = line.strip_prefix("lost ") {
                break lost.parse().unwrap();
            }
            assert!(line.ends_with("xxx"), "a whole line: {line}");
            heard += 1;
        };
        assert_eq!(heard + lost, EVENTS, "{language:?}: each is accounted for");
        assert!(slow.events.read_line().ends_with(" last"));
    }
}

#[test]
fn client_without_its_notification_socket_is_answered_all_the_same() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let (door, program) = language.door();
        let door = door.serve(program);
        let mut guest = Guest::greeted(door.connect());
        assert_eq!(guest.ask("watch lamp"), "ok");
        let Guest { client, events } = guest;
        drop(events);
        let (_, kept) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut guest = Guest {
            client,
            events: Client::from(std::os::fd::OwnedFd::from(kept)),
        };
        for n in 0..3 {
            assert_eq!(guest.ask(&format!("set lamp {n}")), "ok");
        }
        assert_eq!(guest.ask("get lamp"), "ok 2");
    }
}
