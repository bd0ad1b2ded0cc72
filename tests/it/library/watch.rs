//! The example `watch`: clients of several users, events on the second socket, and clients that do not read.

use super::example;
use crate::support::client::with_address;
use crate::support::{Dial, Door, Scratch, Served, User, probe, raw};
use doorward::client::Service;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, bind, listen, socket};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

fn served() -> Served {
    Door::new()
        .command("handoff")
        .args(["--mode", "0666"])
        .serve([example("watch")])
}

/// One command and its answer.
fn ask(service: &mut Service, command: &str) -> String {
    writeln!(service.connection, "{command}").expect("send");
    line(&service.connection)
}

/// One line, byte by byte, so that nothing behind it is taken.
fn line(mut socket: impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while socket.read(&mut byte).expect("read") > 0 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("UTF-8")
}

fn talk_and_hear(socket: &Path) {
    let me = User::me().uid;
    let mut watcher = Service::connect(socket).expect("connect");
    let mut other = Service::connect(socket).expect("connect");
    assert_eq!(ask(&mut watcher, "who"), format!("ok {me}"));
    assert_eq!(ask(&mut watcher, "watch lamp"), "ok");
    assert_eq!(ask(&mut other, "set sink full"), "ok");
    assert_eq!(ask(&mut other, "set lamp on and on"), "ok");
    assert_eq!(
        line(&watcher.notification),
        format!("changed lamp {me} on and on")
    );
    assert_eq!(ask(&mut watcher, "get lamp"), "ok on and on");
    assert_eq!(ask(&mut other, "del lamp"), "ok");
    assert_eq!(line(&watcher.notification), format!("removed lamp {me}"));
    assert_eq!(ask(&mut watcher, "get lamp"), "none");
}

#[test]
fn a_client_talks_on_one_socket_and_hears_on_the_other() {
    let door = served();
    talk_and_hear(&door.socket());
}

#[test]
fn the_same_backend_listens_and_doorward_comes_to_it() {
    let scratch = Scratch::new();
    let path = scratch.path("watch.backend");
    let flags = SockFlag::SOCK_CLOEXEC;
    let listening = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    with_address(&path, |address| bind(listening.as_raw_fd(), address)).unwrap();
    listen(&listening, Backlog::new(8).unwrap()).unwrap();
    let mut command = Command::new(probe());
    command
        .arg("listen-pid")
        .arg(example("watch"))
        .env("LISTEN_FDS", "1");
    raw::place_descriptors(&mut command, vec![(3, listening)]);
    let mut backend = command.spawn().expect("the backend");
    for _ in 0..2 {
        // The backend outlives one doorward, and serves the next.
        let door = Door::new()
            .command("handoff")
            .args(["--backend".as_ref(), path.as_os_str()])
            .serve::<&str>([]);
        talk_and_hear(&door.socket());
        let mut keeper = Service::connect(door.socket()).expect("connect");
        ask(&mut keeper, "del sink");
    }
    backend.kill().expect("kill");
    backend.wait().expect("wait");
}

#[test]
fn a_key_belongs_to_who_has_set_it() {
    need!(root);
    let door = served();
    let mut stranger = Dial::to(door.socket()).user(&User::nobody()).connect();
    assert_eq!(stranger.recv_greeting().0, b"doorward 1\n");
    let mut root = Service::connect(door.socket()).expect("connect");
    assert_eq!(ask(&mut root, "set ours 1"), "ok");
    stranger.send(b"who\nset ours 2\ndel ours\nset theirs 1\n");
    for answer in ["ok 65534", "error not yours", "error not yours", "ok"] {
        assert_eq!(stranger.read_line(), answer);
    }
    assert_eq!(ask(&mut root, "get ours"), "ok 1");
    assert_eq!(ask(&mut root, "set theirs 2"), "ok");
}

#[test]
fn nonsense_is_answered_and_a_line_without_end_is_hung_up_on() {
    let door = served();
    let mut client = Service::connect(door.socket()).expect("connect");
    for nonsense in [
        "",
        "dance",
        "get",
        "get a b",
        "set a",
        "who else",
        "get \u{e9}",
        "set a \x1b[2J",
    ] {
        let answer = ask(&mut client, nonsense);
        assert!(answer.starts_with("error "), "{nonsense:?}: {answer}");
    }
    client.connection.write_all(&[0xff, b'\n']).expect("send");
    assert_eq!(line(&client.connection), "error not UTF-8");
    // It may hang up while we still send.
    let _ = client.connection.write_all(&[b'x'; 5000]);
    let mut rest = Vec::new();
    let _ = client.connection.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    let mut next = Service::connect(door.socket()).expect("connect");
    assert_eq!(ask(&mut next, "get a"), "none");
}

#[test]
fn a_client_that_does_not_read_its_events_loses_some_and_is_told_how_many() {
    const CHANGES: usize = 400;
    let door = served();
    let mut sleeper = Service::connect(door.socket()).expect("connect");
    assert_eq!(ask(&mut sleeper, "watch k"), "ok");
    let mut busy = Service::connect(door.socket()).expect("connect");
    let value = "v".repeat(3000);
    for _ in 0..CHANGES {
        assert_eq!(ask(&mut busy, &format!("set k {value}")), "ok");
    }
    let (mut heard, mut lost) = (0, 0);
    for event in BufReader::new(&sleeper.notification).lines() {
        match event.expect("an event").split_once(' ').expect("two words") {
            ("changed", _) => heard += 1,
            ("lost", count) => lost += count.parse::<usize>().expect("a number"),
            other => panic!("{other:?}"),
        }
        if heard + lost == CHANGES {
            break;
        }
    }
    assert!(heard > 0 && lost > 0, "heard {heard}, lost {lost}");
    // It still works, for the next change too.
    assert_eq!(ask(&mut busy, "set k new"), "ok");
    assert!(line(&sleeper.notification).ends_with(" new"));
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_asked_for_more() {
    let door = served();
    let mut mute = Service::connect(door.socket()).expect("connect");
    let mut other = Service::connect(door.socket()).expect("connect");
    let value = "v".repeat(3000);
    assert_eq!(ask(&mut other, &format!("set k {value}")), "ok");
    mute.connection.set_nonblocking(true).expect("non-blocking");
    let mut sent = 0;
    // Until the kernel takes no more from us: nobody reads at the other end either. A service without bounds would take all of it.
    while sent < 64 << 20 {
        match mute.connection.write(&b"get k\n".repeat(1000)) {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                // The service may just be reading: is it served once more after others were?
                assert_eq!(ask(&mut other, "get none"), "none");
                if mute.connection.write(b"g").is_err() {
                    break;
                }
            }
        }
    }
    assert!(sent < 64 << 20, "took {sent} bytes of commands unanswered");
    assert_eq!(ask(&mut other, "get none"), "none");
}
