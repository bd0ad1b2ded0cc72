//! What the program is started with: arguments byte for byte, directory, group, signals.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use super::{answer, call, called, report};
use crate::support::{Door, Scratch, eventually, inspect, probe};

#[test]
fn arguments_arrive_byte_for_byte_after_the_server_s_own() {
    let text =
        "shift; for word; do printf '%s\\0' \"$word\"; done | od -An -tx1 -v | tr -d ' \\n'; echo";
    let door = Door::new();
    let server = answer(door, &[], ["sh", "-c", text, "sh", "-", "own"]);
    let said = |words: &[&OsStr]| called(call(&server.socket(), &[]), words).said().concat();
    let hex = |words: &[&[u8]]| -> String {
        let bytes = words.iter().flat_map(|word| [word, &b"\0"[..]].concat());
        bytes.map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(said(&[]), hex(&[b"own"]));
    let odd = OsString::from_vec(b"\xff\xfe\n=".to_vec());
    let words = [
        OsStr::new("one"),
        "".as_ref(),
        "a\nb".as_ref(),
        &odd,
        "--".as_ref(),
        "-x".as_ref(),
    ];
    let expected = hex(&[b"own", b"one", b"", b"a\nb", b"\xff\xfe\n=", b"--", b"-x"]);
    assert_eq!(said(&words), expected);
}

#[test]
fn ten_thousand_arguments_arrive() {
    let server = answer(Door::new(), &[], ["sh", "-c", "echo $#", "sh"]);
    let words: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    assert_eq!(
        called(call(&server.socket(), &[]), &words).said(),
        ["10000"]
    );
}

/// Nothing execs with more than a quarter of its stack's limit in its arguments; so these two wide ones make them themselves.
const WIDE: [&str; 2] = ["prlimit", "--stack=67108864:67108864"];
const APPENDING: &str = "n=$1; shift; word=$(head -c 100000 /dev/zero | tr '\\0' x)
while [ \"$n\" -gt 0 ]; do set -- \"$@\" \"$word\"; n=$((n - 1)); done; exec \"$@\"";

#[test]
fn two_mebibytes_of_arguments_arrive_where_the_limits_of_both_sides_allow_them() {
    need!("prlimit");
    let with = |server: &crate::support::Served, count: &str| {
        let wrap = WIDE.into_iter().chain(["sh", "-c", APPENDING, "sh", count]);
        called(call(&server.socket(), &[]).wrap(wrap), [""; 0])
    };
    let count = ["sh", "-c", "echo $#; wc -c </proc/$$/cmdline", "sh"];
    let wide = answer(Door::new().wrap(WIDE), &[], count);
    let said = with(&wide, "21").said();
    assert_eq!(said[0], "21");
    assert!(
        said[1].trim().parse::<usize>().unwrap() > 2_100_000,
        "{said:?}"
    );
    // The other side's kernel refuses, and the caller learns why.
    let narrow = answer(Door::new(), &[], count);
    with(&narrow, "21").assert(126, "Argument list too long");
    // More than the protocol has.
    with(&wide, "43").assert(100, "more than 4194304 bytes");
}

#[test]
fn program_leads_a_group_of_its_own_with_default_signals_and_no_other_descriptor() {
    let null = || std::fs::File::open("/dev/null").unwrap();
    let door = Door::new()
        .args(["--pidfd", "--keep-fd", "20"])
        .fd(20, null());
    let server = answer(door, &[], [probe()]);
    let call = call(&server.socket(), &[]).fd(30, null()).wrap([
        "sh",
        "-c",
        "trap '' USR1 PIPE; exec \"$@\"",
        "sh",
    ]);
    let report = report(call);
    assert_eq!(report.fd_numbers(), [0, 1, 2]);
    assert_eq!(report.number("pid"), report.number("pgid"));
    let zero = "0000000000000000";
    assert_eq!(
        (report.get("ignored"), report.get("blocked")),
        (zero.into(), zero.into())
    );
    assert_eq!(report.env("PIDFD"), None);
    let own = std::env::current_dir().unwrap();
    assert_eq!(report.get("cwd"), own.to_string_lossy());
}

#[test]
fn the_caller_s_directory_is_taken_where_both_sides_want_it() {
    let scratch = Scratch::new();
    let moved = ["sh", "-c", "cd \"$0\" && exec \"$@\""].map(OsStr::new);
    let wrap = || moved.into_iter().chain([scratch.dir().as_os_str()]);
    let server = answer(Door::new(), &["--allow-cwd"], [probe()]);
    let there = report(call(&server.socket(), &["--cwd"]).wrap(wrap()));
    assert_eq!(there.get("cwd"), scratch.dir().to_string_lossy());
    let not_asked_for = report(call(&server.socket(), &[]).wrap(wrap()));
    assert_ne!(not_asked_for.get("cwd"), scratch.dir().to_string_lossy());
    let closed = answer(Door::new(), &[], [probe()]);
    let refused = called(call(&closed.socket(), &["--cwd"]), ["report", "1"]);
    refused.assert(1, "does not allow --cwd");
    assert_eq!(refused.output, [""; 0]);
}

#[test]
fn a_relative_program_is_the_server_s_and_never_the_caller_s() {
    let scratch = Scratch::new();
    scratch.script("prog", "#!/bin/sh\necho the caller\\'s\n");
    let door = Door::new();
    door.script("prog", "#!/bin/sh\necho the server\\'s\n");
    let dir = door.dir().to_path_buf();
    let moved = |dir: &std::path::Path| {
        let words = ["sh", "-c", "cd \"$0\" && exec \"$@\""].map(OsString::from);
        words.into_iter().chain([dir.into()]).collect::<Vec<_>>()
    };
    let server = answer(door.wrap(moved(&dir)), &["--allow-cwd"], ["./prog"]);
    let call = call(&server.socket(), &["--cwd"]).wrap(moved(scratch.dir()));
    assert_eq!(called(call, [""; 0]).said(), ["the server's"]);
}

#[test]
fn answer_keeps_nothing_of_the_caller_s_while_the_program_runs() {
    let server = super::script(Door::new(), &[], "echo $PPID $$; exec cat");
    let (input, writer) = std::io::pipe().unwrap();
    let call = call(&server.socket(), &[]).fd0(input);
    let mut running = call.start([""; 0]);
    let said = running.output().take("").unwrap();
    let pids: Vec<i32> = said.split(' ').map(|pid| pid.parse().unwrap()).collect();
    let program = inspect::fds(pids[1]);
    assert_eq!(program.len(), 3, "{program:?}");
    eventually("answer to have none of them", || {
        let open = inspect::fds(pids[0]);
        assert!(open.len() >= 4, "{open:?}");
        !open
            .values()
            .any(|to| program.values().any(|its| its == to))
    });
    drop(writer);
    assert!(running.wait_exit().success());
}
