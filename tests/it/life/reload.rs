//! SIGHUP, as the service manager sees it.

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

use super::{MAX_1, assert_all_answered, assert_serves, echo, notices_with, served};
use crate::support::{Door, eventually, inspect};

fn monotonic_microseconds() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000
}

#[test]
fn reload_is_told_with_its_time_in_one_datagram_and_then_ready() {
    let door = Door::new().serve(echo());
    let before = monotonic_microseconds();
    door.signal(Signal::SIGHUP);
    let notice = door.wait_notice("RELOADING=1");
    let after = monotonic_microseconds();

    let lines: Vec<&str> = notice.text.lines().collect();
    assert_eq!(lines.len(), 2, "{:?}", notice.text);
    assert_eq!(lines[0], "RELOADING=1");
    let time: i64 = lines[1]
        .strip_prefix("MONOTONIC_USEC=")
        .expect("the time")
        .parse()
        .unwrap();
    assert!((before..=after).contains(&time), "{before} {time} {after}");
    door.notices()
        .wait_count("READY=1", 2)
        .expect("ready again");
    let order: Vec<usize> = [
        notices_with(&door, "RELOADING=1"),
        notices_with(&door, "READY=1"),
    ]
    .concat()
    .iter()
    .map(|(place, _)| *place)
    .collect();
    assert!(order[1] < order[0] && order[0] < order[2], "{order:?}");
    door.wait_log("doorward: reload");
    door.wait_log("doorward: reloaded");
}

#[test]
fn storm_of_reloads_harms_nobody() {
    let mut door = Door::new().args(["--allow", "user:root"]).serve(echo());
    let mut client = served(door.connect());
    let before = door.fds().len();
    for round in 0..400 {
        door.signal(Signal::SIGHUP);
        if round % 20 == 0 {
            assert_serves(&door);
        }
    }

    // Each that was begun is finished, the last one too.
    eventually("the end of the reloads", || {
        let (begun, ready) = (
            notices_with(&door, "RELOADING=1"),
            notices_with(&door, "READY=1"),
        );
        let last = |all: &[(usize, _)]| all.last().map(|(place, _)| *place);
        ready.len() == begun.len() + 1 && last(&ready) > last(&begun)
    });
    super::assert_echoes(&mut client);
    drop(client);
    door.wait_children(0);
    eventually("no descriptor more than before", || {
        door.fds().len() <= before
    });
    assert!(inspect::alive(door.pid()));
    assert!(door.stop().success());
}

#[test]
fn reload_works_while_everybody_waits_for_room() {
    let door = Door::new().args(MAX_1).serve(echo());
    let first = served(door.connect());
    let waiting: Vec<_> = (0..12).map(|_| door.connect()).collect();
    door.wait_log("doorward: full ");
    door.signal(Signal::SIGHUP);
    door.wait_log("doorward: reloaded");
    drop(first);
    assert_all_answered(waiting);
}
