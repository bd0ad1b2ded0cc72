//! Thousands of connections, one after the other and at once, leave nothing behind.

use super::{assert_serves, echo, hold, probe_with};
use crate::support::{Door, Served, eventually, inspect};

/// What doorward has open once nothing is under way.
#[track_caller]
fn descriptors_at_rest(door: &Served) -> usize {
    door.wait_slots(0);
    let mut before = usize::MAX;
    eventually("descriptors that do not change", || {
        let now = door.fds().len();
        std::mem::replace(&mut before, now) == now
    });
    before
}

#[test]
fn five_thousand_one_after_the_other_leave_no_descriptor_and_no_memory() {
    let door = Door::new()
        .args(["--pidfd"])
        .serve(probe_with(["notify", "7", "served"]));
    let serve = |count: usize| {
        for _ in 0..count {
            assert_eq!(door.connect().read_text(), "served\n");
        }
    };
    serve(500);
    let (descriptors, memory) = (
        descriptors_at_rest(&door),
        inspect::resident_kib(door.pid()),
    );

    serve(5000);

    eventually("no descriptor more", || door.fds().len() <= descriptors);
    let grown = inspect::resident_kib(door.pid()).saturating_sub(memory);
    assert!(grown <= 256, "{grown} KiB more");
}

#[test]
fn thousand_refused_ones_leave_no_descriptor() {
    let door = Door::new().args(["--deny", "all", "--deny-text", "no"]);
    let door = door.serve(hold());
    let before = descriptors_at_rest(&door);
    for _ in 0..1000 {
        assert_eq!(door.connect().read_text(), "no\n");
    }
    door.wait_notice("1000 refused");
    eventually("no descriptor more", || door.fds().len() <= before);
}

#[test]
fn two_thousand_at_once_cost_less_than_a_kibibyte_each() {
    const HELD: usize = 2000;
    let door = Door::new().args(["--max", "0"]).serve(["sleep", "1000"]);
    let first: Vec<_> = (0..8).map(|_| door.connect()).collect();
    door.wait_children(8);
    let (descriptors, memory) = (door.fds().len(), inspect::resident_kib(door.pid()));

    let clients: Vec<_> = (0..HELD).map(|_| door.connect()).collect();
    door.wait_notice(&format!("slots={}/0", HELD + 8));

    let each = (door.fds().len() - descriptors) as f64 / HELD as f64;
    assert!(each <= 1.01, "{each} descriptors each");
    let grown = inspect::resident_kib(door.pid()).saturating_sub(memory);
    assert!(grown <= HELD as u64, "{grown} KiB more");
    drop((first, clients));
}

#[test]
fn clients_that_leave_at_once_leave_nothing_behind() {
    let door = Door::new().args(["--notify"]).serve(echo());
    drop(door.connect());
    let before = descriptors_at_rest(&door);
    for _ in 0..1000 {
        drop(door.connect());
    }
    door.wait_notice("slots=0/1000, ");
    eventually("all of them", || {
        let told = door.notices().all();
        told.iter()
            .any(|notice| notice.text.contains("slots=0/1000, 1001 admitted"))
            || door.count_log("unable to") > 0
    });
    door.wait_children(0);
    eventually("no descriptor more", || door.fds().len() <= before);
}

#[test]
fn threads_are_as_many_as_at_the_start() {
    let door = Door::new().serve(echo());
    let threads = || inspect::status_line(door.pid(), "Threads");
    let before = threads();
    for _ in 0..200 {
        assert_serves(&door);
    }
    assert_eq!(threads(), before);
}
