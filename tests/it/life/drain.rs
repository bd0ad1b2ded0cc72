//! SIGTERM and SIGINT: what is held is delivered, what runs may finish, and what does not finish is ended.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{
    MAX_1, assert_all_answered, assert_echoes, echo, hold, notices_with, probe_with, served,
};
use crate::source::stream;
use crate::support::{Client, Dial, Door, Served, eventually, inspect};

/// Sends the signal and waits until the service says that it stops.
#[track_caller]
fn begin_to_stop(door: &Served, signal: Signal) {
    door.signal(signal);
    door.wait_notice("STOPPING=1");
}

/// A client that comes now is not let in, and is not left waiting either.
#[track_caller]
fn assert_shut(door: &Served) {
    eventually("the door to be shut", || match door.dial().try_connect() {
        Err(e) => {
            let shut = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
            assert!(shut.contains(&e.kind()), "{e}");
            true
        }
        // Before the shutdown it is a client like others, and answered.
        Ok(mut client) => {
            client.ask(b"");
            false
        }
    });
}

#[test]
fn without_grace_it_ends_at_once_and_children_live_on() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut door = Door::new().serve(echo());
        let mut clients: Vec<_> = (0..3).map(|_| served(door.connect())).collect();
        let children = door.wait_children(3);

        begin_to_stop(&door, signal);

        assert_eq!(door.wait_exit().code(), Some(0), "{signal}");
        assert!(!door.socket().exists());
        clients.iter_mut().for_each(assert_echoes);
        assert!(children.into_iter().all(inspect::alive));
        // A child can have answered a moment before its door has noted it.
        let told = door.wait_log("doorward: drain slots=3 running=");
        assert!(told.ends_with(" grace=0"), "{told}");
        door.wait_log("doorward: stop slots=3 running=3");
    }
}

#[test]
fn stopping_is_told_first_and_asks_for_the_time_that_it_may_take() {
    let mut door = Door::new().args(["--grace", "100"]).serve(echo());
    let client = served(door.connect());
    begin_to_stop(&door, Signal::SIGTERM);
    let notice = door.wait_notice("STOPPING=1");
    drop(client);
    assert!(door.wait_exit().success());

    let extension = notice
        .text
        .lines()
        .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="))
        .expect("an extension");
    // The grace, then TERM, five seconds, KILL.
    let microseconds: u64 = extension.parse().unwrap();
    assert!(microseconds >= 105_000_000, "{microseconds}");
    assert_eq!(notices_with(&door, "STOPPING=1").len(), 1);
}

#[test]
fn with_a_grace_running_ones_finish_and_new_ones_are_refused() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut door = Door::new().args(["--grace", "600"]).serve(echo());
        let mut client = served(door.connect());
        begin_to_stop(&door, signal);

        assert_shut(&door);
        assert_echoes(&mut client);
        assert!(door.running());

        drop(client);
        assert_eq!(door.wait_exit().code(), Some(0), "{signal}");
    }
}

#[test]
fn grace_without_anybody_ends_at_once() {
    let mut door = Door::new().args(["--grace", "600"]).serve(echo());
    assert!(door.stop().success());
}

#[test]
fn at_the_end_of_the_grace_children_get_term() {
    let mut door = Door::new().args(["--grace", "0.5", "-v"]).serve(hold());
    let mut client = door.connect();
    door.wait_children(1);
    let began = Instant::now();
    assert!(door.stop().success());
    assert!(began.elapsed() >= Duration::from_millis(500));
    client.assert_closed();
    door.wait_log("signal=15");
}

#[test]
fn whole_groups_get_kill_five_seconds_after_term() {
    let script = r#"trap "" TERM; sleep 1000 & echo $! >&7; exec sleep 1000"#;
    let door = Door::new().args(["--grace", "0.2", "-v"]);
    let mut door = door.serve(["sh", "-c", script]);
    let mut client = door.connect();
    let grandchild: i32 = client.read_line().parse().unwrap();
    let child = door.wait_children(1)[0];

    let began = Instant::now();
    assert!(door.stop().success());

    let took = began.elapsed();
    assert!(took >= Duration::from_millis(5200), "{took:?}");
    // It is no child of doorward's, which has told it to end and does not see it end.
    eventually("the end of the group", || {
        !inspect::alive(child) && !inspect::alive(grandchild)
    });
    client.assert_closed();
    door.wait_log("signal=9");
}

#[test]
fn group_whose_leader_ends_at_term_is_killed_all_the_same() {
    let script = r#"(trap "" TERM; echo $$ >&7; exec sleep 1000) & exec sleep 1000"#;
    let mut door = Door::new()
        .args(["--grace", "0.2"])
        .serve(["sh", "-c", script]);
    let mut client = door.connect();
    client.read_line();
    door.wait_children(1);
    assert!(door.stop().success());
    // It held the connection: the end of file is its end.
    client.assert_closed();
}

#[test]
fn second_signal_ends_the_grace_at_once() {
    for (first, second) in [
        (Signal::SIGTERM, Signal::SIGTERM),
        (Signal::SIGINT, Signal::SIGTERM),
        (Signal::SIGTERM, Signal::SIGINT),
    ] {
        let mut door = Door::new().args(["--grace", "600"]).serve(hold());
        let mut client = door.connect();
        door.wait_children(1);
        begin_to_stop(&door, first);
        assert_shut(&door);
        door.signal(second);
        assert!(door.wait_exit().success());
        client.assert_closed();
    }
}

#[test]
fn signal_after_term_kills_at_once() {
    let door = Door::new().args(["--grace", "0.1", "-v"]);
    let mut door = door.serve(probe_with(["ignore-term", "6"]));
    let mut client = door.connect();
    assert_eq!(client.read_line(), "ready");
    begin_to_stop(&door, Signal::SIGTERM);
    door.wait_log("term child=");
    let began = Instant::now();
    door.signal(Signal::SIGTERM);
    assert!(door.wait_exit().success());
    assert!(began.elapsed() < Duration::from_secs(4));
    client.assert_closed();
}

#[test]
fn stopped_children_end_too() {
    let mut door = Door::new().args(["--grace", "0.1", "-v"]).serve(hold());
    let mut client = door.connect();
    let child = door.wait_children(1)[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGSTOP).unwrap();
    assert!(door.stop().success());
    client.assert_closed();
    door.wait_log("signal=15");
}

#[test]
fn clients_queued_on_an_own_socket_are_answered() {
    // Without a grace it takes a second for them.
    for (grace, count) in [("0", 15), ("60", 200)] {
        let mut door = Door::new().args(["--grace", grace]).serve(echo());
        door.pause();
        let clients: Vec<_> = (0..count).map(|_| door.connect()).collect();
        door.signal(Signal::SIGTERM);
        door.resume();
        assert_all_answered(clients);
        assert!(door.wait_exit().success());
    }
}

/// One client is served, which makes the door full; the others wait, eight of them each with a door.
#[track_caller]
fn full_house(door: &Served) -> (Client, Vec<Client>) {
    let first = served(door.connect());
    let others: Vec<_> = (0..8).map(|_| door.connect()).collect();
    // Refused connections are closed, waiting ones are held: sockets beside the listening and the notifying one.
    eventually("a door with each", || {
        let sockets = door.fds().into_values();
        sockets.filter(|to| to.starts_with("socket:")).count() == 10
    });
    (first, others)
}

#[test]
fn what_doors_hold_is_delivered_even_beyond_max() {
    let inherited = Door::new().no_bind().args(MAX_1);
    let socket = stream(&inherited.path("s"));
    let inherited = inherited.listen_fds([socket.try_clone().unwrap()], &[]);
    for door in [inherited, Door::new().args(MAX_1)] {
        let mut door = door.serve(echo());
        let (mut first, others) = full_house(&door);
        begin_to_stop(&door, Signal::SIGTERM);
        assert_all_answered(others);
        assert!(door.wait_exit().success());
        assert_echoes(&mut first);
    }
}

#[test]
fn successor_starts_while_the_grace_still_runs_and_keeps_its_socket() {
    let mut door = Door::new().args(["--grace", "600"]).serve(echo());
    let mut old = served(door.connect());
    begin_to_stop(&door, Signal::SIGTERM);
    assert_shut(&door);

    let successor = Door::new().bind(door.socket()).serve(echo());
    let new = served(successor.connect());
    assert_echoes(&mut old);
    drop((old, new));
    assert!(door.wait_exit().success());

    assert!(door.socket().exists());
    served(Dial::to(door.socket()).connect());
}

#[test]
fn slots_with_unread_greetings_do_not_hold_up_the_end() {
    let door = Door::new().args(["--grace", "600", "--notify"]);
    let mut door = door.serve(probe_with(["exit", "0"]));
    let _unread = door.connect();
    door.wait_notice("1 admitted");
    door.wait_children(0);
    assert!(door.stop().success());
}
