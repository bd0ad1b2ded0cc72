//! Greetings that nobody reads are charged to doorward's user by the kernel: it must outlive the limit.

use std::os::unix::fs::chown;

use super::take_greeting;
use crate::support::{Client, Door, Served, User, eventually};

/// A doorward of `user` with at most `nofile` descriptors, and so many of the user's that may be under way.
fn unprivileged(user: &User, nofile: u32, options: &[&str]) -> Served {
    let door = Door::new()
        .args(["--notify", "--max", "3000", "--max-per-user", "3000"])
        .args(options);
    chown(door.dir(), Some(user.uid), None).unwrap();
    let uid = user.uid.to_string();
    let limit = format!("--nofile={nofile}:{nofile}");
    let id = |option: &str| format!("--{option}={uid}");
    let words = [
        "setpriv".into(),
        id("reuid"),
        id("regid"),
        "--clear-groups".into(),
        "prlimit".into(),
        limit,
    ];
    door.wrap(words).serve(["true"])
}

#[test]
fn more_unread_greetings_than_descriptors_pause_the_service_and_never_end_it() {
    need!(root, "setpriv", "prlimit");
    let mut door = unprivileged(&User::unique(), 200, &[]);
    let silent: Vec<Client> = (0..400).map(|_| door.connect()).collect();
    door.wait_log("doorward: warning: unable to ");
    assert!(door.running());
    drop(silent);
    let mut client = door.connect();
    take_greeting(&mut client);
    client.assert_closed();
    assert!(door.running());
}

#[test]
fn when_the_user_has_too_many_under_way_clients_wait_and_are_served_later() {
    need!(root, "setpriv", "prlimit");
    // Together beyond the limit of the second, which is of one user with the first.
    let user = User::unique();
    let first = unprivileged(&user, 2000, &[]);
    let mut silent: Vec<Client> = (0..500).map(|_| first.connect()).collect();
    eventually("500 greetings", || first.fds().len() > 500);
    let mut second = unprivileged(&user, 300, &[]);
    let mut client = second.connect();
    let line = second.wait_log("unable to send a greeting");
    assert!(line.contains("pausing"), "{line}");
    client.assert_open();
    assert!(second.running());

    silent.clear();
    take_greeting(&mut client);
    client.assert_closed();
    drop(first);
}

#[test]
fn clients_that_read_their_greeting_are_served_without_end() {
    need!(root, "setpriv", "prlimit");
    // Many more than may be under way at once.
    let door = unprivileged(&User::unique(), 200, &["-v"]);
    for round in 0..600 {
        let mut client = door.connect();
        take_greeting(&mut client);
        // Ended children whose end was not noticed yet have descriptors, too.
        if round % 50 == 0 {
            drop(client);
            door.wait_slots(0);
        }
    }
    assert_eq!(
        door.count_log("warning: unable"),
        0,
        "{:#?}",
        door.log().last()
    );
}
