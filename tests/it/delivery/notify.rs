//! `--notify`: the greeting, the notification socket, and the slot that an unread greeting holds.

use std::process::id;

use nix::sys::signal::Signal;

use super::{reporter, take_greeting};
use crate::support::{Client, Door, Report, Served, User, eventually, inspect, probe};

fn probing<const N: usize>(door: Door, words: [&str; N]) -> Served {
    let probe = probe();
    let words = [probe.to_str().unwrap()].into_iter().chain(words);
    door.args(["--notify"]).serve(words)
}

fn shell(door: Door, script: &str) -> Served {
    door.args(["--notify", "-v"]).serve(["sh", "-c", script])
}

#[test]
fn the_greeting_is_eleven_bytes_and_one_descriptor_before_all_else() {
    let door = shell(Door::new(), "echo data >&7; echo news >&8");
    let mut client = door.connect();
    let mut notification = take_greeting(&mut client);
    assert_eq!(client.read_text(), "data\n");
    assert_eq!(notification.read_text(), "news\n");
}

#[test]
fn both_ends_of_the_notification_socket_talk_and_hear() {
    let door = probing(Door::new(), ["echo", "8", "8"]);
    let mut client = door.connect();
    let mut notification = take_greeting(&mut client);
    notification.send(b"there and back");
    assert_eq!(notification.read_exactly(14), b"there and back");
    client.assert_open();
    notification.shutdown_write();
    assert_eq!(notification.read_to_end(), b"");
    client.assert_closed();
}

#[test]
fn each_connection_has_a_notification_socket_of_its_own() {
    let door = shell(Door::new(), "read word <&6; echo $word >&8; exec cat <&6");
    let mut clients: Vec<(Client, Client)> = (0..5)
        .map(|_| {
            let mut client = door.connect();
            let notification = take_greeting(&mut client);
            (client, notification)
        })
        .collect();
    for (i, (client, notification)) in clients.iter_mut().enumerate().rev() {
        client.send(format!("{i}\n").as_bytes());
        assert_eq!(notification.read_line(), i.to_string());
    }
    for (_, notification) in &clients {
        notification.assert_open();
    }
}

#[test]
fn a_child_has_8_with_and_only_with_notify() {
    let door = Door::new().args(["--notify"]).serve(reporter("7"));
    let mut client = door.connect();
    take_greeting(&mut client);
    let report = Report::parse(client.read_to_end());
    assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7, 8]);
    assert_eq!(report.env("NOTIFYFD").as_deref(), Some("8"));
    assert_eq!(report.fds()[&8].socket, "stream");

    let report = Report::parse(Door::new().serve(reporter("7")).connect().read_to_end());
    assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7]);
    assert_eq!(report.env("NOTIFYFD"), None);
}

#[test]
fn a_seqpacket_client_gets_the_greeting_as_one_record() {
    let door = shell(Door::new().args(["--type", "seqpacket"]), "printf data >&7");
    let mut client = door.dial().seqpacket().connect();
    take_greeting(&mut client);
    assert_eq!(client.read_record(), b"data");
    assert_eq!(client.read_record(), b"");
}

#[test]
fn when_the_child_ends_first_its_words_and_the_greeting_can_still_be_read() {
    let door = shell(Door::new(), "echo data >&7; echo news >&8");
    let mut client = door.connect();
    door.wait_log("doorward: end ");
    door.wait_children(0);
    assert_eq!(door.slots(), 1);
    let mut notification = take_greeting(&mut client);
    assert_eq!(client.read_text(), "data\n");
    assert_eq!(notification.read_text(), "news\n");
    door.wait_slots(0);
}

#[test]
fn an_unread_greeting_holds_the_slot_until_it_is_read() {
    need!(root);
    let door = shell(Door::new().args(["--mode", "0666", "--max", "1"]), "true");
    let mut first = door.connect_as(&User::new(1, 1));
    door.wait_log("doorward: end ");
    let mut second = door.connect_as(&User::new(2, 2));
    door.wait_log("doorward: full slots=1/1 waiting=1");
    second.assert_open();

    take_greeting(&mut first);
    door.wait_log("allow user=2 ");
    take_greeting(&mut second);
    first.assert_closed();
    second.assert_closed();
    door.wait_slots(0);
}

#[test]
fn an_unread_greeting_holds_the_slot_until_the_client_is_gone() {
    need!(root);
    let door = shell(Door::new().args(["--mode", "0666", "--max", "1"]), "true");
    let first = door.connect_as(&User::new(1, 1));
    door.wait_log("doorward: end ");
    let mut second = door.connect_as(&User::new(2, 2));
    door.wait_log("doorward: full slots=1/1 waiting=1");
    drop(first);
    take_greeting(&mut second);
}

#[test]
fn an_unread_greeting_counts_for_the_limit_of_its_user() {
    let door = shell(Door::new().args(["--max-per-user", "1"]), "true");
    let mut first = door.connect();
    door.wait_log("doorward: end ");
    door.connect().assert_closed();
    assert!(
        door.wait_log("deny ")
            .contains(" reason=max-per-user limit=1")
    );
    take_greeting(&mut first);
    eventually("room again", || {
        let mut again = door.connect();
        let (bytes, _notification) = again.recv_greeting();
        !bytes.is_empty()
    });
}

#[test]
fn a_greeting_that_was_read_leaves_nothing_of_the_connection_with_doorward() {
    let door = probing(Door::new(), ["hold", "6"]);
    let before = door.fds().len();
    let mut client = door.connect();
    door.wait_children(1);
    eventually("the copy of the connection", || {
        door.fds().len() == before + 1
    });
    take_greeting(&mut client);
    eventually("the copy to be gone", || door.fds().len() == before);
    assert_eq!(door.slots(), 1, "the child still runs");

    // So the child alone keeps the connection open: its end is the client's end of file.
    let child = door.wait_children(1)[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL).unwrap();
    client.assert_closed();
    eventually("the descriptors of before", || door.fds().len() == before);
    door.wait_slots(0);
}

#[test]
fn a_client_that_reads_the_greeting_in_pieces_counts_when_it_has_all_of_it() {
    let door = shell(Door::new(), "true");
    let mut client = door.connect();
    door.wait_log("doorward: end ");
    assert_eq!(client.read_exactly(5), b"doorw");
    assert_eq!(door.slots(), 1);
    assert_eq!(client.read_exactly(6), b"ard 1\n");
    client.assert_closed();
    door.wait_slots(0);
}

#[test]
fn clients_that_never_read_hold_nobody_else_up() {
    let door = shell(Door::new(), "echo data >&7");
    // More than there are doors.
    let silent: Vec<Client> = (0..50).map(|_| door.connect()).collect();
    let mut client = door.connect();
    take_greeting(&mut client);
    assert_eq!(client.read_text(), "data\n");
    door.wait_children(0);
    door.wait_slots(50);
    drop(silent);
    door.wait_slots(0);
}

#[test]
fn unread_greetings_do_not_spin() {
    let door = shell(Door::new(), "true");
    let silent: Vec<Client> = (0..5).map(|_| door.connect()).collect();
    door.wait_children(0);
    door.wait_slots(5);
    let ticks = inspect::cpu_ticks(door.pid());
    let begun = std::time::Instant::now();
    // A spinning thread would use some 50 ticks of 10 ms; the questions themselves use a few.
    eventually("half a second", || {
        begun.elapsed() > std::time::Duration::from_millis(500)
    });
    assert!(inspect::cpu_ticks(door.pid()) < ticks + 20);
    drop(silent);
}

#[test]
fn a_client_that_takes_no_descriptors_is_closed_and_logged() {
    let door = shell(Door::new().args(["--max", "1"]), "echo data >&7");
    match door.dial().without_rights().try_connect() {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOPROTOOPT) => {
            // Before Linux 6.16 there is no such client.
            return;
        }
        client => client.unwrap().assert_closed(),
    }
    let line = door.wait_log("unable to send a greeting");
    assert!(
        line.starts_with("doorward: warning: ") && line.contains(&format!("pid={}", id())),
        "{line}"
    );
    // It took the only slot, and gave it back.
    let mut client = door.connect();
    take_greeting(&mut client);
    assert_eq!(client.read_text(), "data\n");
    door.wait_log("doorward: allow ");
    assert_eq!(door.count_log("doorward: allow "), 1);
}

#[test]
fn a_client_that_left_before_its_greeting_is_no_trouble() {
    let door = shell(
        Door::new().args(["--max", "1", "--max-per-user", "1"]),
        "echo data >&7",
    );
    door.pause();
    drop(door.connect());
    door.resume();
    eventually("service for the next one", || {
        let mut client = door.connect();
        let (bytes, _notification) = client.recv_greeting();
        !bytes.is_empty() && client.read_text() == "data\n"
    });
    door.wait_slots(0);
}
