//! Readiness, status and watchdog, and the signals that ask.

use super::activate;
use crate::support::inspect;
use nix::sys::signal::Signal;
use std::io::Read as _;

#[test]
fn it_is_ready_when_it_listens_and_no_daemon_runs_yet() {
    let door = activate([]).serve(["sleep", "1000"]);
    assert_eq!(door.children(), []);
    door.wait_notice("STATUS=waiting for a client, started 0 times, serving 1 socket");
    let _client = door.connect();
    let daemon = door.wait_children(1)[0];
    door.wait_notice(&format!("STATUS=daemon {daemon} runs, started 1 times"));
    door.wait_log("doorward: start: serving ");
    door.wait_log("doorward: ready");
}

#[test]
fn start_line_says_what_the_daemon_gets_and_who_may_come() {
    let door = activate(["--inetd", "--mode", "0666"]).serve(["true"]);
    let line = door.wait_log("start: serving ");
    assert!(line.contains("the socket itself on 0, mode 0666"), "{line}");
    door.wait_log("activate asks nobody");
}

#[test]
fn sigusr1_logs_the_status_and_sighup_is_a_reload_of_nothing() {
    let door = activate([]).serve(["true"]);
    door.signal(Signal::SIGUSR1);
    door.wait_log("status waiting for a client, started 0 times, serving 1 socket");
    door.signal(Signal::SIGHUP);
    door.wait_log("reload");
    let notice = door.wait_notice("RELOADING=1");
    assert!(notice.text.contains("MONOTONIC_USEC="), "{notice:?}");
    door.notices()
        .wait_count("READY=1", 2)
        .expect("ready again");
    assert!(inspect::alive(door.pid()));
}

#[test]
fn watchdog_is_pinged_whether_or_not_a_daemon_runs() {
    let door = activate([]).env("WATCHDOG_USEC", "200000");
    let door = door.serve(["sleep", "1000"]);
    door.notices().wait_count("WATCHDOG=1", 2).expect("pings");
    let _client = door.connect();
    door.wait_children(1);
    let before = door.notices().all();
    let before = before
        .iter()
        .filter(|notice| notice.text.contains("WATCHDOG=1"));
    let more = before.count() + 3;
    door.notices()
        .wait_count("WATCHDOG=1", more)
        .expect("more pings");
}

#[test]
fn ready_fd_gets_a_newline_and_is_closed() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let door = activate(["--ready-fd", "5"]).fd(5, writer).no_notify();
    let door = door.start(["sleep", "1000"]);
    let mut said = String::new();
    // Up to the end of file: nobody holds it any more.
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said, "\n");
    let _client = door.connect();
    door.wait_children(1);
}
