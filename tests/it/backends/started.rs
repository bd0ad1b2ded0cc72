//! Backends that doorward starts.

use super::{ALL, Guest, converse};
use crate::support::{Client, User, eventually};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::AsFd;

fn user(uid: u32) -> User {
    User::new(uid, uid).groups([7, uid])
}

#[test]
fn each_language_answers_and_notifies_on_the_second_socket() {
    need!(root, "python3", "gcc", "go");
    for language in ALL {
        let (door, program) = language.door();
        let mut door = door.args(["--ready", "backend"]).serve(program);
        converse(|uid| door.connect_as(&user(uid)));
        assert!(door.stop().success(), "{language:?}");
        let end = door.wait_log("backend exit");
        assert!(end.contains("status=0"), "{language:?}: {end}");
    }
}

#[test]
fn client_is_greeted_once_whoever_sends_the_greeting_and_served_without_a_notification_socket() {
    need!(root, "python3", "gcc", "go");
    for language in ALL {
        let (door, program) = language.door();
        let door = door.args(["--notify-to", "client"]).serve(program);
        converse(|uid| door.connect_as(&user(uid)));

        let (door, program) = language.door();
        let door = door.args(["--notify-to", "none", "--pidfd"]).serve(program);
        let mut client = door.connect();
        client.send(b"watch lamp\nget lamp\n");
        assert_eq!(client.read_line(), "error no notification socket");
        assert_eq!(client.read_line(), "none");
    }
}

#[test]
fn slot_is_free_when_the_client_has_left_and_not_before() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let (door, program) = language.door();
        let door = door
            .args(["--max", "1", "--max-per-user", "2"])
            .serve(program);
        let mut first = Guest::greeted(door.connect());
        assert_eq!(first.ask("get lamp"), "none");
        let second = door.connect();
        door.wait_log("full");
        second.assert_open();
        assert_eq!(first.ask("quit"), "ok");
        let mut second = Guest::greeted(second);
        // The other way to leave.
        assert_eq!(second.ask("get lamp"), "none");
        drop(second);
        Guest::greeted(door.connect());
    }
}

#[test]
fn client_that_leaves_its_greeting_unread_keeps_its_slot_until_it_has_read_it() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let (door, program) = language.door();
        let door = door.args(["--max-per-user", "1"]).serve(program);
        let mut unread = door.connect();
        unread.send(b"quit\n");
        wait_end(&unread);
        door.connect().assert_closed();
        door.wait_log("reason=max-per-user");
        let mut guest = Guest::greeted(unread);
        assert_eq!(guest.client.read_text(), "ok\n");
        eventually("a free slot", || {
            // Nothing comes to who is refused.
            !door.connect().recv_greeting().0.is_empty()
        });
    }
}

/// Waits until the server will send no more, without reading.
fn wait_end(client: &Client) {
    let end = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
    let mut watched = [PollFd::new(client.as_fd(), end)];
    assert_eq!(poll(&mut watched, PollTimeout::from(20_000u16)), Ok(1));
}

#[test]
fn killed_backend_comes_back_and_serves_who_waited() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let (door, program) = language.door();
        let door = door.serve(program);
        let mut served = Guest::greeted(door.connect());
        let backend = door.wait_children(1)[0];
        kill(Pid::from_raw(backend), Signal::SIGSTOP).unwrap();
        let waiting = door.connect();
        kill(Pid::from_raw(backend), Signal::SIGKILL).unwrap();
        let mut waiting = Guest::greeted(waiting);
        assert_eq!(waiting.ask("get lamp"), "none");
        let cut = served.client.try_read_to_end();
        assert!(
            cut.is_ok_and(|text| text.is_empty()),
            "the end, and no hang"
        );
    }
}
