//! No name, whoever chose it, makes a line of its own, a key of its own or an escape sequence in the log.

use std::os::unix::fs::PermissionsExt;

use super::{assert_serves, echo};
use crate::support::{Dial, Door, Outcome};

/// A new line that looks like one of ours, and a terminal's escape sequence.
const EVIL: &str = "x\ndoorward: allow user=0 y\r\u{1b}[2J\u{7f}\u{9b}z";

/// Every line is one of ours, whole and printable; `text` may be split by nothing.
#[track_caller]
fn assert_honest<S: AsRef<str>>(log: impl IntoIterator<Item = S>) {
    for line in log {
        let line = line.as_ref();
        assert!(line.starts_with("doorward: "), "{line:?}");
        assert!(!line.starts_with("doorward: allow user=0 y"), "{line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[track_caller]
fn assert_honest_failure(outcome: &Outcome, code: i32) {
    assert_eq!(outcome.code(), code, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("doorward: fatal: "));
    assert_honest(outcome.stderr.split('\n'));
}

#[test]
fn path_of_the_socket() {
    let door = Door::new();
    let path = door.path(EVIL);
    let mut door = door.bind(&path).args(["-v"]).serve(echo());
    assert_serves(&door);
    door.wait_notice("1 admitted");
    assert!(door.stop().success());
    door.wait_log("start: serving ");
    assert_honest(door.log());
}

#[test]
fn path_that_cannot_be_bound() {
    let door = Door::new();
    let path = door.path(EVIL);
    std::fs::create_dir(&path).unwrap();
    let outcome = door.bind(&path).fails(echo());
    assert!(outcome.code() > 0);
    assert_honest(outcome.stderr.split('\n'));

    let missing = path.join("missing\ndir").join("s");
    let outcome = Door::new().bind(missing).fails(echo());
    assert!(outcome.code() > 0);
    assert_honest(outcome.stderr.split('\n'));
}

#[test]
fn abstract_name() {
    let name = format!("@doorward-{}-{EVIL}", std::process::id());
    let door = Door::new().bind(name).serve(echo());
    assert_serves(&door);
    assert_honest(door.log());
}

#[test]
fn program_that_is_missing_or_not_executable() {
    assert_honest_failure(&Door::new().fails([EVIL]), 127);
    let door = Door::new();
    let path = door.path(EVIL);
    std::fs::write(&path, "").unwrap();
    assert_honest_failure(&door.fails([&path]), 126);
}

#[test]
fn program_that_cannot_be_run_later() {
    let door = Door::new().args(["-v"]);
    let path = door.script(EVIL, "#!/bin/sh\n");
    let door = door.serve([&path]);
    std::fs::remove_file(&path).unwrap();
    door.connect().assert_closed();
    door.wait_log("error: unable to run ");
    assert_honest(door.log());
}

#[test]
fn rules_that_are_missing_or_writable_by_others() {
    let door = Door::new();
    let path = door.path(EVIL);
    let outcome = door
        .args(["--rules".as_ref(), path.as_os_str()])
        .fails(echo());
    assert_honest_failure(&outcome, 111);

    let door = Door::new();
    let path = door.path(EVIL);
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let outcome = door
        .args(["--rules".as_ref(), path.as_os_str()])
        .fails(echo());
    assert_honest_failure(&outcome, 111);
}

#[test]
fn options_with_odd_values() {
    for option in [
        "--allow",
        "--deny",
        "--owner",
        "--run-as",
        "--proto",
        "--mode",
        "--rate",
        "--grace",
        "--lifetime",
    ] {
        let door = Door::new().args([format!("{option}={EVIL}")]);
        let outcome = door.fails(echo());
        assert_honest_failure(&outcome, 100);
        assert!(outcome.stderr.contains(option), "{}", outcome.stderr);
    }
    for who in ["user:", "group:"] {
        let door = Door::new().args([format!("--allow={who}{EVIL}")]);
        assert_honest_failure(&door.fails(echo()), 100);
    }
}

#[test]
fn values_that_options_can_only_choose_from() {
    for option in ["--layout", "--type", "--max", "--keep-fd", "--ready-fd"] {
        let door = Door::new().args([format!("{option}={EVIL}")]);
        let outcome = door.fails(echo());
        assert_eq!(outcome.code(), 100);
        let forged = "doorward: allow user=0 y";
        let lines = || outcome.stderr.split(['\n', '\r']);
        assert!(!lines().any(|line| line.starts_with(forged)), "{option}");
        assert!(!outcome.stderr.contains('\u{1b}'), "{option}");
    }
}

#[test]
fn variables_of_the_environment() {
    for name in [
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
    ] {
        let door = Door::new().no_notify().listen_pid();
        let door = door.env("LISTEN_FDS", "1").env(name, EVIL).no_bind();
        let outcome = door.fails(echo());
        assert_eq!(outcome.code(), 100, "{name}: {}", outcome.stderr);
        assert_honest(outcome.stderr.split('\n'));
    }
    for name in ["LISTEN_PID", "LISTEN_PIDFDID"] {
        let door = Door::new().no_notify().env("LISTEN_FDS", "1");
        let door = door.env(name, EVIL).no_bind();
        assert_honest_failure(&door.fails(echo()), 100);
    }
}

#[test]
fn what_a_client_is_bound_to() {
    let door = Door::new().args(["-v", "--rate", "2/1000"]).serve(echo());
    let path = door.path(&format!("client {EVIL}"));
    let names = [path, format!("@{}-{EVIL}", std::process::id()).into()];
    for name in names {
        let dial = Dial::to(door.socket()).bound_to(name);
        assert_eq!(dial.connect().ask(b"x"), b"x");
    }
    door.connect().assert_closed();
    door.wait_log("doorward: deny ");
    assert_honest(door.log());
}

#[test]
fn names_of_inherited_sockets() {
    let door = Door::new().no_bind();
    let socket = crate::source::stream(&door.path(EVIL));
    let door = door
        .listen_fds([socket], &[&EVIL.replace(':', ";")])
        .serve(echo());
    let path = door.path(EVIL);
    assert_eq!(Dial::to(path).connect().ask(b"x"), b"x");
    assert_honest(door.log());
}

#[test]
fn own_name_of_the_process() {
    let door = Door::new().arg0(EVIL).serve(echo());
    assert_serves(&door);
    assert_honest(door.log());
}
