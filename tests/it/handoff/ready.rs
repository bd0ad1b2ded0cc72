//! What backends say of themselves, and what the manager hears of it.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{NOBODY, ask, backend, door, listening, serving};
use crate::support::{Report, Served, eventually, inspect};

/// Sends to a worker's NOTIFY_SOCKET as somebody else: this process.
fn forge(worker: i32, text: &str) {
    let entry = inspect::environment(worker)
        .into_iter()
        .find_map(|entry| entry.strip_prefix(b"NOTIFY_SOCKET=@").map(<[u8]>::to_vec))
        .expect("a NOTIFY_SOCKET");
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = SocketAddr::from_abstract_name(entry).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to_addr(text.as_bytes(), &address).unwrap();
}

#[test]
fn ready_comes_after_listen_whether_or_not_the_backend_is() {
    let door = door();
    let fence = door.path("never");
    let door = door.serve(backend(&["--ready", "--fence", fence.to_str().unwrap()]));
    door.wait_log("doorward: ready");
}

#[test]
fn ready_backend_waits_for_every_worker() {
    let door = door();
    let fence = door.path("fence");
    let door = door
        .args(["--ready", "backend", "--workers", "2"])
        .start(backend(&["--ready", "--fence", fence.to_str().unwrap()]));
    let workers = door.wait_children(2);
    eventually("their environment", || {
        workers
            .iter()
            .all(|&worker| inspect::fds(worker).len() == 4)
    });
    // Somebody else's word is not theirs.
    forge(workers[0], "READY=1");
    let early = door
        .notices()
        .wait_for("READY=1", Duration::from_millis(300));
    assert!(early.is_none());
    std::fs::write(fence, "").unwrap();
    door.wait_notice("READY=1");
    door.wait_log("doorward: ready");
    assert_eq!(door.count_log("doorward: ready"), 1);
}

#[test]
fn ready_backend_waits_for_the_control_connection() {
    let door = door();
    let path = door.path("backend");
    let door = door
        .args(["--backend", path.to_str().unwrap()])
        .args(["--ready", "backend"])
        .start(NOBODY);
    door.wait_log("backend wait");
    assert!(door.notices().wait_for("READY=1", Duration::ZERO).is_none());
    let _listener = listening::listener(&path);
    door.wait_notice("READY=1");
}

#[test]
fn status_of_the_backend_goes_on_to_the_manager_as_text_alone() {
    let door = door().serve(backend(&[]));
    assert_eq!(ask(&door, "say STATUS=all is well"), "said\n");
    door.wait_notice("all is well");
    // Two lines of the backend's, of which neither is doorward's.
    let stopping = "say STATUS=still;STOPPING=1;MAINPID=1;FDSTORE=1;X=y";
    assert_eq!(ask(&door, stopping), "said\n");
    let notice = door.wait_notice("still");
    assert_eq!(notice.text.lines().count(), 1, "{:?}", notice.text);
    for word in ["MAINPID", "FDSTORE", "X=y", "STOPPING"] {
        let heard = door.notices().wait_for(word, Duration::ZERO);
        assert!(heard.is_none(), "{heard:?}");
    }
}

#[test]
fn messages_of_other_processes_are_not_heard() {
    let door = door().serve(backend(&[]));
    let worker = serving(&door);
    assert_eq!(ask(&door, "child-says STATUS=forged by a child"), "said\n");
    assert_not_heard(&door);
    forge(worker, "STATUS=forged by a stranger");
    assert_not_heard(&door);
    assert_eq!(ask(&door, "say STATUS=true"), "said\n");
    door.wait_notice(": true");
    assert!(door.notices().wait_for("forged", Duration::ZERO).is_none());
}

/// With the second answer, all is done that had come before the first signal.
#[track_caller]
fn assert_not_heard(door: &Served) {
    for _ in 0..2 {
        door.signal(Signal::SIGUSR1);
        let line = door.wait_log("status ");
        assert!(!line.contains("forged"), "{line}");
    }
}

#[test]
fn flood_on_the_notification_socket_stops_nothing() {
    let door = door().serve(backend(&[]));
    let worker = serving(&door);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = || {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                forge(worker, "STATUS=flood");
            }
        };
        scope.spawn(flood);
        scope.spawn(flood);
        // The control thread still hears signals and sees deaths.
        for _ in 0..3 {
            door.signal(Signal::SIGUSR1);
            door.wait_log("status ");
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    // Until then it may still take a connection with it.
    door.wait_log("backend exit ");
    assert_ne!(serving(&door), worker);
}

#[test]
fn watchdog_is_fed_only_while_those_who_ever_pinged_still_do() {
    let door = door().env("WATCHDOG_USEC", "1000000").serve(backend(&[]));
    let report = Report::parse(ask(&door, "process"));
    assert_eq!(report.env("WATCHDOG_USEC").as_deref(), Some("1000000"));
    assert_eq!(report.env("WATCHDOG_PID"), None);
    // It never pinged, which is its right.
    door.notices().wait_count("WATCHDOG=1", 4).expect("pings");
    assert_eq!(door.count_log("watchdog interval"), 0);
    // It pings once, and then no more.
    assert_eq!(ask(&door, "say WATCHDOG=1"), "said\n");
    door.wait_log("a backend has missed its watchdog interval");
    // Its successor is another one.
    let before = door.notices().all().len();
    kill(Pid::from_raw(report.number("pid")), Signal::SIGKILL).unwrap();
    eventually("pings again", || {
        let all = door.notices().all();
        all[before..]
            .iter()
            .any(|notice| notice.text.contains("WATCHDOG=1"))
    });
}
