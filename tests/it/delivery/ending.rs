//! How children end, and clients that do not behave.

use std::fs::File;
use std::os::fd::AsFd;

use nix::sys::signal::Signal;

use crate::support::{Client, Door, Served, eventually, inspect, probe};

fn probing<const N: usize>(door: Door, words: [&str; N]) -> Served {
    let probe = probe();
    door.serve([probe.to_str().unwrap()].into_iter().chain(words))
}

#[test]
fn the_end_line_says_how_a_child_ended() {
    for code in ["0", "1", "42", "100", "127", "255"] {
        let door = probing(Door::new().args(["-v"]), ["exit", code]);
        door.connect().assert_closed();
        let line = door.wait_log("doorward: end ");
        assert!(line.contains(&format!(" status={code} seconds=")), "{line}");
    }
    for signal in ["1", "2", "6", "9", "11", "13", "15", "34", "64"] {
        let door = probing(Door::new().args(["-v"]), ["die", signal]);
        door.connect().assert_closed();
        let line = door.wait_log("doorward: end ");
        assert!(
            line.contains(&format!(" signal={signal} seconds=")),
            "{line}"
        );
        assert!(!line.contains("status="), "{line}");
    }
}

#[test]
fn the_end_line_has_the_seconds_that_the_child_ran() {
    let door = probing(Door::new().args(["-v"]), ["sleep-ms", "300"]);
    door.connect().assert_closed();
    let line = door.wait_log("doorward: end ");
    let seconds: f64 = line.rsplit_once("seconds=").unwrap().1.parse().unwrap();
    assert!((0.3..10.0).contains(&seconds), "{line}");
}

#[test]
fn a_child_that_stops_or_goes_on_has_not_ended() {
    let door = probing(Door::new().args(["-v"]), ["echo", "6", "7"]);
    let mut client = door.connect();
    let child = nix::unistd::Pid::from_raw(door.wait_children(1)[0]);
    for _ in 0..3 {
        nix::sys::signal::kill(child, Signal::SIGSTOP).unwrap();
        nix::sys::signal::kill(child, Signal::SIGCONT).unwrap();
    }
    client.send(b"x");
    assert_eq!(client.read_exactly(1), b"x");
    assert_eq!(door.count_log("doorward: end "), 0);
    drop(client);
    door.wait_log("doorward: end ");
}

#[test]
fn every_child_is_reaped() {
    let door = Door::new().serve(["true"]);
    for _ in 0..50 {
        door.connect().assert_closed();
    }
    let parent = Some(door.pid().to_string());
    eventually("no child, not even a zombie", || {
        inspect::pids()
            .into_iter()
            .all(|pid| inspect::status_line(pid, "PPid") != parent)
    });
    door.wait_slots(0);
}

#[test]
fn clients_that_close_at_once_leave_nothing_behind() {
    let mut door = probing(Door::new(), ["echo", "6", "7"]);
    let before = door.fds().len();
    for _ in 0..500 {
        drop(door.connect());
    }
    door.wait_slots(0);
    eventually("the descriptors of before", || door.fds().len() == before);
    assert!(door.running());
}

#[test]
fn descriptors_that_nobody_asked_for_stay_with_nobody() {
    let door = probing(Door::new(), ["echo", "6", "7"]);
    let before = door.fds();
    let null = File::open("/dev/zero").unwrap();
    let many = [null.as_fd(); 16];
    for _ in 0..500 {
        let mut client = door.connect();
        client.send_fds(b"x", &many);
        assert_eq!(client.read_exactly(1), b"x");
    }
    door.wait_slots(0);
    eventually("the descriptors of before", || {
        door.fds().len() == before.len()
    });
    assert!(door.fds().values().all(|to| to != "/dev/zero"));
}

#[test]
fn a_client_sees_the_end_as_soon_as_its_child_is_gone() {
    // Nobody else holds the connection: not doorward, not the children of others.
    let door = Door::new()
        .args(["--inetd"])
        .serve(["sh", "-c", "echo $$; exec cat"]);
    let mut clients: Vec<(Client, i32)> = (0..10)
        .map(|_| {
            let mut client = door.connect();
            let child = client.read_line().parse().unwrap();
            (client, child)
        })
        .collect();
    while let Some((mut client, child)) = clients.pop() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL).unwrap();
        client.assert_closed();
        for (other, _) in &clients {
            other.assert_open();
        }
    }
}
