//! Input that means harm, or chance at its worst: forged lines, missing standard descriptors, sockets given twice.

use std::net::TcpListener;

use super::{assert_plain_child, holder, reporter, stream};
use crate::support::{Dial, Door, Report, inspect};

/// No line that a variable or a path smuggled in: all are doorward's.
#[track_caller]
fn assert_no_forged_line(text: &str) {
    let forged: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("doorward: "))
        .collect();
    assert!(
        forged.is_empty() && !text.contains('\x1b') && !text.contains('\r'),
        "{text:?}"
    );
}

#[test]
fn variables_cannot_forge_log_lines() {
    let evil = "1\nFORGED allow user=0\x1b[2J\r";
    for name in ["LISTEN_FDS", "LISTEN_PIDFDID", "LISTEN_FDNAMES"] {
        let door = Door::new().no_bind().args(["--name", "x"]);
        let socket = stream(&door.path("s"));
        let outcome = door
            .listen_fds([socket], &[])
            .env(name, evil)
            .fails(reporter());
        assert_no_forged_line(&outcome.assert(100, [""; 0]).stderr);
    }
    let outcome = Door::new()
        .no_bind()
        .env("LISTEN_FDS", evil)
        .env("LISTEN_PID", evil)
        .fails(reporter());
    assert_no_forged_line(&outcome.assert(100, ["LISTEN_PID"]).stderr);
}

#[test]
fn path_cannot_forge_log_lines() {
    let door = Door::new();
    let path = door.path("a\nFORGED\x1b[2J");
    let mut door = door.args(["-v"]).bind(&path).serve(reporter());
    let report = Report::parse(door.connect().read_to_end());
    assert_eq!(
        report.env("IPCLOCALPATH").as_deref(),
        path.to_str(),
        "the path as given"
    );
    assert!(door.stop().success());
    assert_no_forged_line(&door.log().join("\n"));

    let door = Door::new();
    let path = door.path("absent\nFORGED/s");
    assert_no_forged_line(&door.bind(&path).fails(reporter()).stderr);
}

#[test]
fn doorward_started_without_standard_descriptors_gives_its_children_plain_ones() {
    let wrap = ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
    let door = Door::new().wrap(wrap).serve(reporter());
    let report = Report::parse(door.connect().read_to_end());
    assert_plain_child(&report);
    drop(door);

    let door = Door::new().no_bind().wrap(wrap);
    let socket = stream(&door.path("s"));
    let door = door.listen_fds([socket], &[]).serve(reporter());
    assert_plain_child(&Report::parse(door.connect().read_to_end()));
}

#[test]
fn stray_descriptors_reach_no_child() {
    let door = Door::new();
    let (file, tcp) = (
        std::fs::File::open("/dev/null").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let unix = stream(&door.path("stray"));
    let door = door
        .fd(5, file)
        .fd(6, unix)
        .fd(7, tcp)
        .fd(500, std::fs::File::open("/").unwrap());
    let door = door.serve(reporter());
    for _ in 0..20 {
        assert_plain_child(&Report::parse(door.connect().read_to_end()));
    }
}

#[test]
fn listening_socket_is_never_kept_for_children_nor_taken_for_readiness() {
    for option in ["--keep-fd", "--ready-fd"] {
        let door = Door::new().no_bind().args([option, "3"]);
        let socket = stream(&door.path("s"));
        let outcome = door.listen_fds([socket], &[]).fails(reporter());
        outcome.assert(100, [option, "listening"]);

        let stray = TcpListener::bind("127.0.0.1:0").unwrap();
        let outcome = Door::new()
            .args([option, "5"])
            .fd(5, stray)
            .fails(reporter());
        outcome.assert(100, [option, "listening"]);
    }
}

#[test]
fn many_sockets_are_all_served() {
    let door = Door::new().no_bind();
    let paths: Vec<_> = (0..40).map(|n| door.path(&format!("s{n}"))).collect();
    let sockets: Vec<_> = paths.iter().map(|path| stream(path)).collect();
    let _door = door.listen_fds(sockets, &[]).serve(reporter());
    for path in &paths {
        let report = Report::parse(Dial::to(path).connect().read_to_end());
        assert_plain_child(&report);
        assert_eq!(report.env("IPCLOCALPATH").as_deref(), path.to_str());
    }
}

#[test]
fn one_socket_given_twice_is_served_as_one() {
    let door = Door::new().no_bind();
    let path = door.path("s");
    let socket = stream(&path);
    let door = door
        .listen_fds([socket.try_clone().unwrap(), socket], &[])
        .serve(reporter());
    for _ in 0..5 {
        assert_plain_child(&Report::parse(door.connect().read_to_end()));
    }
}

#[test]
fn value_that_is_no_value_is_wrong_use_and_named() {
    let wrong = [
        "--backlog=-1",
        "--backlog=x",
        "--backlog=",
        "--backlog=99999999999",
        "--type=dgram",
        "--type=x",
        "--type=",
        "--name=",
        "--mode=0o600",
        "--keep-fd=2",
        "--keep-fd=1024",
        "--keep-fd=5",
    ];
    for option in wrong {
        let outcome = Door::new().args([option]).fails(reporter());
        let name = option.split('=').next().unwrap();
        assert_eq!(outcome.code(), 100, "{option}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(name),
            "{option}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn held_connections_cost_two_descriptors_at_most_and_give_them_back() {
    let door = Door::new().serve(holder());
    let idle = door.fds().len();
    let clients: Vec<_> = (0..20).map(|_| door.connect()).collect();
    door.wait_children(20);
    let held = door.fds().len();
    assert!(
        held <= idle + 2 * 20,
        "{idle} descriptors idle, {held} with 20 connections"
    );
    drop(clients);
    door.wait_children(0);
    crate::support::eventually("the descriptors of before", || {
        inspect::fds(door.pid()).len() == idle
    });
}
