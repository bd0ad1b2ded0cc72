//! Callers and servers that do not keep to the protocol where a terminal is part of it.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::super::request::{BANNER, MALFORMED, TOO_LATE, answer, caller, request, send};
use super::words;
use crate::support::{Client, Door, Scratch, Screen, Served, Session, User, eventually, raw};

const TERMINAL: &[u8] = b"TERMINAL=stdin:stdout:stderr";
const NONE: &[u8] = b"DESCRIPTORS=";
const PREPARED: &[u8] = b"P\0\0\0\0";

fn marking(options: &[&str]) -> Served {
    let door = Door::new();
    let mark = door.path("ran");
    let text = format!("touch {}; echo running; exec sleep 60", mark.display());
    let options: Vec<&str> = options.iter().copied().chain(["--allow-pty"]).collect();
    super::super::script(door, &options, &text)
}

#[track_caller]
fn assert_nothing_ran(server: &Served) {
    server.wait_slots(0);
    assert!(!server.path("ran").exists(), "the program ran");
}

/// A caller by hand that has been given a terminal.
#[track_caller]
fn offered(server: &Served, settings: &[&[u8]]) -> (Client, OwnedFd) {
    let mut caller = caller(server);
    send(&mut caller, &request(settings, &[], &[]), 0);
    let (bytes, mut descriptors) = caller.recv_greeting();
    assert_eq!((&bytes[..], descriptors.len()), (&b"P\0\0\0\0"[..], 1));
    (caller, descriptors.remove(0))
}

#[test]
fn a_terminal_by_hand_is_given_before_the_program_starts() {
    let server = marking(&[]);
    let (mut caller, terminal) = offered(&server, &[NONE, TERMINAL]);
    assert!(!server.path("ran").exists());
    caller.send(PREPARED);
    assert_eq!(answer(&mut caller), ('S', 0));
    let mut shown = [0; 64];
    let length = nix::unistd::read(&terminal, &mut shown).unwrap();
    assert_eq!(&shown[..length], b"running\r\n");
    // It alone holds this end: closed, it hangs up.
    drop(terminal);
    assert_eq!(answer(&mut caller), ('K', 1));
}

#[test]
fn a_caller_that_does_not_prepare_its_terminal_has_nothing_run() {
    let server = marking(&["--message-timeout", "0.3"]);
    let (mut silent, _terminal) = offered(&server, &[NONE, TERMINAL]);
    assert_eq!(answer(&mut silent), ('N', TOO_LATE));
    let server = marking(&[]);
    let (mut other, _terminal) = offered(&server, &[NONE, TERMINAL]);
    other.send(b"S\0\0\0\0");
    assert_eq!(answer(&mut other), ('N', MALFORMED));
    let (gone, _terminal) = offered(&server, &[NONE, TERMINAL]);
    drop(gone);
    let (mut eager, _terminal) = offered(&server, &[NONE, TERMINAL]);
    eager.send(&b"G\0\0\0\x1c".repeat(100));
    assert_eq!(answer(&mut eager), ('N', MALFORMED));
    assert_nothing_ran(&server);
}

#[test]
fn no_caller_can_take_the_program_s_terminal_for_its_own() {
    let server = marking(&[]);
    let (mut caller, terminal) = offered(&server, &[NONE, TERMINAL]);
    // Its inner end can be had from the outer one, and is another session's already.
    let inside = raw::inside(&terminal);
    let mut session = Screen::new().uncontrolled();
    for number in 0..3 {
        session = session.standard(number, inside.try_clone().unwrap());
    }
    let taking = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)";
    // As nobody: root may steal one by asking so.
    let mut taker = session
        .user(&User::unique())
        .start(["python3", "-c", taking]);
    assert_eq!(taker.wait_exit().code(), Some(1));
    caller.send(PREPARED);
    assert_eq!(answer(&mut caller), ('S', 0));
}

#[test]
fn signals_before_the_program_reach_it_and_a_second_word_of_readiness_ends_it() {
    let server = marking(&[]);
    let (mut caller, _terminal) = offered(&server, &[NONE, TERMINAL]);
    caller.send(b"G\0\0\0\x0f");
    caller.send(PREPARED);
    assert_eq!(answer(&mut caller), ('S', 0));
    assert_eq!(answer(&mut caller), ('K', 15));
    let (mut caller, _terminal) = offered(&server, &[NONE, TERMINAL]);
    caller.send(PREPARED);
    assert_eq!(answer(&mut caller), ('S', 0));
    caller.send(PREPARED);
    assert_eq!(answer(&mut caller), ('K', 15));
    server.wait_slots(0);
}

#[test]
fn a_request_for_a_terminal_is_for_what_it_can_stand_in_for() {
    let server = marking(&["--allow-detach", "--allow-cwd"]);
    for settings in [
        &[NONE, b"TERMINAL="][..],
        &[NONE, b"TERMINAL=directory"],
        &[NONE, b"TERMINAL=stdout:stdin"],
        &[NONE, b"DETACH=1", TERMINAL],
        &[NONE, TERMINAL, b"DETACH=1"],
        &[b"DESCRIPTORS=stdout", TERMINAL],
    ] {
        let mut caller = caller(&server);
        let descriptors = usize::from(settings[0] != NONE);
        send(&mut caller, &request(settings, &[], &[]), descriptors);
        assert_eq!(answer(&mut caller), ('N', MALFORMED), "{settings:?}");
    }
    assert_nothing_ran(&server);
}

#[test]
fn who_does_not_allow_a_terminal_gives_none() {
    need!(root, "setpriv");
    let door = Door::new();
    let mark = door.path("ran");
    let server = super::super::script(door, &[], &format!("touch {}", mark.display()));
    let mut session = super::at_a_terminal(&server, &[]);
    assert_eq!(session.wait_exit().code(), Some(1));
    assert!(session.shown().contains("it does not allow --pty"));
    assert!(!session.is_raw());
    assert_nothing_ran(&server);
}

/// A call in a terminal, whose server is this test.
#[track_caller]
fn called_by_hand(scratch: &Scratch) -> (Session, UnixStream) {
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    let session = Screen::new().start(words(&scratch.path("s"), &[]));
    let (connection, _) = listening.accept().unwrap();
    std::io::Write::write_all(&mut &connection, BANNER).unwrap();
    (session, connection)
}

fn say(connection: &UnixStream, words: &[u8], descriptors: &[&OwnedFd]) {
    let numbers: Vec<i32> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() {
        &[]
    } else {
        &control[..]
    };
    let part = [std::io::IoSlice::new(words)];
    sendmsg::<()>(
        connection.as_raw_fd(),
        &part,
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .unwrap();
}

#[test]
fn a_server_that_gives_no_terminal_or_what_is_none_gets_no_further() {
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    let (shows, _inside) = raw::terminal();
    let (shows, null) = (&shows, &null);
    let cases: [(&[u8], &[&OwnedFd]); 8] = [
        // Started without one.
        (b"S\0\0\0\0", &[]),
        (b"P\0\0\0\0", &[]),
        (b"P\0\0\0\0", &[null]),
        (b"P\0\0\0\0", &[shows, null]),
        (b"P\0\0\0\0", &[null, shows]),
        (b"P\0\0\0\0P\0\0\0\0", &[shows]),
        (b"P\0\0\0\0I\0\0\0\0", &[shows]),
        (b"N\0\0\0\x08", &[]),
    ];
    for (words, descriptors) in cases {
        let scratch = Scratch::new();
        let (mut session, connection) = called_by_hand(&scratch);
        say(&connection, words, descriptors);
        assert_eq!(session.wait_exit().code(), Some(111), "{words:?}");
        assert!(session.shown().contains("doorward: fatal: "), "{words:?}");
        assert!(!session.is_raw(), "{words:?}");
        drop(connection);
    }
    // Not asked for.
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    let mut bare = words(&scratch.path("s"), &[]);
    bare.retain(|word| word != "--pty");
    let mut session = Screen::new().start(bare);
    let (connection, _) = listening.accept().unwrap();
    std::io::Write::write_all(&mut &connection, BANNER).unwrap();
    say(&connection, b"P\0\0\0\0", &[shows]);
    assert_eq!(session.wait_exit().code(), Some(111));
}

#[test]
fn a_server_that_hangs_up_in_the_middle_leaves_the_terminal_as_it_was() {
    let scratch = Scratch::new();
    let (mut session, connection) = called_by_hand(&scratch);
    let (outside, inside) = raw::terminal();
    say(&connection, b"P\0\0\0\0", &[&outside]);
    say(&connection, b"S\0\0\0\0", &[]);
    eventually("the raw terminal", || session.is_raw());
    // The program's terminal ends, and nothing is told for a while.
    drop((outside, inside));
    session.type_in("typed into nothing");
    assert!(session.running());
    drop(connection);
    assert_eq!(session.wait_exit().code(), Some(111));
    assert!(!session.is_raw());
}
