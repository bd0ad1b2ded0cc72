//! A `--max` that the limits of the process cannot carry is told, with the figures.

use super::reachable;
use crate::support::{Door, Report, Served, probe};

fn warnings(door: &Served) -> Vec<String> {
    let warnings = door
        .log()
        .into_iter()
        .filter(|line| line.starts_with("doorward: warning: --max "));
    warnings.collect()
}

/// Serves under `wrap`; every line of the start stands in the log before "ready".
#[track_caller]
fn warned<const N: usize>(door: Door, wrap: [&str; N]) -> (Served, Vec<String>) {
    let probe = probe();
    let door = door
        .wrap(wrap)
        .serve([probe.to_str().unwrap(), "report", "7"]);
    door.wait_log("doorward: ready");
    let warnings = warnings(&door);
    (door, warnings)
}

#[test]
fn a_descriptor_limit_that_is_too_low_is_told_with_both_figures() {
    need!("prlimit");
    let (door, told) = warned(
        reachable().args(["--max", "500"]),
        ["prlimit", "--nofile=200:300"],
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("--max 500 ") && told[0].contains(" 300 "),
        "{told:?}"
    );
    assert!(told[0].contains("descriptors"), "{told:?}");
    // It is a warning: the service works, doorward has taken the hard limit and the child has the soft one.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", door.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3..5], ["300", "300"]);
    assert_eq!(
        Report::parse(door.connect().read_to_end()).get("nofile"),
        "200 300"
    );
}

#[test]
fn a_limit_that_carries_it_is_no_matter() {
    need!("prlimit");
    let (_door, told) = warned(
        reachable().args(["--max", "20"]),
        ["prlimit", "--nofile=200:300"],
    );
    assert_eq!(told, Vec::<String>::new());
    // No promise, no warning.
    let (_door, told) = warned(
        reachable().args(["--max", "0"]),
        ["prlimit", "--nofile=200:200"],
    );
    assert_eq!(told, Vec::<String>::new());
}

#[test]
fn notify_needs_two_descriptors_a_connection() {
    need!("prlimit");
    let wrap = ["prlimit", "--nofile=400:400"];
    let (_door, told) = warned(reachable().args(["--max", "200"]), wrap);
    assert_eq!(told, Vec::<String>::new());
    let (_door, told) = warned(reachable().args(["--max", "200", "--notify"]), wrap);
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn a_process_limit_of_the_user_that_is_too_low_is_told() {
    need!(root, "prlimit", "setpriv");
    let door = reachable().args(["--max", "50"]);
    std::os::unix::fs::chown(door.dir(), Some(7654), None).unwrap();
    let wrap = [
        "setpriv",
        "--reuid=7654",
        "--regid=7654",
        "--clear-groups",
        "prlimit",
        "--nproc=40:40",
    ];
    let (_door, told) = warned(door, wrap);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("--max 50 ") && told[0].ends_with(" 40"),
        "{told:?}"
    );
}
