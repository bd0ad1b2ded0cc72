//! What the daemon gets, and who else holds its sockets.

use super::{activate, reporter, watches};
use crate::support::{Dial, Report, Served, User, eventually, inspect, raw};
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use std::fs::File;
use std::os::fd::AsFd;

/// The report of the daemon that a client has started.
#[track_caller]
pub(super) fn report(door: &Served) -> Report {
    let whole = || door.output().all().iter().any(|line| line == "end ");
    eventually("a report", whole);
    Report::parse(door.output().all().join("\n") + "\n")
}

#[test]
fn daemon_gets_its_socket_on_3_and_no_other_descriptor_whatever_was_open() {
    let mut door = activate([]);
    for number in [3, 4, 6, 64, 700] {
        door = door.fd(number, File::open("/dev/null").unwrap());
    }
    let door = door.serve(reporter());
    let _client = door.connect();
    let report = report(&door);
    assert_eq!(report.fd_numbers(), [0, 1, 2, 3]);
    let fds = report.fds();
    assert_eq!(fds[&0].link, "/dev/null");
    assert!(fds[&3].listening && !fds[&3].cloexec && !fds[&3].nonblock);
    // The probe is a child of the daemon, whose pid the variable has.
    assert_eq!(report.env("LISTEN_PID"), Some(report.get("ppid")));
    assert_eq!(report.env("LISTEN_FDS").as_deref(), Some("1"));
    assert_eq!(report.env("LISTEN_FDNAMES"), None);
    assert_eq!(report.get("pgid"), report.get("ppid"), "it leads a group");
}

#[test]
fn daemon_gets_no_variable_that_was_meant_for_doorward() {
    let door = activate(["--inetd"])
        .env("KEPT", "a=b")
        .env("WATCHDOG_USEC", "60000000")
        .env("FDSTORE", "3")
        .env("IPCREMOTEEUID", "7")
        .env("LISTEN_FDS", "1")
        .env("HANDOFF", "1");
    let door = door.serve(reporter());
    let _client = door.connect();
    let report = report(&door);
    let mut names = report.env_names();
    names.retain(|name| !name.starts_with("DOORWARD_TEST") && name != "PWD");
    names.sort();
    assert_eq!(names, ["KEPT", "PATH"]);
    assert_eq!(report.fd_numbers(), [0, 1, 2]);
    assert!(report.fds()[&0].listening);
    let zero = "0000000000000000";
    assert_eq!(report.get("ignored"), zero);
    assert_eq!(report.get("blocked"), zero);
}

#[test]
fn sockets_are_in_doorward_and_the_daemon_and_nowhere_else() {
    let door = activate([]).serve(["sh", "-c", "sleep 1000 3>&- & exec sleep 1000"]);
    let _client = door.connect();
    let daemon = door.wait_children(1)[0];
    eventually("its child", || inspect::children(daemon).len() == 1);
    let node = door.fds().into_values().find(|to| {
        to.starts_with("socket:") && inspect::fds(daemon).values().any(|other| other == to)
    });
    let node = node.expect("the socket");
    let holds = |pid: i32| inspect::fds(pid).values().filter(|to| **to == node).count();
    assert_eq!((holds(door.pid()), holds(daemon)), (1, 1));
    assert_eq!(holds(inspect::children(daemon)[0]), 0);
    let all = inspect::pids().into_iter().filter(|&pid| holds(pid) > 0);
    let mut all: Vec<i32> = all.collect();
    all.sort_unstable();
    let mut both = [door.pid(), daemon];
    both.sort_unstable();
    assert_eq!(all, both);
}

#[test]
fn doorward_neither_accepts_nor_watches_while_the_daemon_runs() {
    let door = activate([]).serve(["sleep", "1000"]);
    assert_eq!(watches(&door, "socket:"), 1);
    let clients: Vec<_> = (0..3).map(|_| door.connect()).collect();
    door.wait_children(1);
    eventually("the socket out of the poll", || {
        watches(&door, "socket:") == 0
    });
    for client in &clients {
        client.assert_open();
    }
    // All three still wait in the queue, for whoever accepts.
    let number = door.fds().into_iter().find_map(|(number, to)| {
        let copy = raw::descriptor_of(door.pid(), number).ok()?;
        let listening = getsockopt(&copy.as_fd(), AcceptConn).unwrap_or(false);
        (to.starts_with("socket:") && listening).then_some(copy)
    });
    let listener = std::os::unix::net::UnixListener::from(number.expect("the socket"));
    listener.set_nonblocking(true).unwrap();
    for _ in &clients {
        drop(listener.accept().expect("one that waits"));
    }
    assert_eq!(door.count_log("daemon start"), 1);
}

#[test]
fn user_of_run_as_is_the_daemon_s_and_the_socket_s() {
    need!(root);
    let user = User::unique();
    let run_as = format!("{}:{}", user.uid, user.gid);
    let door = activate(["--mode", "0666", "--run-as", &run_as]).serve(reporter());
    let client = door.connect();
    assert_eq!(client.server(), (door.pid(), user.uid, user.gid));
    let id = user.uid.to_string();
    assert_eq!(report(&door).get("uid"), [id.as_str(); 3].join(" "));
}

#[test]
fn daemon_gets_the_descriptor_limit_that_doorward_was_started_with() {
    let door = activate([]).wrap(["sh", "-c", "ulimit -S -n 100; exec \"$@\"", "sh"]);
    let door = door.serve(reporter());
    let _client = door.connect();
    assert!(report(&door).get("nofile").starts_with("100 "));
}

#[test]
fn more_sockets_than_doorward_has_low_numbers_all_arrive_in_their_order() {
    let mut door = activate([]).no_bind();
    let home = crate::support::Scratch::new();
    let paths: Vec<_> = (0..80).map(|n| home.path(&format!("s{n}"))).collect();
    for path in &paths {
        door = door.args(["--bind".as_ref(), path.as_os_str()]);
    }
    let door = door.serve(reporter());
    let _client = Dial::to(&paths[79]).connect();
    let start = door.wait_log("daemon start");
    assert!(start.contains(paths[79].to_str().unwrap()), "{start}");
    let report = report(&door);
    assert_eq!(report.fd_numbers(), (0..83).collect::<Vec<_>>());
    assert_eq!(report.env("LISTEN_FDS").as_deref(), Some("80"));
    let daemon = door.wait_children(1)[0];
    for (number, path) in (3..).zip(&paths) {
        let copy = raw::descriptor_of(daemon, number).unwrap();
        let listener = std::os::unix::net::UnixListener::from(copy);
        let address = listener.local_addr().unwrap();
        assert_eq!(address.as_pathname(), Some(path.as_path()));
    }
}
