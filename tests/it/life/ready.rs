//! Readiness: told when clients can come, in both manners, and never a reason not to serve.

use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{assert_serves, echo, hold};
use crate::support::{DEADLINE, Door, Scratch, Served, eventually_some};

/// Starts it with a NOTIFY_SOCKET of the test's own making.
fn notified(address: &str) -> Served {
    let door = Door::new().no_notify().env("NOTIFY_SOCKET", address);
    let door = door.serve(echo());
    door.wait_log("doorward: ready");
    door
}

/// The end of a pipe to read, and the one to write.
fn pipe() -> (PipeReader, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, writer.into())
}

#[test]
fn ready_is_told_after_listen_limits_and_signals() {
    need!(root, "strace", "prlimit");
    let scratch = Scratch::new();
    let trace = scratch.path("order");
    let calls = "trace=listen,prlimit64,setrlimit,signalfd4,sendto,sendmsg,write";
    let door = Door::new().wrap([
        "prlimit",
        "--nofile=1024:2048",
        "strace",
        "-D",
        "-f",
        "-s",
        "64",
        "-e",
        calls,
        "-o",
    ]);
    let door = door.wrap([trace.to_str().unwrap()]).serve(hold());
    let text = eventually_some("the trace", || {
        let text = std::fs::read_to_string(&trace).ok()?;
        text.contains("READY=1").then_some(text)
    });
    let place = |what: &str| {
        text.find(what)
            .unwrap_or_else(|| panic!("no {what} in {text}"))
    };

    for before in ["listen(", "{rlim_cur=2*1024", "signalfd4("] {
        assert!(place(before) < place("READY=1"), "{before}: {text}");
    }
    drop(door);
}

#[test]
fn clients_can_come_as_soon_as_ready_is_heard() {
    for _ in 0..10 {
        assert_serves(&Door::new().serve(echo()));
    }
}

#[test]
fn abstract_notify_socket_is_told_everything() {
    let mut door = Door::new().notify_abstract().serve(echo());
    assert!(door.stop().success());
    door.wait_notice("STOPPING=1");
}

#[test]
fn unusable_notify_socket_keeps_nobody_from_being_served() {
    let long = format!("/tmp/{}", "x".repeat(200));
    let values = [
        "",
        "garbage",
        "@",
        "/nonexistent/notify",
        "/dev/null",
        "/",
        "vsock:2:1234",
        &long,
        "a\nREADY=1",
        "\u{1b}[2J",
        "@\u{7f}\u{1}",
    ];
    for value in values {
        let mut door = notified(value);
        assert_serves(&door);
        assert!(door.stop().success(), "{value:?}");
        for line in door.log() {
            assert!(line.starts_with("doorward: "), "{value:?}: {line:?}");
            assert!(!line.contains('\u{1b}'), "{value:?}: {line:?}");
        }
    }
}

#[test]
fn notify_socket_that_nobody_listens_to_keeps_nobody_from_being_served() {
    let scratch = Scratch::new();
    let path = scratch.path("gone");
    drop(UnixDatagram::bind(&path).unwrap());
    let mut door = notified(path.to_str().unwrap());
    assert_serves(&door);
    assert!(door.stop().success());
    door.wait_log("warning: unable to notify the service manager: ");
}

#[test]
fn ready_reaches_a_manager_whose_queue_was_full() {
    let scratch = Scratch::new();
    let path = scratch.path("full");
    let manager = UnixDatagram::bind(&path).unwrap();
    fill(&path);
    let _door = notified(path.to_str().unwrap());

    hear(&manager, "READY=1");
}

/// Receives until a datagram has `text`.
#[track_caller]
fn hear(manager: &UnixDatagram, text: &str) {
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut heard = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = manager
            .recv(&mut buffer)
            .unwrap_or_else(|e| panic!("no {text} in {heard:?}: {e}"));
        let came = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if came.contains(text) {
            return;
        }
        heard.push(came);
    }
}

#[test]
fn pings_do_not_pile_up_behind_a_queue_that_is_full() {
    let scratch = Scratch::new();
    let path = scratch.path("full");
    let manager = UnixDatagram::bind(&path).unwrap();
    fill(&path);
    let door = Door::new().no_notify().env("NOTIFY_SOCKET", &path);
    let door = door.env("WATCHDOG_USEC", "400000").serve(echo());
    door.wait_log("doorward: ready");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_serves(&door);
    }

    hear(&manager, "READY=1");
    let began = Instant::now();
    for _ in 0..5 {
        hear(&manager, "WATCHDOG=1");
    }
    assert!(began.elapsed() > Duration::from_millis(500));
}

/// Sends until nothing more fits.
fn fill(path: &Path) {
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"STATUS=somebody else", path).is_ok() {}
}

#[test]
fn ready_fd_gets_one_newline_and_is_closed() {
    for number in [3, 9, 63, 64, 65, 1023] {
        let (mut reader, writer) = pipe();
        let door = Door::new().args(["--ready-fd", &number.to_string()]);
        let door = door.fd(number, writer).serve(hold());

        let mut told = Vec::new();
        reader.read_to_end(&mut told).unwrap();

        assert_eq!(told, b"\n", "descriptor {number}");
        let _client = door.connect();
        door.wait_children(1);
    }
}

#[test]
fn ready_fd_of_the_standard_ones_gets_one_newline_and_becomes_dev_null() {
    for number in [0, 1, 2] {
        let (mut reader, writer) = pipe();
        let door = Door::new().args(["--ready-fd", &number.to_string()]);
        let door = match number {
            0 => door.fd0(writer),
            1 => door.fd1(writer),
            _ => door.fd2(writer),
        };
        let door = door.serve(echo());
        let _client = super::served(door.connect());

        let mut told = Vec::new();
        reader.read_to_end(&mut told).unwrap();

        assert_eq!(String::from_utf8_lossy(&told), "\n", "descriptor {number}");
        assert_eq!(door.fds()[&number], "/dev/null", "descriptor {number}");
    }
}

#[test]
fn ready_fd_that_nobody_reads_keeps_nobody_from_being_served() {
    let (reader, writer) = pipe();
    drop(reader);
    let door = Door::new().args(["--ready-fd", "3"]).fd(3, writer);
    let door = door.serve(echo());
    door.wait_log("warning: unable to tell readiness on --ready-fd");
    assert_serves(&door);
}

#[test]
fn ready_fd_is_told_only_when_clients_can_come() {
    for _ in 0..10 {
        let (mut reader, writer) = pipe();
        let door = Door::new().no_notify().args(["--ready-fd", "3"]);
        let door = door.fd(3, writer).serve(echo());
        reader.read_exact(&mut [0]).unwrap();
        assert_serves(&door);
    }
}

#[test]
fn ready_fd_must_be_open_and_a_number_of_a_descriptor() {
    for number in ["3", "7", "1023"] {
        let door = Door::new().args(["--ready-fd", number]);
        door.fails(hold()).assert(100, ["--ready-fd", number]);
    }
    for number in ["1024", "-1", "x", "", "4294967296"] {
        let door = Door::new().args([format!("--ready-fd={number}")]);
        door.fails(hold()).assert(100, ["--ready-fd"]);
    }
}

#[test]
fn start_that_fails_is_never_told_ready() {
    let (mut reader, writer) = pipe();
    let door = Door::new().args(["--ready-fd", "4"]).fd(4, writer);
    door.fails(["no-such-program"])
        .assert(127, ["no-such-program"]);
    let mut told = Vec::new();
    reader.read_to_end(&mut told).unwrap();
    assert!(told.is_empty());
}
