//! Doors of the tests: they start as told, tell what happens, and take everything away with them.

use nix::sys::signal::Signal;

use crate::support::{Door, Report, inspect, probe};

#[test]
fn door_that_is_dropped_leaves_no_process_and_no_file() {
    // One child in its group, one that left group, session and parent behind, one that ignores SIGTERM.
    let door = Door::new();
    let script = door.script("many", "#!/bin/sh\nsetsid sleep 100 &\nexec \"$@\"\n");
    let words = [
        script.to_str().unwrap(),
        probe().to_str().unwrap(),
        "ignore-term",
        "6",
    ]
    .map(str::to_owned);
    let door = door.serve(words);
    let mut client = door.connect();
    assert_eq!(client.read_line(), "ready");
    let (pid, dir) = (door.pid(), door.dir().to_owned());
    let mut all = Vec::new();
    crate::support::eventually("the child and its sleeper", || {
        all = inspect::descendants(pid);
        all.len() >= 2
    });

    drop(door);

    all.push(pid);
    crate::support::eventually("all of them gone", || {
        !all.iter().any(|&pid| inspect::alive(pid))
    });
    assert!(!dir.exists());
}

#[test]
fn door_starts_with_the_environment_and_descriptors_told_and_no_others() {
    let door = Door::new()
        .env("GIVEN", "1")
        .serve([probe().to_str().unwrap(), "report", "7"]);
    let fds: Vec<i32> = inspect::fds(door.pid())
        .into_keys()
        .filter(|&fd| fd < 3)
        .collect();
    assert_eq!(fds, [0, 1, 2]);
    let report = Report::parse(door.connect().read_to_end());
    assert_eq!(report.env("GIVEN").as_deref(), Some("1"));
    assert_eq!(
        (
            report.env("HOME"),
            report.env("CARGO"),
            report.env("NOTIFY_SOCKET")
        ),
        (None, None, None)
    );
}

#[test]
fn door_tells_readiness_log_lines_and_its_end() {
    let mut door =
        Door::new()
            .args(["-v"])
            .notify_abstract()
            .serve([probe().to_str().unwrap(), "exit", "7"]);
    assert!(door.notices().address().starts_with('@'));
    door.connect().assert_closed();
    door.wait_log("allow user=");
    assert!(door.wait_log("end child=").contains("status=7"));
    door.signal(Signal::SIGTERM);
    door.wait_notice("STOPPING=1");
    assert!(door.wait_exit().success());
}

#[test]
fn door_that_fails_shows_its_exit_and_its_words() {
    let outcome = Door::new().args(["--no-such-option"]).fails(["cat"]);
    outcome.assert(100, ["--no-such-option"]);
    assert_eq!(Door::new().fails(["/no/such/program"]).code(), 127);
}
