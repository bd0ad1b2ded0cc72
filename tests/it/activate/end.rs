//! SIGTERM: the daemon is told, has its grace, and nobody who waits is lost on an inherited socket.

use super::{ONE, activate};
use crate::source::stream;
use crate::support::{Dial, Door, Scratch, eventually, inspect, probe};
use nix::sys::signal::Signal;
use std::os::unix::net::UnixDatagram;

#[test]
fn daemon_ends_by_sigterm_and_the_path_goes() {
    let mut door = activate([]).serve(["sleep", "1000"]);
    let path = door.socket();
    let _client = door.connect();
    let daemon = door.wait_children(1)[0];
    assert_eq!(door.stop().code(), Some(0));
    assert!(!inspect::alive(daemon));
    assert!(!path.exists());
    assert!(door.wait_log("daemon exit").contains(" signal=15 "));
    door.wait_notice("STOPPING=1");
}

#[test]
fn it_ends_at_once_where_no_daemon_runs() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut door = activate(["--grace", "1000"]).serve(["sleep", "1000"]);
        door.signal(signal);
        assert_eq!(door.wait_exit().code(), Some(0));
        assert!(!door.socket().exists());
    }
}

#[test]
fn daemon_may_take_its_grace_to_finish() {
    let door = activate(["--grace", "1000"]);
    let go = door.path("go");
    let script = format!(
        "trap 'echo told; while [ ! -e {} ]; do sleep 0.05; done; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        go.display()
    );
    let mut door = door.serve(["sh", "-c", &script]);
    let path = door.socket();
    let _client = door.connect();
    assert!(door.output().take("up").is_some());
    door.signal(Signal::SIGTERM);
    assert!(door.output().take("told").is_some());
    // A successor may start at once: the path and the lock are free while the old daemon finishes.
    let successor = Door::new().command("activate").bind(&path).serve(["true"]);
    assert!(door.running());
    std::fs::write(go, "").unwrap();
    assert_eq!(door.wait_exit().code(), Some(0));
    assert!(door.wait_log("daemon exit").contains(" status=0 "));
    assert!(successor.socket().exists());
}

/// A daemon that does not hear SIGTERM, with a child that does not either.
fn deaf() -> [String; 3] {
    let script = format!(
        "{0} ignore-term 3 & {0} ignore-term 3; exit 9",
        probe().display()
    );
    let script = format!("trap '' TERM; {script}");
    ["sh".to_owned(), "-c".to_owned(), script]
}

#[test]
fn what_is_left_of_its_group_is_killed_when_the_grace_is_over() {
    let mut door = activate(["--grace", "0.2"]).serve(deaf());
    let _client = door.connect();
    let daemon = door.wait_children(1)[0];
    eventually("its children", || inspect::children(daemon).len() == 2);
    let below = inspect::children(daemon);
    assert_eq!(door.stop().code(), Some(0));
    assert!(door.wait_log("daemon exit").contains(" signal=9 "));
    eventually("the end of the group", || {
        below.iter().all(|&pid| !inspect::alive(pid))
    });
}

#[test]
fn member_that_outlives_its_leader_is_killed_too() {
    let left = format!("{} ignore-term 3 & exec sleep 1000", probe().display());
    let mut door = activate(["--grace", "0.2"]).serve(["sh", "-c", &left]);
    let _client = door.connect();
    let daemon = door.wait_children(1)[0];
    assert!(door.output().take("ready").is_some());
    let member = inspect::children(daemon)[0];
    assert_eq!(door.stop().code(), Some(0));
    assert!(door.wait_log("daemon exit").contains(" signal=15 "));
    eventually("the end of the member", || !inspect::alive(member));
}

#[test]
fn member_that_outlives_its_leader_has_the_grace_too() {
    let door = activate(["--grace", "1000"]);
    let go = door.path("go");
    let member = format!(
        "trap 'while [ ! -e {} ]; do sleep 0.05; done; echo finished; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        go.display()
    );
    let script = "sh -c \"$0\" & exec sleep 1000";
    let mut door = door.serve(["sh", "-c", script, &member]);
    let _client = door.connect();
    let daemon = door.wait_children(1)[0];
    assert!(door.output().take("up").is_some());
    door.signal(Signal::SIGTERM);
    eventually("the end of the leader", || !inspect::alive(daemon));
    std::fs::write(go, "").unwrap();
    assert!(door.output().take("finished").is_some());
    assert_eq!(door.wait_exit().code(), Some(0));
}

#[test]
fn daemon_can_wait_for_clients_to_its_end() {
    need!("python3");
    let daemon = "import signal, socket, sys
s = socket.socket(fileno=3)
s.setblocking(False)
client = s.accept()[0]
def end(*_):
    try:
        s.accept()
    except OSError as error:
        print(type(error).__name__)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
client.sendall(b'up')
while True:
    signal.pause()
";
    let mut door = activate([]).serve(["python3", "-c", daemon]);
    let mut client = door.connect();
    assert_eq!(client.read_exactly(2), b"up");
    assert_eq!(door.stop().code(), Some(0));
    // One that was shut down would be an invalid argument, and a daemon with a loop around it might spin.
    assert_eq!(door.output().whole(), ["BlockingIOError"]);
}

#[test]
fn second_signal_ends_the_grace() {
    let mut door = activate(["--grace", "1000"]).serve(deaf());
    let _client = door.connect();
    let daemon = door.wait_children(1)[0];
    eventually("its children", || inspect::children(daemon).len() == 2);
    door.signal(Signal::SIGTERM);
    door.wait_log("drain running=1 grace=1000");
    door.signal(Signal::SIGTERM);
    assert_eq!(door.wait_exit().code(), Some(0));
    assert!(!inspect::alive(daemon));
}

#[test]
fn no_client_of_an_inherited_socket_is_lost_between_two_doorwards() {
    need!("python3");
    let home = Scratch::new();
    let path = home.path("s");
    let socket = stream(&path);
    let mut waiting = Dial::to(&path).connect();
    for _ in 0..3 {
        let copy = socket.try_clone().unwrap();
        let mut door = activate([]).no_bind().listen_fds([copy], &[]).serve(ONE);
        assert_eq!(waiting.read_text(), "served\n");
        door.wait_log("daemon exit");
        door.pause();
        // It comes too late for this one.
        waiting = Dial::to(&path).connect();
        door.signal(Signal::SIGKILL);
        door.wait_exit();
        assert!(path.exists());
    }
}

#[test]
fn no_datagram_of_an_inherited_socket_is_lost_at_a_stop() {
    let home = Scratch::new();
    let path = home.path("s");
    let socket = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let copy = std::os::fd::OwnedFd::from(socket.try_clone().unwrap());
    let door = activate(["--inetd"]).no_bind().fd0(copy);
    let mut door = door.serve(["sleep", "1000"]);
    sender.send_to(b"one", &path).unwrap();
    door.wait_children(1);
    sender.send_to(b"two", &path).unwrap();
    assert_eq!(door.stop().code(), Some(0));
    assert!(path.exists(), "an inherited node is not ours to remove");
    socket.set_nonblocking(true).unwrap();
    for expected in ["one", "two"] {
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).expect("what was sent is there");
        assert_eq!(&buffer[..length], expected.as_bytes());
    }
}
