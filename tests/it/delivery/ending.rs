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

/// Every child has its `end` line, with the pid of its `allow` line, after it, and no slot is left.
#[track_caller]
fn assert_all_ended(door: &Served, count: usize) {
    eventually("all ends", || door.count_log("doorward: end ") == count);
    door.wait_slots(0);
    let log = door.log();
    let child = |line: &String| {
        let (_, rest) = line.split_once(" child=")?;
        Some(rest.split(' ').next()?.to_owned())
    };
    let mut running = std::collections::HashSet::new();
    for line in &log {
        if line.starts_with("doorward: allow ") {
            assert!(running.insert(child(line).unwrap()), "{line}");
        } else if line.starts_with("doorward: end ") {
            assert!(line.contains(" status=0 "), "{line}");
            assert!(running.remove(&child(line).unwrap()), "{line}");
        }
    }
    assert!(running.is_empty(), "{running:?}");
}

#[test]
fn children_that_end_before_their_doors_know_of_them_are_accounted_for() {
    let door = Door::new().args(["-v"]).serve(["true"]);
    // More clients than doors, and all of them at once, again and again.
    let (rounds, clients) = (20, 50);
    for _ in 0..rounds {
        let clients: Vec<Client> = (0..clients).map(|_| door.connect()).collect();
        for mut client in clients {
            client.assert_closed();
        }
    }
    assert_all_ended(&door, rounds * clients);
}

#[test]
fn children_are_accounted_for_while_they_become_many_and_few_again() {
    let door = probing(Door::new().args(["-v"]), ["echo", "6", "7"]);
    let before = door.fds().len();
    let mut count = 0;
    for many in [70, 10, 100, 20, 65, 64, 200] {
        let mut clients: Vec<Client> = (0..many).map(|_| door.connect()).collect();
        count += clients.len();
        for client in &mut clients {
            client.send(b"x");
            assert_eq!(client.read_exactly(1), b"x");
        }
        // A few of them stay over the next change.
        while clients.len() > 5 {
            clients.pop();
        }
        door.wait_slots(5);
        drop(clients);
        door.wait_slots(0);
        eventually("the descriptors of before", || door.fds().len() == before);
    }
    assert_all_ended(&door, count);
}

#[test]
fn children_that_the_process_had_before_it_was_doorward_are_nobody_s() {
    let words = "(sleep 0.2; exit 3) & (exit 4) & exec \"$@\"";
    let door = Door::new()
        .args(["-v"])
        .wrap(["sh", "-c", words, "sh"])
        .serve(["true"]);
    for _ in 0..10 {
        door.connect().assert_closed();
    }
    eventually("the other to be gone", || door.children().is_empty());
    door.connect().assert_closed();
    assert_all_ended(&door, 11);
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
