//! `--max` and `--max-per-user`: how many at once.

use super::{reachable, user};
use crate::support::{Client, Door, Served, eventually};

/// Serves children that stay until their client leaves, and answer it.
fn held(door: Door) -> Served {
    door.args(["--inetd", "-v"]).serve(["cat"])
}

/// It has a child that answers.
#[track_caller]
fn assert_served(client: &mut Client) {
    client.send(b"x");
    assert_eq!(client.read_exactly(1), b"x");
}

/// A connection that has its child.
#[track_caller]
fn served(door: &Served, id: u32) -> Client {
    let mut client = door.connect_as(&user(id));
    assert_served(&mut client);
    client
}

#[test]
fn at_the_limit_clients_wait_and_are_served_when_there_is_room_again() {
    need!(root);
    let door = held(reachable().args(["--max", "2"]));
    let first = served(&door, 1);
    let second = served(&door, 2);

    let mut third = door.connect_as(&user(3));
    third.send(b"x");
    assert_eq!(
        door.wait_log("doorward: full "),
        "doorward: full slots=2/2 waiting=1"
    );
    third.assert_open();
    assert_eq!(door.children().len(), 2);

    drop(first);
    assert_eq!(third.read_exactly(1), b"x");
    assert!(door.wait_log("allow user=3 ").contains(" slots=2/2 "));
    assert_eq!(door.wait_log("doorward: room "), "doorward: room slots=2/2");
    drop((second, third));
    door.wait_children(0);
}

#[test]
fn sockets_that_are_served_together_share_the_limits() {
    need!(root);
    let door = reachable().args(["--max", "2", "--max-per-user", "1"]);
    let other = door.path("other");
    let door = held(door.args(["--bind".into(), other.clone()]));
    let first = served(&door, 1);
    let dial = |id| crate::support::Dial::to(&other).user(&user(id));
    dial(1).connect().assert_closed();
    assert!(
        door.wait_log("deny user=1 ")
            .contains(" slots=1/2 reason=max-per-user limit=1")
    );
    let mut second = dial(2).connect();
    assert_served(&mut second);

    let mut third = door.connect_as(&user(3));
    door.wait_log("doorward: full slots=2/2 waiting=1");
    third.assert_open();
    drop(second);
    assert_served(&mut third);
    drop(first);
}

#[test]
fn everybody_who_waits_is_served_in_the_end() {
    need!(root);
    let door = held(reachable().args(["--max", "3", "--max-per-user", "3"]));
    let mut clients: Vec<Client> = (0..40).map(|id| door.connect_as(&user(id))).collect();
    clients.iter_mut().for_each(|client| client.send(b"x"));
    door.wait_log("doorward: full slots=3/3 waiting=");
    // More than doors wait: the rest are in the kernel's queue. Nobody is overtaken for ever, whoever leaves first.
    let mut served = 0;
    while !clients.is_empty() {
        assert!(door.children().len() <= 3);
        eventually("somebody who is served", || {
            clients.iter().any(Client::is_readable)
        });
        let (answered, waiting) = clients.into_iter().partition(Client::is_readable);
        let answered: Vec<Client> = answered;
        clients = waiting;
        for mut client in answered {
            assert_eq!(client.read_exactly(1), b"x");
            served += 1;
        }
    }
    assert_eq!(served, 40);
}

#[test]
fn who_is_not_to_come_in_is_told_at_once_even_when_it_is_full() {
    need!(root);
    let options = ["--max", "1", "--max-per-user", "1", "--deny", "user:66"];
    let door = held(reachable().args(options));
    let first = served(&door, 1);
    let waiting = door.connect_as(&user(2));
    door.wait_log("doorward: full slots=1/1 waiting=1");

    door.connect_as(&user(66)).assert_closed();
    door.wait_log("deny user=66 ");
    door.connect_as(&user(1)).assert_closed();
    assert!(
        door.wait_log("deny user=1 ")
            .contains(" reason=max-per-user limit=1")
    );
    // Who waits has a place already.
    door.connect_as(&user(2)).assert_closed();
    assert!(
        door.wait_log("deny user=2 ")
            .contains(" reason=max-per-user limit=1")
    );
    waiting.assert_open();
    drop(first);
    let mut waiting = waiting;
    assert_served(&mut waiting);
}

#[test]
fn a_client_that_left_while_it_waited_leaves_no_slot_taken() {
    need!(root);
    let door = held(reachable().args(["--max", "1", "--max-per-user", "1"]));
    let first = served(&door, 1);
    let waiting = door.connect_as(&user(2));
    door.wait_log("doorward: full slots=1/1 waiting=1");
    drop(waiting);
    drop(first);
    door.wait_log("end child=");
    door.wait_log("end child=");
    door.wait_slots(0);
    let _again = served(&door, 2);
}

#[test]
fn max_zero_is_no_limit_and_none_per_user_either() {
    let door = held(Door::new().args(["--max", "0"]));
    let clients: Vec<Client> = (0..30).map(|_| served(&door, 0)).collect();
    assert_eq!(door.children().len(), 30);
    assert_eq!((door.count_log("deny"), door.count_log("full")), (0, 0));
    assert!(door.wait_log("allow user=").contains(" slots=1/0 "));
    drop(clients);
    door.wait_children(0);
}

#[test]
fn one_user_gets_three_quarters_rounded_up_unless_told_otherwise() {
    need!(root);
    for (options, limit) in [
        (["--max", "1"].as_slice(), 1),
        (&["--max", "2"], 2),
        (&["--max", "3"], 3),
        (&["--max", "4"], 3),
        (&["--max", "5"], 4),
        (&["--max", "8"], 6),
        (&["--max", "9"], 7),
        (&["--max-per-user", "2"], 2),
        (&["--max", "0", "--max-per-user", "3"], 3),
    ] {
        let door = held(reachable().args(options));
        let _held: Vec<Client> = (0..limit).map(|_| served(&door, 1000)).collect();
        door.connect_as(&user(1000)).assert_closed();
        let line = door.wait_log("deny user=1000 ");
        assert!(
            line.ends_with(&format!(" reason=max-per-user limit={limit}")),
            "{options:?}: {line}"
        );
    }
}

#[test]
fn a_limit_of_a_user_is_his_own_and_a_slot_that_ends_is_given_back() {
    need!(root);
    let door = held(reachable().args(["--max-per-user", "2"]));
    for round in 0..5 {
        let first = served(&door, 1000);
        let second = served(&door, 1000);
        door.connect_as(&user(1000)).assert_closed();
        let line = door.wait_log("deny user=1000 ");
        assert!(
            line.contains(" slots=2/1000 reason=max-per-user limit=2"),
            "{round}: {line}"
        );
        // The same group, another user.
        let mut other = door.connect_as(&crate::support::User::new(1001, 1000));
        assert_served(&mut other);
        drop((first, second, other));
        for _ in 0..3 {
            door.wait_log("end child=");
        }
        eventually("the slots to be free", || door.children().is_empty());
        // The count of the next round starts from nothing: IPCCONNNUM and `slots=` say so above.
    }
}

#[test]
fn limits_that_are_none_are_wrong_use() {
    for option in [
        "--max=-1",
        "--max=x",
        "--max=",
        "--max-per-user=0",
        "--max-per-user=-1",
        "--max=4294967296",
    ] {
        let outcome = Door::new().args([option]).fails(["true"]);
        let name = option.split('=').next().unwrap();
        outcome.assert(100, [name]);
    }
}
