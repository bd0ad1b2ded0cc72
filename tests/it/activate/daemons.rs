//! Real daemons: uuidd and s6-ipcserverd on connections, rsyslogd on datagrams.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::activate;
use crate::bind::{rsyslog, send_log as log};
use crate::support::{Door, Scratch, Served, User, eventually, inspect};

#[track_caller]
fn ask_uuidd(door: &Served) {
    let output = Command::new("uuidd")
        .args(["-r", "-s"])
        .arg(door.socket())
        .output()
        .unwrap();
    let uuid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(uuid.len(), 36, "{output:?}\n{:#?}", door.log());
}

#[test]
fn uuidd_starts_at_the_first_client_ends_when_idle_and_starts_again() {
    need!("uuidd");
    let door = activate([]).serve(["uuidd", "-S", "-P", "-F", "-T", "1"]);
    assert_eq!(door.children(), [], "nobody has asked for it yet");
    for _ in 0..2 {
        ask_uuidd(&door);
        door.wait_log("daemon start child=");
        let end = door.wait_log("daemon exit child=");
        assert!(end.contains(" status=0 "), "{end}");
        assert!(
            !end.contains("restart="),
            "an idle end is no failure: {end}"
        );
        door.wait_children(0);
    }
}

#[test]
fn killed_uuidd_is_started_again_for_the_next_client() {
    need!("uuidd");
    let door = activate([]).serve(["uuidd", "-S", "-P", "-F"]);
    ask_uuidd(&door);
    let daemon = door.wait_children(1)[0];
    ask_uuidd(&door);
    assert_eq!(door.children(), [daemon], "one daemon serves all");
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    let end = door.wait_log("daemon exit child=");
    assert!(
        end.contains(" signal=9 ") && end.contains(" restart=0.10"),
        "{end}"
    );
    ask_uuidd(&door);
    assert_ne!(door.wait_children(1), [daemon]);
}

#[test]
fn s6_ipcserverd_gets_the_socket_on_0_with_layout_inetd() {
    need!(root, "s6-ipcserverd");
    let who = ["s6-ipcserverd", "-v0", "printenv", "IPCREMOTEEUID"];
    let door = activate(["--inetd", "--mode", "0666"]).serve(who);
    for _ in 0..3 {
        let user = User::unique();
        let said = door.connect_as(&user).read_text();
        assert_eq!(said, format!("{}\n", user.uid));
    }
    assert_eq!(door.count_log("daemon start"), 1);
    let daemon = door.children()[0];
    let fds = inspect::fds(daemon);
    assert!(fds[&0].starts_with("socket:"), "{fds:?}");
}

#[test]
fn spawn_is_a_daemon_too() {
    let spawn = [
        crate::support::doorward().to_str().unwrap(),
        "spawn",
        "--inetd",
        "printenv",
        "IPCREMOTEEUID",
    ];
    for layout in ["systemd", "inetd"] {
        let door = activate(["--layout", layout]).serve(spawn);
        let me = format!("{}\n", User::me().uid);
        assert_eq!(door.connect().read_text(), me);
        assert_eq!(door.connect().read_text(), me);
    }
}

/// rsyslogd on `DIR/log`, and the directory with its file `messages`.
fn syslog() -> (Served, Scratch) {
    let home = Scratch::new();
    let log = home.path("log");
    let config = rsyslog(&home, &log);
    let door = Door::new()
        .command("activate")
        .bind(&log)
        .args(["--type", "dgram"])
        .serve([
            "rsyslogd",
            "-n",
            "-i",
            "NONE",
            "-f",
            config.to_str().unwrap(),
        ]);
    (door, home)
}

#[track_caller]
fn wait_message(home: &Scratch, text: &str) {
    let messages = home.path("messages");
    eventually(text, || {
        fs::read_to_string(&messages).is_ok_and(|all| all.contains(text))
    });
}

#[test]
fn rsyslogd_starts_at_the_first_datagram_and_gets_it() {
    need!("rsyslogd", "logger");
    let (door, home) = syslog();
    assert_eq!(door.children(), []);
    log(&door.socket(), "message the first");
    wait_message(&home, "message the first");
    log(&door.socket(), "message the second");
    wait_message(&home, "message the second");
    assert_eq!(door.count_log("daemon start"), 1);
}

#[test]
fn no_datagram_is_lost_when_rsyslogd_is_killed() {
    need!("rsyslogd", "logger");
    let (door, home) = syslog();
    log(&door.socket(), "warm up");
    wait_message(&home, "warm up");
    for round in 0..3 {
        let daemon = door.wait_children(1)[0];
        // It takes nothing any more, so all that comes now is left in the socket.
        kill(Pid::from_raw(daemon), Signal::SIGSTOP).unwrap();
        eventually("it to stand still", || inspect::stands_still(daemon));
        for number in 0..5 {
            log(&door.socket(), &format!("round {round} number {number}"));
        }
        kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
        for number in 0..5 {
            wait_message(&home, &format!("round {round} number {number}"));
        }
    }
}
