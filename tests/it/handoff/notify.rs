//! The notification socketpair: who gets which end.

use super::{Told, ask, backend, door, order};
use crate::support::{Client, Served, eventually};

fn serve(to: &str) -> Served {
    door().args(["--notify-to", to]).serve(backend(&[]))
}

#[test]
fn both_ends_go_to_the_backend_and_are_each_others() {
    let door = serve("backend");
    assert_eq!(ask(&door, "pair"), "there back\n");
    // By default too.
    let door = super::door().serve(backend(&[]));
    assert_eq!(ask(&door, "pair"), "there back\n");
}

#[test]
fn client_that_gets_its_end_from_the_backend_hears_notifications() {
    let door = serve("backend");
    let mut client = door.connect();
    client.assert_open();
    order(&mut client, "greet hello");
    let (greeting, mut descriptors) = client.recv_greeting();
    assert_eq!(
        (&greeting[..], descriptors.len()),
        (&b"doorward 1\n"[..], 1)
    );
    let mut notification = Client::from(descriptors.remove(0));
    assert_eq!(notification.read_text(), "hello");
}

#[test]
fn client_gets_its_end_in_the_greeting_first_thing() {
    let door = serve("client");
    let mut client = door.connect();
    let (greeting, mut descriptors) = client.recv_greeting();
    assert_eq!(
        (&greeting[..], descriptors.len()),
        (&b"doorward 1\n"[..], 1)
    );
    order(&mut client, "notify hello");
    let mut notification = Client::from(descriptors.remove(0));
    assert_eq!(notification.read_text(), "hello");
    client.assert_closed();

    let mut client = door.connect();
    client.recv_greeting();
    let told = Told::of(client);
    assert_eq!(told.get("HANDOFF_FDS"), "connection:notify:lease");
}

#[test]
fn without_a_pair_there_is_none() {
    let door = serve("none");
    let client = door.connect();
    let told = Told::of(client);
    assert_eq!(told.get("HANDOFF_FDS"), "connection:lease");
    assert_eq!(told.descriptors.len(), 2);
}

#[test]
fn client_that_never_reads_its_greeting_keeps_its_slot_and_blocks_nobody() {
    let door = door()
        .args(["--notify-to", "client", "--max-per-user", "3"])
        .serve(backend(&["--answer"]));
    // Answered and closed by the backend, so it is the greeting that holds these slots.
    let mut deaf: Vec<Client> = (0..2).map(|_| door.connect()).collect();
    eventually("both are done with", || {
        door.count_log("doorward: end ") == 2
    });
    for _ in 0..5 {
        let mut client = door.connect();
        assert_eq!(client.recv_greeting().0, b"doorward 1\n");
        assert!(client.read_text().trim_end().parse::<i32>().is_ok());
        // Its slot comes back a moment after it has read.
        let mut slots = || {
            door.signal(nix::sys::signal::Signal::SIGUSR1);
            door.wait_log("status ").contains("slots=2/")
        };
        eventually("two slots", &mut slots);
    }
    deaf.push(door.connect());
    door.connect().assert_closed();
    door.wait_log("reason=max-per-user");
    // Read, and the slot is free.
    assert!(deaf[0].read_text().starts_with("doorward 1\n"));
    eventually("a slot", || {
        let mut client = door.connect();
        client.try_read_to_end().is_ok_and(|all| !all.is_empty())
    });
}
