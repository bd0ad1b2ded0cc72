//! `--lifetime`: SIGTERM to the group, and SIGKILL five seconds later to what is left of it.

use std::time::{Duration, Instant};

use crate::support::{Door, eventually, inspect};

#[test]
fn at_the_end_of_its_lifetime_the_whole_group_gets_term() {
    let script = "sleep 600 & echo $! >&7; wait";
    let door = Door::new()
        .args(["--lifetime", "1", "-v"])
        .serve(["sh", "-c", script]);
    let begun = Instant::now();
    let mut client = door.connect();
    let grandchild: i32 = client.read_line().parse().unwrap();
    let child = door.wait_children(1)[0];
    assert!(inspect::alive(grandchild));

    client.assert_closed();
    let lived = begun.elapsed();
    assert!(lived >= Duration::from_secs(1), "{lived:?}");
    let told = door.wait_log("doorward: term ");
    assert_eq!(
        told,
        format!("doorward: term child={child} reason=lifetime")
    );
    let line = door.wait_log("doorward: end ");
    assert!(
        line.starts_with(&format!("doorward: end child={child} user="))
            && line.contains(" signal=15 "),
        "{line}"
    );
    eventually("the end of the group", || !inspect::alive(grandchild));
}

#[test]
fn what_does_not_end_at_term_is_killed_five_seconds_later_with_its_group() {
    // The leader goes at TERM, a member of its group does not; and another child whose leader does not.
    let member = "(trap '' TERM; exec sleep 600) & echo $! >&7; exec sleep 600";
    let leader = "trap '' TERM; sleep 600 & echo $! >&7; while :; do wait; done";
    let script = format!("read which <&6; case $which in member) {member};; *) {leader};; esac");
    let door = Door::new()
        .args(["--lifetime", "0.3", "-v"])
        .serve(["sh", "-c", &script]);
    let begin = |which: &str| {
        let mut client = door.connect();
        client.send(format!("{which}\n").as_bytes());
        let pid: i32 = client.read_line().parse().unwrap();
        (client, pid)
    };
    let begun = Instant::now();
    let (mut first, member) = begin("member");
    let (mut second, below) = begin("leader");
    door.wait_log("doorward: term ");
    door.wait_log("doorward: term ");
    let told = begun.elapsed();

    // The leader that heard has ended, and its number is kept from others as long as its group lives.
    door.wait_log(" signal=15 ");
    assert!(inspect::alive(member));
    let line = door.wait_log(" signal=9 ");
    let killed = begun.elapsed();
    assert!(line.contains("doorward: end child="), "{line}");
    assert!(killed >= Duration::from_millis(5300), "after {killed:?}");
    assert!(
        killed < told + Duration::from_secs(12),
        "{killed:?} after {told:?}"
    );
    for pid in [member, below] {
        eventually("the end of the group", || !inspect::alive(pid));
    }
    first.assert_closed();
    second.assert_closed();
    eventually("no zombie is left", || {
        let parent = Some(door.pid().to_string());
        inspect::pids()
            .into_iter()
            .all(|pid| inspect::status_line(pid, "PPid") != parent)
    });
}

#[test]
fn a_child_that_ends_in_time_hears_nothing_and_its_slot_is_free() {
    let options = [
        "--lifetime",
        "0.5",
        "--max",
        "1",
        "--max-per-user",
        "1",
        "-v",
    ];
    let door = Door::new().args(options).serve(["true"]);
    let begun = Instant::now();
    eventually("more than a lifetime", || {
        door.connect().assert_closed();
        begun.elapsed() > Duration::from_secs(1)
    });
    assert_eq!(door.count_log("doorward: term "), 0);
    assert_eq!(door.count_log(" signal="), 0);
}

#[test]
fn a_slot_that_a_lifetime_ends_is_given_back() {
    let options = ["--lifetime", "0.3", "--max", "1", "--max-per-user", "1"];
    let door = Door::new()
        .args(options)
        .serve(["sh", "-c", "echo up >&7; exec sleep 600"]);
    for _ in 0..3 {
        eventually("a slot", || {
            let mut client = door.connect();
            client.read_text() == "up\n"
        });
    }
}

#[test]
fn a_lifetime_that_is_none_is_wrong_use() {
    for text in [
        "0",
        "-1",
        "",
        "x",
        "1s",
        "inf",
        "nan",
        "1e9",
        "99999999999999",
    ] {
        Door::new()
            .args([format!("--lifetime={text}")])
            .fails(["true"])
            .assert(100, ["--lifetime"]);
    }
}
