//! Watchdog pings: only while every door is well.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    MAX_1, assert_all_answered, assert_serves, copy_of, echo, hold, notices_with, served, stall,
};
use crate::support::{Door, Notice, Served, eventually, inspect};

const PING: &str = "WATCHDOG=1";

/// So many clients that every door has one more than the four whose children may be on their way to the program, and some wait.
const ALL_DOORS_HANG: usize = 8 * (4 + 1) + 10;

/// A door with a watchdog of that many microseconds.
fn watched(microseconds: &str) -> Door {
    Door::new().env("WATCHDOG_USEC", microseconds)
}

#[track_caller]
fn wait_pings(door: &Served, count: usize) -> Vec<Notice> {
    let notices = door.notices();
    notices
        .wait_count(PING, count)
        .unwrap_or_else(|| panic!("no {count} pings in {:#?}", notices.all()))
}

/// Something else has been told for a second at least, and no ping.
#[track_caller]
fn assert_no_pings(door: &Served) {
    door.wait_notice("slots=0/1000, 0 admitted");
    let first = served(door.connect());
    door.wait_notice("slots=1/1000, 1 admitted");
    let second = served(door.connect());
    door.wait_notice("slots=2/1000, 2 admitted");
    assert!(notices_with(door, PING).is_empty());
    drop((first, second));
}

#[test]
fn pings_come_at_half_the_interval() {
    let door = watched("600000").serve(hold());
    let pings = wait_pings(&door, 8);
    // The first comes at once. When the machine is busy they come late, never early.
    let took = pings[7].at - pings[0].at;
    assert!(took > Duration::from_millis(7 * 300 - 100), "{took:?}");
    assert!(took < Duration::from_millis(7 * 600), "{took:?}");
}

#[test]
fn pings_come_if_the_watchdog_is_for_this_process() {
    let own = r#"WATCHDOG_PID=$$ exec "$@""#;
    let door = watched("20000").wrap(["sh", "-c", own, "sh"]);
    wait_pings(&door.serve(hold()), 3);
}

#[test]
fn no_pings_if_the_watchdog_is_for_another_process_or_for_nobody() {
    for pid in ["1", "0", "-1", "x", "99999999999"] {
        let door = watched("10000").env("WATCHDOG_PID", pid).serve(echo());
        assert_no_pings(&door);
    }
}

#[test]
fn interval_that_is_none_gives_no_pings_and_costs_nothing() {
    for interval in ["", "0", "-1", "x", "1.5", "99999999999999999999999"] {
        let door = watched(interval).serve(echo());
        assert_no_pings(&door);
        let ticks = inspect::cpu_ticks(door.pid());
        assert!(ticks < 50, "{interval:?}: {ticks} ticks");
    }
}

#[test]
fn variables_of_the_watchdog_stop_here() {
    let door = watched("20000").serve(super::probe_with(["report", "7"]));
    let report = crate::support::Report::parse(door.connect().read_to_end());
    let left = |name: &String| name.starts_with("WATCHDOG") || name == "NOTIFY_SOCKET";
    assert!(!report.env_names().iter().any(left));
}

#[test]
fn pings_go_on_while_all_doors_wait_for_room() {
    let door = watched("20000").args(MAX_1).serve(echo());
    let first = served(door.connect());
    let others: Vec<_> = (0..12).map(|_| door.connect()).collect();
    // A door each; the rest waits in the kernel's queue.
    eventually("every door with a client", || connections(&door) == 8);
    let before = notices_with(&door, PING).len();
    wait_pings(&door, before + 10);
    drop(first);
    assert_all_answered(others);
}

/// Connections that doorward holds: all its sockets but the listening one and the one that tells the manager.
fn connections(door: &Served) -> usize {
    let sockets = door.fds().into_values();
    let sockets = sockets.filter(|to| to.starts_with("socket:"));
    sockets.count().saturating_sub(2)
}

#[test]
fn pings_stop_while_a_door_hangs_and_come_again_when_it_moves() {
    let door = watched("100000");
    let program = copy_of("/bin/cat", door.path("program"));
    let door = door.args(["--inetd"]).serve([&program]);
    assert_serves(&door);
    wait_pings(&door, 2);

    // Running the program now waits for the lease, and with it each door that waits for a child or has four on their way.
    let lease = stall(&program);
    let stuck: Vec<_> = (0..ALL_DOORS_HANG).map(|_| door.connect()).collect();
    door.wait_log("has stood still");
    let before = notices_with(&door, PING).len();
    door.wait_log("has stood still");
    door.wait_log("has stood still");
    assert_eq!(notices_with(&door, PING).len(), before);

    drop(lease);
    assert_all_answered(stuck);
    wait_pings(&door, before + 3);
    assert_serves(&door);
}

#[test]
fn door_that_hangs_does_not_keep_the_service_from_ending() {
    let door = Door::new();
    let program = copy_of("/bin/cat", door.path("program"));
    let mut door = door.args(["--inetd"]).serve([&program]);
    assert_serves(&door);
    let lease = stall(&program);
    let _stuck: Vec<_> = (0..ALL_DOORS_HANG).map(|_| door.connect()).collect();
    eventually("every door with a client, and children before it", || {
        connections(&door) == 8 && door.children().len() > 8
    });
    door.signal(Signal::SIGTERM);
    assert!(door.wait_exit().success());
    door.wait_log("a door does not come back");
    drop(lease);
}
