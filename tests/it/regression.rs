//! What went wrong once: each test fails without the change that it came with.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::{DEADLINE, Door, inspect, probe};

/// The program that reports what it was given, on the connection.
fn reporter() -> [String; 3] {
    [
        probe().to_str().unwrap().to_owned(),
        "report".to_owned(),
        "7".to_owned(),
    ]
}

#[test]
fn a_number_of_doorward_s_own_does_not_pass_for_one_that_was_open_at_the_start() {
    for option in ["--keep-fd", "--ready-fd"] {
        let door = Door::new().args([option, "3"]);
        let socket = door.path("s");
        door.fails(reporter()).assert(100, [option, "3", "open"]);
        assert!(!socket.exists(), "{option}");
    }
}

#[test]
fn run_as_the_same_user_does_not_keep_groups_that_are_not_that_user_s() {
    need!(root, "setpriv");
    let me = ["setpriv", "--reuid", "990", "--regid", "990"];
    let door = Door::new();
    chown(door.dir(), Some(990), None).unwrap();
    let outcome = door
        .wrap(me.iter().chain(&["--groups", "0"]))
        .args(["--run-as", "990:990"])
        .fails(reporter());
    outcome.assert(111, ["unable to set the supplementary groups"]);

    let door = Door::new();
    chown(door.dir(), Some(990), None).unwrap();
    let door = door
        .wrap(me.iter().chain(&["--clear-groups"]))
        .args(["--run-as", "990:990"])
        .serve(reporter());
    door.connect().read_to_end();
}

#[test]
fn a_log_file_at_its_size_limit_does_not_end_the_service() {
    need!("prlimit");
    let door = Door::new();
    let log = File::create(door.path("log")).unwrap();
    let mut door = door
        .fd2(log)
        .wrap(["prlimit", "--fsize=1"])
        .args(["--deny", "all"])
        .serve(reporter());
    for _ in 0..3 {
        door.connect().assert_closed();
    }
    assert!(door.running());
    assert!(door.stop().success());
}

#[test]
fn readiness_reaches_a_manager_that_had_no_room_for_it_at_first() {
    let door = Door::new().no_notify();
    let path = door.path("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let junk = UnixDatagram::unbound().unwrap();
    junk.set_nonblocking(true).unwrap();
    while junk.send_to(b"junk", &path).is_ok() {}

    let door = door.env("NOTIFY_SOCKET", &path).serve(reporter());
    // Who answers a signal is past the attempt to tell.
    door.wait_log("ready");
    door.signal(Signal::SIGUSR1);
    door.wait_log("status");

    let mut datagram = [0; 1024];
    loop {
        let length = manager.recv(&mut datagram).expect("READY=1");
        if datagram[..length].starts_with(b"READY=1") {
            return;
        }
    }
}

#[test]
fn a_watchdog_interval_of_zero_is_none() {
    let mut door = Door::new().env("WATCHDOG_USEC", "0").serve(reporter());
    door.connect().read_to_end();
    assert!(door.stop().success());
    let notices = door.notices().all();
    assert!(
        !format!("{notices:?}").contains("WATCHDOG=1"),
        "{notices:?}"
    );
}

#[test]
fn a_greeted_client_that_reads_does_not_wake_the_control_thread() {
    let door = Door::new().args(["--notify"]).serve([
        "sh",
        "-c",
        "while read line <&6; do echo $line >&7; done",
    ]);
    // What the main thread waits for, it waits for by leaving the processor.
    let waits = || -> u64 {
        let line = inspect::status_line(door.pid(), "voluntary_ctxt_switches");
        line.unwrap().parse().unwrap()
    };
    let mut client = door.connect();
    client.recv_greeting();
    let mut round_trips = |count| {
        for _ in 0..count {
            client.send(b"hello\n");
            assert_eq!(client.read_line().trim_end(), "hello");
        }
    };
    round_trips(1);
    let before = waits();
    round_trips(200);
    let woken = waits() - before;
    assert!(woken < 50, "{woken} times in 200 round trips");
}

#[test]
fn greeted_connections_are_served_where_no_high_number_is_left() {
    need!(root, "prlimit");
    let door = Door::new().args(["--notify"]).serve(reporter());
    // All that doorward holds for good stands below, and not one number above.
    let limit = door.fds().keys().max().unwrap() + 1;
    let nofile = format!("--nofile={limit}:{limit}");
    let status = Command::new("prlimit")
        .args(["--pid", &door.pid().to_string(), &nofile])
        .status()
        .unwrap();
    assert!(status.success());
    for _ in 0..20 {
        let mut client = door.connect();
        client.recv_greeting();
        assert!(!client.read_to_end().is_empty());
    }
}

#[test]
fn what_a_door_holds_at_the_end_is_not_lost_to_a_limit_that_passes() {
    need!(root, "prlimit", "setpriv");
    let door = Door::new().no_bind().args(["--run-as", "4322:4322"]);
    let socket = UnixListener::bind(door.path("s")).unwrap();
    let mut door = door.fd0(socket).serve(reporter());
    let processes = |limit: &str| {
        let (pid, nproc) = (door.pid().to_string(), format!("--nproc={limit}:"));
        // As that very user, for root may lack the right over another's limits.
        let status = Command::new("setpriv")
            .args(["--reuid=4322", "--regid=4322", "--clear-groups"])
            .args(["prlimit", "--pid", &pid, &nproc])
            .status()
            .unwrap();
        assert!(status.success());
    };
    processes("1");
    let mut client = door.connect();
    door.wait_log("unable to create a child");
    door.signal(Signal::SIGTERM);
    door.wait_log("drain");
    // Said once a second: by now it was tried again after the doors were told to leave.
    door.wait_log("unable to create a child");
    processes("1000");
    assert!(!client.read_to_end().is_empty());
    assert!(door.wait_exit().success());
}
