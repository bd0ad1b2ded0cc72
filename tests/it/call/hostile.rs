//! Callers that break the protocol. Whatever they do, nothing runs that was not asked for whole, and nothing of theirs stays.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use super::request::{
    BANNER, DESCRIPTORS, DETACH, MALFORMED, THREE, TOO_LARGE, TOO_LATE, answer as answer_of,
    caller, request, send, signal,
};
use super::script;
use crate::support::{Door, Served, eventually, inspect};

/// A server whose program leaves a mark that it ran, then goes on.
fn marking(options: &[&str]) -> Served {
    let door = Door::new();
    let mark = door.path("ran");
    let text = format!("touch {}; exec sleep 60", mark.display());
    script(door, options, &text)
}

#[track_caller]
fn assert_nothing_ran(server: &Served) {
    server.wait_slots(0);
    assert!(!server.path("ran").exists(), "the program ran");
}

#[test]
fn a_request_by_hand_is_served() {
    let server = script(Door::new(), &[], "exit 9");
    let mut caller = caller(&server);
    send(&mut caller, &request(&[THREE], &[b"x"], &[]), 3);
    assert_eq!(answer_of(&mut caller), ('S', 0));
    assert_eq!(answer_of(&mut caller), ('E', 9));
    caller.assert_closed();
}

#[test]
fn a_request_that_comes_byte_by_byte_is_served_and_one_that_is_cut_short_is_not() {
    let server = script(Door::new(), &[], "exit \"$1\"");
    let message = request(&[THREE], &[b"4"], &[b"A=b"]);
    let mut slow = caller(&server);
    let (first, rest) = message.split_at(1);
    send(&mut slow, first, 3);
    for byte in rest {
        slow.send(&[*byte]);
    }
    assert_eq!(
        (answer_of(&mut slow), answer_of(&mut slow)),
        (('S', 0), ('E', 4))
    );
    let server = marking(&[]);
    for length in [0, 1, 15, 16, 39, 40, message.len() - 1] {
        let mut cut = caller(&server);
        if length > 0 {
            send(&mut cut, &message[..length], 3);
        }
        cut.shutdown_write();
        cut.assert_closed();
    }
    assert_nothing_ran(&server);
}

#[test]
fn what_is_no_request_is_refused() {
    let server = marking(&[]);
    let good = request(&[THREE], &[b"x"], &[b"A=b"]);
    let with_number = |at: usize, number: u32| {
        let mut message = good.clone();
        let at = BANNER.len() + 4 * at;
        message[at..at + 4].copy_from_slice(&number.to_be_bytes());
        message
    };
    let wrong = [
        (
            b"doorward-call 2\n0123456789012345678901234567890".to_vec(),
            MALFORMED,
        ),
        (vec![b'x'; 64], MALFORMED),
        (with_number(2, 2), MALFORMED),
        (with_number(5, 3), MALFORMED),
        (with_number(2, 70_000), TOO_LARGE),
        (with_number(3, 5_000_000), TOO_LARGE),
        (with_number(5, u32::MAX), TOO_LARGE),
        (request(&[THREE, b"PTY=1"], &[], &[]), MALFORMED),
        (request(&[], &[], &[]), MALFORMED),
        (request(&[THREE], &[], &[b"=x"]), MALFORMED),
        (request(&[THREE], &[], &[b"NAMELESS"]), MALFORMED),
        (request(&[THREE, b"DETACH=1"], &[], &[]), DETACH),
    ];
    for (message, why) in wrong {
        let mut caller = caller(&server);
        send(&mut caller, &message, 3);
        assert_eq!(
            answer_of(&mut caller),
            ('N', why),
            "{:?}",
            String::from_utf8_lossy(&message)
        );
        server.wait_log("reason=request cause=");
    }
    assert_nothing_ran(&server);
}

#[test]
fn a_caller_that_has_sent_too_much_still_reads_why() {
    let server = marking(&[]);
    let mut caller = caller(&server);
    let mut message = request(&[THREE], &[], &[]);
    message[BANNER.len() + 12..BANNER.len() + 16].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
    message.extend(vec![b'x'; 150_000]);
    send(&mut caller, &message, 3);
    assert_eq!(answer_of(&mut caller), ('N', TOO_LARGE));
    // And no reset after it.
    caller.assert_closed();
    assert_nothing_ran(&server);
}

#[test]
fn a_signal_right_behind_the_request_is_the_program_s() {
    let server = marking(&[]);
    let mut caller = caller(&server);
    let message = [request(&[THREE], &[], &[]), signal(10)].concat();
    send(&mut caller, &message, 3);
    assert_eq!(answer_of(&mut caller), ('S', 0));
    assert_eq!(answer_of(&mut caller), ('K', 10));
}

#[test]
fn descriptors_must_be_those_that_are_announced() {
    let server = marking(&[]);
    for (settings, count) in [
        (THREE, 1),
        (THREE, 2),
        (THREE, 4),
        (THREE, 5),
        (THREE, 200),
        (b"DESCRIPTORS=", 1),
        (b"DESCRIPTORS=stdin:stderr", 3),
    ] {
        let mut caller = caller(&server);
        send(&mut caller, &request(&[settings], &[], &[]), count);
        assert_eq!(answer_of(&mut caller), ('N', DESCRIPTORS), "{count}");
    }
    let mut none = caller(&server);
    none.send(&request(&[THREE], &[], &[]));
    assert_eq!(answer_of(&mut none), ('N', DESCRIPTORS));
    assert_nothing_ran(&server);
}

#[test]
fn a_file_that_the_caller_may_not_read_is_not_opened_anew_by_way_of_its_descriptor() {
    let server = marking(&["--allow-cwd"]);
    // O_PATH takes no right to the file, and /dev/stdin of a program with more rights would open it.
    let held = File::options()
        .read(true)
        .custom_flags(nix::libc::O_PATH)
        .open("/etc/passwd")
        .unwrap();
    let null = File::open("/dev/null").unwrap();
    let mut sly = caller(&server);
    let descriptors = [held.as_fd(), null.as_fd(), null.as_fd()];
    sly.send_fds(&request(&[THREE], &[], &[]), &descriptors);
    assert_eq!(answer_of(&mut sly), ('N', DESCRIPTORS));
    // And a directory to run in is a directory.
    let mut caller = caller(&server);
    caller.send_fds(
        &request(&[b"DESCRIPTORS=directory"], &[], &[]),
        &[held.as_fd()],
    );
    assert_eq!(answer_of(&mut caller), ('N', DESCRIPTORS));
    assert_nothing_ran(&server);
}

#[test]
fn a_caller_that_stops_in_the_middle_is_not_waited_for() {
    let server = marking(&["--message-timeout", "0.3"]);
    for length in [0, 20, 50] {
        let mut caller = caller(&server);
        if length > 0 {
            send(&mut caller, &request(&[THREE], &[], &[])[..length], 3);
        }
        assert_eq!(answer_of(&mut caller), ('N', TOO_LATE));
    }
    assert_nothing_ran(&server);
}

#[test]
fn bytes_that_trickle_in_do_not_move_the_deadline() {
    let server = marking(&["--message-timeout", "0.5"]);
    let mut caller = caller(&server);
    let message = request(&[THREE], &[&[b'x'; 100_000]], &[]);
    send(&mut caller, &message[..100], 3);
    // It never stops to send, and never comes to the end.
    let mut at = 100;
    eventually("the deadline", || {
        at += 1;
        assert!(at < message.len());
        let _ = caller.try_send(&message[at..at + 1]);
        caller.is_readable()
    });
    assert_eq!(answer_of(&mut caller), ('N', TOO_LATE));
    assert_nothing_ran(&server);
}

/// A caller of a program that goes on.
fn started(server: &Served) -> crate::support::Client {
    let mut caller = caller(server);
    send(&mut caller, &request(&[THREE], &[], &[]), 3);
    assert_eq!(answer_of(&mut caller), ('S', 0));
    caller
}

#[test]
fn words_that_no_caller_says_end_the_program_a_replayed_request_among_them() {
    let replay = request(&[THREE], &[], &[]);
    for words in [
        replay,
        signal(9),
        signal(19),
        signal(0),
        b"X\0\0\0\x0f".to_vec(),
    ] {
        let server = marking(&[]);
        let mut caller = started(&server);
        eventually("the program to run", || server.path("ran").exists());
        let _ = caller.try_send(&words);
        // SIGTERM, as for every program without a caller.
        assert_eq!(answer_of(&mut caller), ('K', 15), "{words:?}");
        server.wait_log("reason=request cause=words");
        server.wait_slots(0);
    }
    let server = marking(&[]);
    let mut caller = started(&server);
    send(&mut caller, &signal(10), 1);
    assert_eq!(answer_of(&mut caller), ('K', 15), "a descriptor");
}

#[test]
fn a_caller_that_never_reads_costs_no_more_than_its_slot() {
    // Each pair of signals brings a message about a stop; nobody reads them.
    let server = marking(&[]);
    let mut caller = started(&server);
    for _ in 0..3_000 {
        caller.send(&signal(20));
        caller.send(&signal(18));
    }
    let answering = server.children()[0];
    drop(caller);
    eventually("its end", || !inspect::alive(answering));
    server.wait_slots(0);
}
