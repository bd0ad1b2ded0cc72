//! A look costs the same with ten entries and with a million.

use std::process::Command;

use super::*;

/// The system calls that a check about `uid` makes on the database, by name.
fn calls(desk: &Desk, rules: &str, uid: &str) -> BTreeMap<String, usize> {
    let trace = desk.path("trace");
    let rules = desk.path(rules);
    let mut command = Command::new("strace");
    command
        .arg("-o")
        .arg(&trace)
        .arg("-P")
        .arg(&rules)
        .arg(doorward());
    command.args(["rules", "check", "--user", uid, "--group", "7", "--rules"]);
    let told = Told::of(command.arg(&rules));
    assert!(matches!(told.code, Some(0 | 1)), "{told:?}");
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(trace).unwrap().lines() {
        if let Some((name, _)) = line.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

#[test]
fn a_look_in_a_million_entries_makes_the_calls_of_one_in_ten() {
    need!("strace");
    let desk = Desk::new();
    desk.file("small.cdb", cdb::allowing(10));
    desk.file("large.cdb", cdb::allowing(1_000_000));
    let few = calls(&desk, "small.cdb", "9");
    // The header, a table and a record.
    assert_eq!(few["pread64"], 3, "{few:?}");
    for uid in ["5", "4711", "500000", "999999"] {
        assert_eq!(calls(&desk, "large.cdb", uid), few, "{uid}");
    }
    desk.doorward([
        "check",
        "--rules",
        "large.cdb",
        "--user",
        "1000000",
        "--group",
        "7",
    ])
    .assert(1, &["No rule"]);
}
