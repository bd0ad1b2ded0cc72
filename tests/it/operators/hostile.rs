//! Operators who mean no good, are in a hurry, or go half way.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Called, OPERATOR, Thing, uid};
use crate::support::{eventually, inspect};

#[test]
fn an_operator_s_words_restart_nothing_else_and_nothing_at_all() {
    need_systemd!();
    let often = "[Service]\nEnvironment=\"DOORWARD_OPTIONS=--allow group:operators\"\n";
    let thing = Thing::new("dwr-words", &[("service", often)]);
    thing.service("dwr-bystander");
    let bystander = || thing.systemd.show("dwr-bystander.service", "InvocationID");
    let (before, others) = (thing.run(), bystander());
    for words in [
        &["dwr-bystander.service"][..],
        &["--", "dwr-bystander"],
        &[""],
        &["--root=/tmp"],
        &["; systemctl restart dwr-bystander"],
    ] {
        let called = thing.called(OPERATOR, words);
        called.assert(100, "no arguments are taken");
    }
    assert_eq!((thing.run(), bystander()), (before, others));
    thing.systemd.stop_unit("dwr-bystander.service");
}

#[test]
fn what_runs_as_root_has_nothing_of_its_caller_s_and_no_capability() {
    need_systemd!();
    let thing = Thing::new("dwr-environment", &[]);
    let systemd = thing.systemd;
    let trap = "/run/dwr-trap";
    systemd.script(
        &format!("{trap}/systemctl"),
        &format!("#!/bin/sh\necho trapped >{trap}/sprung\n"),
    );
    systemd.write(&thing.flag("hold"), "");
    let path = format!("PATH={trap}:/usr/local/bin:/usr/bin:/bin");
    let hostile = [
        &path,
        "LD_PRELOAD=/dwr-evil.so",
        "LD_LIBRARY_PATH=/dwr-evil",
        "IFS=dwr-evil",
        "ENV=/dwr-evil",
        "BASH_ENV=/dwr-evil",
        "SYSTEMD_LOG_LEVEL=debug",
        "SYSTEMD_UNIT_PATH=/dwr-evil",
        "SYSTEMCTL_FORCE_BUS=1",
        "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/dwr-evil",
        "IPCREMOTEEUID=0",
        "DWR_EVIL=1",
    ];
    let before = [&["env"], &hostile[..]].concat();
    let was = thing.run();
    let mut call = thing.calling(OPERATOR, &before, &[]);
    let call = call.stdin(Stdio::piped()).spawn().unwrap();

    let systemctl = thing.systemctl();
    let words = fs::read_to_string(format!("/proc/{systemctl}/cmdline")).unwrap();
    let expected = "systemctl --no-ask-password restart -- dwr-environment.service ";
    assert_eq!(words.replace('\0', " "), expected);
    assert_eq!(inspect::fds(systemctl)[&0], "/dev/null");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let rights = inspect::status_line(systemctl, set);
        assert_eq!(rights.as_deref(), Some("0000000000000000"), "{set}");
    }
    let environment = inspect::environment(systemctl);
    let environment: Vec<_> = environment
        .iter()
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect();
    for entry in hostile {
        assert!(!environment.iter().any(|it| it == entry), "{environment:?}");
    }
    let names: Vec<&str> = hostile
        .iter()
        .filter_map(|entry| entry.split('=').next())
        .collect();
    let is_known = |name: &&&str| !["PATH", "IPCREMOTEEUID"].contains(name);
    for name in names.iter().filter(is_known) {
        let start = format!("{name}=");
        let taken = environment.iter().any(|entry| entry.starts_with(&start));
        assert!(!taken, "{name} in {environment:?}");
    }
    let caller = format!("IPCREMOTEEUID={}", uid(OPERATOR));
    assert!(environment.contains(&caller), "{environment:?}");

    fs::remove_file(systemd.path(thing.flag("hold"))).unwrap();
    let called = Called::of(call.wait_with_output().unwrap());
    called.assert(0, "");
    assert_ne!(thing.run(), was);
    assert!(!systemd.path(format!("{trap}/sprung")).exists());
    // The loader's complaint in the caller's own process, and no other.
    assert_eq!(called.errors.matches("dwr-evil").count(), 1);
    assert_eq!(called.errors.lines().count(), 1, "{}", called.errors);
}

#[test]
fn a_killed_operator_leaves_no_process_and_a_whole_restart() {
    need_systemd!();
    let thing = Thing::new("dwr-killed", &[]);
    let was = thing.run();
    thing.systemd.write(&thing.flag("hold"), "");
    let mut call = thing.calling(OPERATOR, &[], &[]).spawn().unwrap();
    let systemctl = thing.systemctl();
    let substate = || thing.systemd.show(&thing.unit(), "SubState");
    // The old run has ended and the new one waits: half way.
    eventually("the start", || substate() == "start-pre");

    // nsenter forks: the caller is below it.
    let callers = inspect::descendants(call.id() as i32);
    assert_eq!(callers.len(), 1, "the caller");
    kill(Pid::from_raw(callers[0]), Signal::SIGKILL).unwrap();
    let _ = call.wait();
    eventually("the end of systemctl", || !inspect::alive(systemctl));
    let doorward = thing.doorward();
    eventually("the end of all below doorward", || {
        inspect::descendants(doorward).is_empty()
    });
    assert_eq!(substate(), "start-pre", "systemd goes on alone");

    fs::remove_file(thing.systemd.path(thing.flag("hold"))).unwrap();
    thing
        .systemd
        .wait_show(&thing.unit(), "ActiveState", "active");
    let after = thing.run();
    assert_ne!(after, was);
    thing.called(OPERATOR, &[]).assert(0, "");
    assert_ne!(thing.run(), after, "the next one is served");
}

#[test]
fn restarts_that_come_too_fast_are_refused_before_systemd_lets_the_thing_fail() {
    need_systemd!();
    let thing = Thing::new("dwr-fast", &[]);
    // A token comes back in 15 seconds, so a slow machine grants some more.
    let refused = (0..20).find_map(|_| {
        let called = thing.called(OPERATOR, &[]);
        (called.code != Some(0)).then_some(called)
    });
    let refused = refused.expect("a refusal");
    refused.assert(1, "not you, or not now");
    thing.wait_journal("reason=rate");
    assert_eq!(thing.systemd.show(&thing.unit(), "ActiveState"), "active");
}
