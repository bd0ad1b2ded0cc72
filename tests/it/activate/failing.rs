//! Daemons that fail, and those that take nobody: clients wait, and the machine has its peace.

use super::{ONE, activate};
use crate::support::{eventually, inspect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::net::UnixListener;

#[test]
fn failing_daemon_is_started_again_after_pauses_that_double() {
    let door = activate([]).serve(["sh", "-c", "exit 3"]);
    let client = door.connect();
    for pause in ["0.10", "0.20", "0.40", "0.80"] {
        let end = door.wait_log("daemon exit");
        let words = [" status=3 ", &format!(" restart={pause}")];
        assert!(words.iter().all(|word| end.contains(word)), "{end}");
    }
    client.assert_open();
}

#[test]
fn daemon_that_ends_well_and_takes_nobody_is_slowed_down_and_said_so() {
    let door = activate([]).serve(["true"]);
    let client = door.connect();
    let warning = door.wait_log("warning: ");
    assert!(warning.contains("21 times in a row"), "{warning}");
    let end = door.wait_log("restart=");
    assert!(end.contains(" status=0 ") && end.contains("=0.10"), "{end}");
    assert!(door.wait_log("restart=").contains("=0.20"));
    assert!(door.wait_log("restart=").contains("=0.40"));
    client.assert_open();
}

#[test]
fn daemon_that_takes_one_client_each_time_serves_a_queue_without_pauses() {
    need!("python3");
    let door = activate([]).serve(ONE);
    door.pause();
    let clients: Vec<_> = (0..60).map(|_| door.connect()).collect();
    door.resume();
    for mut client in clients {
        assert_eq!(client.read_text(), "served\n");
        assert_eq!(door.count_log("restart="), 0, "{:#?}", door.log());
    }
    eventually("as many ends", || door.count_log("daemon exit") == 60);
    assert_eq!(door.count_log("restart="), 0, "{:#?}", door.log());
    // The queue was empty at the last end: the count begins anew.
    for _ in 0..15 {
        assert_eq!(door.connect().read_text(), "served\n");
    }
    assert_eq!(door.count_log("restart="), 0, "{:#?}", door.log());
}

#[test]
fn client_who_comes_while_a_daemon_is_killed_is_served_by_the_next() {
    need!("python3");
    let door = activate([]);
    let flag = door.path("flag");
    // The first one only waits to be killed.
    let script = format!(
        "[ -e {0} ] || {{ : >{0}; exec sleep 1000; }}; exec \"$@\"",
        flag.display()
    );
    let door = door.serve([&["sh", "-c", &script, "sh"][..], &ONE].concat());
    let mut early = door.connect();
    let daemon = door.wait_children(1)[0];
    let mut late = door.connect();
    eventually("the daemon's sleep", || flag.exists());
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    assert_eq!(early.read_text(), "served\n");
    assert_eq!(late.read_text(), "served\n");
}

#[test]
fn program_that_is_gone_is_an_error_that_passes_when_it_is_back() {
    need!("python3");
    let door = activate([]);
    let away = door.path("away");
    let program = door.script("daemon", &format!("#!/usr/bin/python3\n{}\n", ONE[2]));
    let door = door.serve([&program]);
    std::fs::rename(&program, &away).unwrap();
    let mut client = door.connect();
    let error = door.wait_log("error: unable to start the daemon ");
    let words = [program.to_str().unwrap(), "No such file"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    std::fs::rename(&away, &program).unwrap();
    assert_eq!(client.read_text(), "served\n");
}

#[test]
fn missing_program_ends_it_before_anything_is_bound() {
    let door = activate([]);
    let path = door.path("s");
    door.fails(["/nowhere/at/all"])
        .assert(127, ["unable to run"]);
    assert!(!path.exists());
    let door = activate([]);
    let plain = door.path("plain");
    std::fs::write(&plain, "").unwrap();
    door.fails([plain]).assert(126, ["Permission denied"]);
}

#[test]
fn socket_that_somebody_shuts_down_ends_it_with_111() {
    let door = activate([]).no_bind();
    let path = door.path("s");
    let socket = UnixListener::bind(&path).unwrap();
    let copy = socket.try_clone().unwrap();
    let mut door = door.listen_fds([socket], &[]).serve(["true"]);
    nix::sys::socket::shutdown(
        std::os::fd::AsRawFd::as_raw_fd(&copy),
        nix::sys::socket::Shutdown::Read,
    )
    .unwrap();
    assert_eq!(door.wait_exit().code(), Some(111));
    assert_eq!(door.count_log("daemon start"), 0);
    door.wait_log("error: somebody shut down ");
}

#[test]
fn daemon_that_removes_the_path_is_told_on() {
    let door = activate([]);
    let path = door.path("s");
    let remove = format!("rm {}; exit 0", path.display());
    let door = door.serve(["sh", "-c", &remove]);
    let _client = door.connect();
    let error = door.wait_log("does not lead to its socket any more");
    assert!(error.contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn whoever_the_daemon_leaves_behind_does_not_keep_the_next_one_away() {
    let door = activate([]).serve(["sh", "-c", "sleep 1000 & exit 1"]);
    let _client = door.connect();
    let ends = || door.count_log("daemon exit") >= 2;
    eventually("two ends", ends);
    assert!(inspect::alive(door.pid()));
}
