//! Exit codes, and every wrong use of the command line: 100, naming what is wrong.

use std::process::{Command, Output};

use super::{assert_serves, echo, hold};
use crate::support::{Door, doorward};

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(doorward());
    command.args(args).stdin(std::process::Stdio::null());
    command.output().unwrap()
}

/// These options together are refused, and the message has every one of `names`.
#[track_caller]
fn assert_refused(options: &[&str], names: &[&str]) {
    let door = Door::new();
    let socket = door.path("s");
    let outcome = door.args(options).fails(hold());
    outcome.assert(100, names);
    assert!(!socket.exists(), "{options:?} leaves a socket behind");
}

#[test]
fn options_that_make_no_sense_together_are_refused_by_name() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["-v", "-q"], &["--verbose", "--quiet"]),
        (
            &["--inetd", "--layout", "ucspi"],
            &["--inetd", "--layout ucspi"],
        ),
        (
            &["--inetd", "--layout", "systemd"],
            &["--inetd", "--layout systemd"],
        ),
        (&["--keep-fd", "6"], &["--keep-fd 6", "--layout ucspi"]),
        (&["--keep-fd", "7"], &["--keep-fd 7", "--layout ucspi"]),
        (
            &["--layout", "systemd", "--keep-fd", "3"],
            &["--keep-fd 3", "--layout systemd"],
        ),
        (
            &["--notify", "--keep-fd", "8"],
            &["--keep-fd 8", "--notify"],
        ),
        (&["--pidfd", "--keep-fd", "9"], &["--keep-fd 9", "--pidfd"]),
        (
            &["--keep-fd", "5", "--ready-fd", "5"],
            &["--keep-fd 5", "--ready-fd 5"],
        ),
        (
            &["--rules", "/", "--allow", "all"],
            &["--rules", "--allow all"],
        ),
        (
            &["--rules", "/", "--deny", "self"],
            &["--rules", "--deny self"],
        ),
    ];
    for (options, names) in cases {
        assert_refused(options, names);
    }
}

#[test]
fn options_that_an_abstract_name_cannot_have_are_refused_by_name() {
    let name = format!("@doorward-test-{}", std::process::id());
    for (option, value) in [("--mode", "0600"), ("--owner", "0")] {
        let door = Door::new().bind(&name).args([option, value]);
        door.fails(hold()).assert(100, [option, &name]);
    }
}

#[test]
fn same_place_twice_is_refused_by_name() {
    let door = Door::new();
    let path = door.path("s").to_str().unwrap().to_owned();
    let door = door.args(["--bind", &path]);
    door.fails(hold()).assert(100, ["--bind", &path]);
}

#[test]
fn values_out_of_range_are_refused_by_option() {
    for option in [
        "--mode=8",
        "--mode=01777",
        "--mode=rw",
        "--mode=",
        "--owner=no-such-user",
        "--owner=root:no-such-group",
        "--owner=",
        "--backlog=-1",
        "--backlog=x",
        "--type=dgram",
        "--type=x",
        "--run-as=no-such-user",
        "--run-as=",
        "--allow=",
        "--allow=everybody",
        "--allow=user:no-such-user",
        "--deny=group:no-such-group",
        "--allow=user:4294967295",
        "--allow=user:-1",
        "--max=-1",
        "--max=x",
        "--max=4294967296",
        "--max-per-user=0",
        "--max-per-user=-1",
        "--rate=1",
        "--rate=0/1",
        "--rate=1/0",
        "--rate=-1/1",
        "--layout=x",
        "--proto=",
        "--proto=A=B",
        "--proto=1A",
        "--keep-fd=2",
        "--keep-fd=1024",
        "--keep-fd=100",
        "--lifetime=0",
        "--lifetime=-1",
        "--lifetime=x",
        "--grace=-1",
        "--grace=x",
        "--grace=inf",
        "--grace=nan",
        "--grace=",
    ] {
        let name = option.split('=').next().unwrap();
        assert_refused(&[option], &[name]);
    }
}

#[test]
fn unknown_or_incomplete_command_lines_are_wrong_use() {
    let cases: &[&[&str]] = &[
        &[],
        &["no-such-command"],
        &["--no-such-option"],
        &["spawn"],
        &["spawn", "--"],
        &["spawn", "--bind"],
        &["spawn", "--no-such-option", "true"],
        &["spawn", "--max"],
        &["spawn", "-x", "true"],
    ];
    for args in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(100), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_version_go_to_stdout_with_0() {
    let cases: &[&[&str]] = &[
        &["--help"],
        &["-h"],
        &["--version"],
        &["-V"],
        &["spawn", "--help"],
    ];
    for args in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
    let version = String::from_utf8(run(&["--version"]).stdout).unwrap();
    assert_eq!(
        version.trim(),
        concat!("doorward ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn help_of_spawn_shows_the_defaults() {
    let help = String::from_utf8(run(&["spawn", "--help"]).stdout).unwrap();
    // However the lines are broken.
    let words: Vec<&str> = help.split_whitespace().collect();
    let help = words.join(" ");
    for default in [
        "[default: 1000]",
        "0600",
        "[default: ucspi]",
        "three quarters of --max",
        "[default: IPC]",
    ] {
        assert!(help.contains(default), "{default:?} in {help}");
    }
}

#[test]
fn help_to_a_closed_stdout_is_no_crash() {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#""$0" spawn --help >&-"#])
        .arg(doorward());
    let output = command.output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 111)), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panic"), "{said}");
}

#[test]
fn double_dash_ends_the_options_and_is_needed_nowhere() {
    let mut words = echo();
    let plain = Door::new().serve(&words);
    assert_serves(&plain);
    words.insert(0, "--".to_owned());
    let dashed = Door::new().serve(&words);
    assert_serves(&dashed);
}

#[test]
fn options_after_the_program_are_the_program_s() {
    let words = ["echo", "-v", "--", "--help", "--bind", "x"];
    let door = Door::new().args(["--inetd"]).serve(words);
    assert_eq!(door.connect().read_text(), "-v -- --help --bind x\n");
}

#[test]
fn program_is_looked_up_before_anything_is_bound() {
    let door = Door::new();
    let socket = door.path("s");
    let outcome = door.fails(["no-such-program-anywhere"]);
    outcome.assert(127, ["doorward: fatal: ", "no-such-program-anywhere"]);
    assert!(!socket.exists());

    let door = Door::new();
    let socket = door.path("s");
    let plain = door.path("plain");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    let outcome = door.fails([&plain]);
    outcome.assert(126, ["doorward: fatal: ", "plain"]);
    assert!(!socket.exists());
}

#[test]
fn directory_is_no_program() {
    let outcome = Door::new().fails(["/tmp"]);
    outcome.assert(126, ["doorward: fatal: ", "/tmp"]);
    Door::new().fails([""]).assert(127, ["doorward: fatal: "]);
}

#[test]
fn failed_system_call_is_111() {
    let door = Door::new().bind("/nonexistent/directory/s");
    let outcome = door.fails(hold());
    outcome.assert(
        111,
        ["doorward: fatal: unable to ", "/nonexistent/directory"],
    );
}

#[test]
fn socket_that_is_alive_is_111_and_goes_on() {
    let first = Door::new().serve(echo());
    let second = Door::new().bind(first.socket());
    second.fails(hold()).assert(111, ["doorward: fatal: "]);
    assert_serves(&first);
}
