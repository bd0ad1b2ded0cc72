//! Slots in a hand-off: taken as long as any copy of the lease is open, and no longer.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{backend, door, kept, occupying, order, pid};
use crate::support::{Client, Served, User, eventually};

fn serve(options: &[&str]) -> Served {
    door()
        .args(["--mode", "0666"])
        .args(options)
        .serve(backend(&[]))
}

/// Whether a client is served just now (else it was refused).
fn is_served(door: &Served) -> bool {
    let mut client = door.connect();
    let _ = client.try_send(b"pid\n");
    client
        .try_read_to_end()
        .is_ok_and(|answer| !answer.is_empty())
}

#[track_caller]
fn assert_refused(door: &Served) {
    let mut client = door.connect();
    let answer = client.try_read_to_end().unwrap_or_default();
    assert!(answer.is_empty(), "served: {answer:?}");
    let line = door.wait_log("doorward: deny ");
    assert!(line.contains("reason=max-per-user"), "{line}");
}

#[test]
fn slot_is_taken_while_the_backend_holds_the_lease_and_free_when_it_is_closed() {
    let door = serve(&["--max-per-user", "1"]);
    let mut held = occupying(&door);
    assert_refused(&door);
    held.shutdown_write();
    held.assert_closed();
    eventually("a free slot", || is_served(&door));
}

#[test]
fn slot_stays_taken_when_the_client_has_gone() {
    let door = serve(&["--max-per-user", "1"]);
    drop(kept(&door));
    // However often one looks: the backend has not let it go.
    (0..5).for_each(|_| assert_refused(&door));
}

#[test]
fn slot_stays_taken_when_the_backend_closes_the_connection_alone() {
    let door = serve(&["--max-per-user", "1"]);
    let mut client = door.connect();
    order(&mut client, "keep-lease");
    assert_eq!(client.read_line(), "kept");
    client.assert_closed();
    (0..5).for_each(|_| assert_refused(&door));
}

#[test]
fn slot_is_free_when_the_lease_alone_is_closed() {
    let door = serve(&["--max-per-user", "1"]);
    let mut client = door.connect();
    order(&mut client, "keep-connection");
    assert_eq!(client.read_line(), "kept");
    eventually("a free slot", || is_served(&door));
    client.assert_open();
}

#[test]
fn slot_is_free_when_the_backend_dies() {
    let door = serve(&["--max-per-user", "2"]);
    let worker = door.wait_children(1)[0];
    let mut held = [kept(&door), kept(&door)];
    assert_refused(&door);
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    held.iter_mut().for_each(Client::assert_closed);
    eventually("a free slot", || is_served(&door));
}

#[test]
fn queued_connections_count_though_nobody_has_taken_them() {
    let door = serve(&["--max-per-user", "2"]);
    // The one worker reads from the first, the second is in the channel.
    let (mut first, mut second) = (door.connect(), door.connect());
    order(&mut second, "pid");
    super::wait_allowed(&door, 2);
    assert_refused(&door);
    order(&mut first, "pid");
    assert_eq!(pid(&first.read_text()), pid(&second.read_text()));
}

#[test]
fn user_at_its_limit_takes_nothing_from_others() {
    need!(root);
    let door = serve(&["--max-per-user", "1"]);
    let _held = kept(&door);
    assert_refused(&door);
    let mut other = door.connect_as(&User::new(4321, 4321));
    order(&mut other, "pid");
    pid(&other.read_text());
}

#[test]
fn at_max_clients_wait_and_are_served_when_a_slot_is_free() {
    let door = serve(&["--max", "2", "--max-per-user", "5", "--workers", "3"]);
    let mut held = vec![occupying(&door), occupying(&door)];
    let mut waiting = door.connect();
    order(&mut waiting, "pid");
    door.wait_log("doorward: full ");
    waiting.assert_open();
    assert_eq!(door.count_log("doorward: allow "), 2);
    held.pop();
    pid(&waiting.read_text());
    assert_eq!(door.count_log("doorward: deny "), 0);
}

#[test]
fn end_of_a_lease_is_told() {
    let door = serve(&[]);
    let mut client = door.connect();
    order(&mut client, "pid");
    pid(&client.read_text());
    let line = door.wait_log("doorward: end ");
    assert!(
        line.contains("child=- user=") && line.contains("status=-"),
        "{line}"
    );
}
