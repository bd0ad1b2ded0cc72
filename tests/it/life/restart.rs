//! Stop and start again: nobody is lost or refused on an inherited socket, and what a killed one leaves is no obstacle.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use super::{assert_all_answered, assert_serves, echo, probe_with, served};
use crate::source::stream;
use crate::support::{Dial, Door, Scratch, Served, eventually, inspect};

/// A socket that outlives every doorward on it.
struct Kept {
    path: PathBuf,
    socket: OwnedFd,
    _scratch: Scratch,
}

impl Kept {
    fn new() -> Kept {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        Kept {
            socket: stream(&path),
            path,
            _scratch: scratch,
        }
    }

    fn door(&self) -> Door {
        let copy = self.socket.try_clone().unwrap();
        Door::new().no_bind().listen_fds([copy], &[])
    }
}

/// Clients that come one after the other, as fast as they can, until told to stop; the number of those answered.
fn clients(path: &Path, stop: &AtomicBool, answered: &AtomicUsize) {
    while !stop.load(Ordering::SeqCst) {
        let mut client = Dial::to(path).try_connect().expect("never refused");
        assert_eq!(client.try_read_to_end().expect("never reset"), b"served\n");
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn storm_of_restarts_on_an_inherited_socket_loses_nobody() {
    for grace in ["0", "20"] {
        let kept = Kept::new();
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        // Kept to the end: without a grace they leave children that still answer.
        let mut old = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| clients(&kept.path, &stop, &answered));
            }
            for round in 1..=10 {
                let door = kept.door().args(["--grace", grace]);
                let mut door = door.serve(probe_with(["notify", "7", "served"]));
                let before = answered.load(Ordering::SeqCst);
                eventually("forty answers", || {
                    answered.load(Ordering::SeqCst) >= before + 40
                });
                if round < 10 {
                    assert!(door.stop().success());
                }
                old.push(door);
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert!(answered.load(Ordering::SeqCst) >= 400);
    }
}

#[test]
fn clients_wait_on_an_inherited_socket_while_nobody_serves() {
    let kept = Kept::new();
    let mut first = kept.door().serve(echo());
    assert!(first.stop().success());
    let waiting: Vec<_> = (0..50).map(|_| Dial::to(&kept.path).connect()).collect();
    let _second = kept.door().serve(echo());
    assert_all_answered(waiting);
    assert!(kept.path.exists());
}

#[test]
fn clients_that_come_during_the_grace_wait_for_the_successor() {
    let kept = Kept::new();
    let mut first = kept.door().args(["--grace", "600"]).serve(echo());
    let running = served(Dial::to(&kept.path).connect());
    first.signal(Signal::SIGTERM);
    // Its doors are shut when it says nothing but waits for the running one: accept has no caller any more.
    first.wait_notice("STOPPING=1");
    eventually("no door in accept", || !in_accept(&first));
    let waiting: Vec<_> = (0..50).map(|_| Dial::to(&kept.path).connect()).collect();
    waiting.iter().for_each(|client| client.assert_open());
    let _second = kept.door().serve(echo());
    assert_all_answered(waiting);
    drop(running);
    assert!(first.wait_exit().success());
}

/// Whether any thread waits in accept4.
fn in_accept(door: &Served) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", door.pid())).unwrap();
    threads.flatten().any(|thread| {
        let call = std::fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        let number = call.split(' ').next().and_then(|n| n.parse().ok());
        number == Some(nix::libc::SYS_accept4)
    })
}

#[test]
fn two_on_one_inherited_socket_share_it_and_one_goes_on_alone() {
    let kept = Kept::new();
    let mut both = [kept.door().serve(echo()), kept.door().serve(echo())];
    let clients: Vec<_> = (0..100)
        .map(|_| served(Dial::to(&kept.path).connect()))
        .collect();
    eventually("a child of each of the hundred", || {
        both.iter().map(|door| door.children().len()).sum::<usize>() == 100
    });
    assert!(both.iter().all(|door| !door.children().is_empty()));
    drop(clients);

    assert!(both[0].stop().success());
    assert_all_answered((0..50).map(|_| Dial::to(&kept.path).connect()).collect());
}

#[test]
fn socket_that_another_holder_shuts_down_ends_the_service_and_says_why() {
    let kept = Kept::new();
    let mut door = kept.door().serve(echo());
    let mut client = served(Dial::to(&kept.path).connect());
    let ticks = inspect::cpu_ticks(door.pid());
    let copy = UnixStream::from(kept.socket.try_clone().unwrap());
    copy.shutdown(std::net::Shutdown::Read).unwrap();

    assert_eq!(door.wait_exit().code(), Some(111));

    door.wait_log("another holder of the socket has shut it down");
    assert!(inspect::cpu_ticks(door.pid()) <= ticks + 20);
    super::assert_echoes(&mut client);
    assert!(door.log().len() < 10, "{:?}", door.log());
}

#[test]
fn one_of_several_sockets_shut_down_ends_the_service_too() {
    let (one, other) = (Kept::new(), Kept::new());
    let sockets = [&one, &other].map(|kept| kept.socket.try_clone().unwrap());
    let door = Door::new().no_bind().listen_fds(sockets, &[]);
    let mut door = door.serve(echo());
    served(Dial::to(&other.path).connect());
    let copy = UnixStream::from(one.socket.try_clone().unwrap());
    copy.shutdown(std::net::Shutdown::Read).unwrap();
    assert_eq!(door.wait_exit().code(), Some(111));
}

#[test]
fn socket_of_one_that_was_killed_is_replaced_by_the_next() {
    let mut door = Door::new().serve(echo());
    let mut client = served(door.connect());
    door.signal(Signal::SIGKILL);
    assert_eq!(door.wait_exit().code(), None);
    assert!(door.socket().exists());

    let next = Door::new().bind(door.socket()).serve(echo());

    assert_serves(&next);
    super::assert_echoes(&mut client);
    assert!(next.socket().exists());
}

#[test]
fn stop_and_start_on_an_own_socket_again_and_again() {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    for _ in 0..20 {
        let mut door = Door::new().bind(&path).serve(echo());
        assert_serves(&door);
        door.signal(Signal::SIGTERM);
        // Not waiting for its end: the socket goes first, then the lock.
        eventually("the socket's end", || !path.exists());
        let next = crate::support::eventually_some("the lock", || {
            let mut next = Door::new().bind(&path).start(echo());
            let ready = eventually_ready(&mut next);
            ready.then_some(next)
        });
        assert_serves(&next);
        assert!(door.wait_exit().success());
    }
}

/// Whether it became ready; false if it ended instead.
fn eventually_ready(door: &mut Served) -> bool {
    loop {
        let patience = std::time::Duration::from_millis(10);
        if door.notices().wait_for("READY=1", patience).is_some() {
            return true;
        }
        if !door.running() {
            return false;
        }
    }
}
