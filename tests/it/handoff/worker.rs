//! Backends that doorward starts: what they find, how they share the queue, when they start.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{ask, backend, door, occupying, order, pid, serving};
use crate::support::{Report, eventually};

#[test]
fn worker_finds_an_activated_descriptor_a_clean_table_and_default_signals() {
    let null = || std::fs::File::open("/dev/null").unwrap();
    let door = door()
        .env("GIVEN", "1")
        .env("IPCREMOTEEUID", "forged")
        .fd(5, null())
        .fd(17, null())
        .serve(backend(&[]));
    let report = Report::parse(ask(&door, "process"));

    assert_eq!(report.fd_numbers(), [0, 1, 2, 3]);
    let channel = &report.fds()[&3];
    assert_eq!(
        (&channel.socket[..], channel.listening, channel.nonblock),
        ("seqpacket", false, false)
    );
    assert!(report.fds().values().all(|descriptor| !descriptor.cloexec));
    assert_eq!(report.fds()[&0].link, "/dev/null");
    let worker = report.number("pid");
    assert_eq!(report.env("LISTEN_FDS").as_deref(), Some("1"));
    assert_eq!(report.env("LISTEN_FDNAMES").as_deref(), Some("handoff"));
    assert_eq!(report.env("LISTEN_PID"), Some(worker.to_string()));
    assert_eq!(report.env("GIVEN").as_deref(), Some("1"));
    assert_eq!(report.env("IPCREMOTEEUID"), None);
    let notify = report.env("NOTIFY_SOCKET").expect("a NOTIFY_SOCKET");
    assert!(notify.starts_with('@'), "{notify}");
    assert_ne!(notify, door.notices().address());
    assert_eq!(report.env("WATCHDOG_USEC"), None);
    assert_eq!(report.number("pgid"), worker);
    assert_eq!(report.number("ppid"), door.pid());
    for set in ["blocked", "ignored", "caught"] {
        let set = u64::from_str_radix(&report.get(set), 16).unwrap();
        assert_eq!(set, 0);
    }
}

#[test]
fn no_worker_holds_what_another_connection_or_doorward_has() {
    let door = door().args(["--workers", "2"]).serve(backend(&[]));
    let _one = super::kept(&door);
    let pids = door.wait_children(2);
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap();
    door.wait_log("backend exit");
    eventually("a new worker", || {
        door.children().len() == 2 && door.children() != pids
    });
    // The one that was started while connections were about.
    let new = door.children().into_iter().find(|pid| !pids.contains(pid));
    let new = new.unwrap();
    eventually("its exec", || crate::support::inspect::fds(new).len() == 4);
    assert!(!crate::support::inspect::has_listening_socket(new));
}

#[test]
fn workers_share_the_queue() {
    let door = door().args(["--workers", "3"]).serve(backend(&[]));
    let workers = door.wait_children(3);
    // Three that are busy at once are three processes.
    let mut clients: Vec<_> = (0..3).map(|_| occupying(&door)).collect();
    let mut fourth = door.connect();
    order(&mut fourth, "pid");
    super::wait_allowed(&door, 4);
    fourth.assert_open();
    clients.pop();
    assert!(workers.contains(&pid(&fourth.read_text())));
}

#[test]
fn lazy_worker_starts_at_the_first_connection_and_not_before() {
    let door = door().args(["--lazy"]).serve(backend(&[]));
    assert_eq!(door.count_log("backend start"), 0);
    assert!(door.children().is_empty());
    let first = serving(&door);
    // The line may come a moment after the worker's first answer.
    door.wait_log("backend start");
    assert_eq!(door.count_log("backend start"), 1);

    // After its death nobody is started, however long past the pause, until there is something to take.
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    door.wait_log("backend exit");
    let end = Instant::now() + Duration::from_millis(500);
    eventually("half a second without a start", || {
        assert_eq!(door.count_log("backend start"), 1);
        Instant::now() > end
    });
    let second = serving(&door);
    assert_ne!(first, second);
    door.wait_log("backend start");
    assert_eq!(door.count_log("backend start"), 2);
}

#[test]
fn lazy_worker_that_dies_with_something_queued_is_started_again() {
    let door = door().args(["--lazy"]).serve(backend(&[]));
    let mut first = door.connect();
    let mut second = door.connect();
    order(&mut second, "pid");
    super::wait_allowed(&door, 2);
    order(&mut first, "die 9");
    first.assert_closed();
    let next = pid(&second.read_text());
    assert_eq!(door.wait_children(1), [next]);
}
