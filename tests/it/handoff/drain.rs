//! The end: nothing that was accepted is lost, and it comes to its end all the same.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{backend, door, occupying, order, pid};
use crate::support::{Client, inspect};

#[test]
fn slow_backend_empties_the_channel_before_it_is_told_to_end() {
    let mut door = door().serve(backend(&["--answer", "--slow", "200"]));
    let worker = door.wait_children(1)[0];
    let mut clients: Vec<_> = (0..5).map(|_| door.connect()).collect();
    super::wait_allowed(&door, 5);

    door.signal(Signal::SIGTERM);
    door.wait_notice("STOPPING=1");

    for client in &mut clients[..4] {
        assert_eq!(pid(&client.read_text()), worker);
    }
    assert!(door.wait_exit().success());
    assert!(!inspect::alive(worker));
    assert!(door.dial().try_connect().is_err());
}

#[test]
fn lazy_backend_is_started_for_what_is_queued_at_the_end() {
    let mut door = door().args(["--lazy"]).serve(backend(&["--answer"]));
    // Nothing of it runs, and doorward hears of the connection and of its end at once.
    door.pause();
    let mut client = door.connect();
    door.signal(Signal::SIGTERM);
    door.resume();
    pid(&client.read_text());
    assert!(door.wait_exit().success());
}

#[test]
fn backend_that_takes_nothing_is_waited_for_and_then_given_up() {
    let mut door = door().serve(backend(&["--no-read"]));
    let worker = door.wait_children(1)[0];
    let mut clients = [door.connect(), door.connect()];
    super::wait_allowed(&door, 2);
    let began = Instant::now();
    assert!(door.stop().success());
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(5), "{took:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    door.wait_log("are lost");
    clients.iter_mut().for_each(Client::assert_closed);
    assert!(!inspect::alive(worker));
}

#[test]
fn second_signal_ends_the_wait_at_once() {
    let mut door = door().serve(backend(&["--no-read", "--ignore-term"]));
    let worker = door.wait_children(1)[0];
    let _client = door.connect();
    super::wait_allowed(&door, 1);
    let began = Instant::now();
    door.signal(Signal::SIGTERM);
    door.wait_notice("STOPPING=1");
    door.signal(Signal::SIGTERM);
    door.wait_log("are lost");
    // The backend ignores TERM: a third one leaves it no time either.
    door.signal(Signal::SIGTERM);
    assert!(door.wait_exit().success());
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert!(!inspect::alive(worker));
}

#[test]
fn backend_that_ignores_term_is_killed_5_seconds_later() {
    let mut door = door().serve(backend(&["--ignore-term"]));
    let worker = super::serving(&door);
    let began = Instant::now();
    assert!(door.stop().success());
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(5) && took < Duration::from_secs(9),
        "{took:?}"
    );
    assert!(door.wait_log("backend exit").contains("signal=9"));
    assert!(!inspect::alive(worker));
}

#[test]
fn without_a_grace_what_backends_hold_ends_with_them() {
    let mut door = door().serve(backend(&[]));
    let mut held = occupying(&door);
    assert!(door.stop().success());
    held.assert_closed();
    assert!(door.wait_log("backend exit").contains("signal=15"));
}

#[test]
fn grace_lets_leases_finish() {
    let mut door = door()
        .args(["--grace", "15", "--workers", "2"])
        .serve(backend(&[]));
    let mut held = occupying(&door);
    door.signal(Signal::SIGTERM);
    door.wait_log("doorward: drain ");
    // Past the second that an own socket's queue has in any case.
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        assert!(door.running());
        held.assert_open();
        std::thread::sleep(Duration::from_millis(20));
    }
    order(&mut held, "");
    held.read_to_end();
    let began = Instant::now();
    assert!(door.wait_exit().success());
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn worker_that_dies_during_the_drain_is_started_again_for_what_is_queued() {
    let mut door = door().serve(backend(&[]));
    let worker = door.wait_children(1)[0];
    let first = door.connect();
    let mut second = door.connect();
    order(&mut second, "pid");
    super::wait_allowed(&door, 2);
    door.signal(Signal::SIGTERM);
    door.wait_notice("STOPPING=1");
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    assert_ne!(pid(&second.read_text()), worker);
    assert!(door.wait_exit().success());
    drop(first);
}

#[test]
fn listening_backend_outlives_doorward_and_serves_the_next_one() {
    let host = crate::support::neighbour::Neighbour::new();
    let mut host = host;
    let path = host.text("backend");
    let probe = crate::support::probe().to_str().unwrap().to_owned();
    let mut command = host.command(&probe);
    command.args(["backend", "--listen", &path]);
    let backend = host.start(&mut command);
    for _ in 0..2 {
        let mut door = door().args(["--backend", &path]).serve(super::NOBODY);
        assert_eq!(super::serving(&door), backend);
        assert!(door.stop().success());
        assert!(inspect::alive(backend));
    }
}
