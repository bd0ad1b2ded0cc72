//! The tests play the service's part.
#![forbid(unsafe_code)]

use super::*;
use crate::sys;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;

const SOON: Duration = Duration::from_secs(20);

fn take(connection: &UnixStream) -> Result<UnixStream, Error> {
    welcome::take(connection.as_fd(), Some(Instant::now() + SOON))
}

fn greeted(text: &[u8], descriptors: &[std::os::fd::BorrowedFd<'_>]) -> Result<UnixStream, Error> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    sys::scm::send(theirs.as_fd(), text, descriptors).unwrap();
    theirs.shutdown(Shutdown::Both).unwrap();
    take(&ours)
}

#[test]
fn the_greeting_gives_the_second_socket_and_leaves_what_is_behind_it() {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let (end, mut service_end) = UnixStream::pair().unwrap();
    sys::scm::send(theirs.as_fd(), b"doorward 1\nhello", &[end.as_fd()]).unwrap();
    drop(end);
    let mut notification = take(&ours).unwrap();
    service_end.write_all(b"event").unwrap();
    drop(service_end);
    let mut event = String::new();
    notification.read_to_string(&mut event).unwrap();
    assert_eq!(event, "event");
    theirs.write_all(b" there").unwrap();
    drop(theirs);
    let mut rest = String::new();
    ours.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "hello there");
}

#[test]
fn a_greeting_may_come_in_pieces() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (end, _service_end) = UnixStream::pair().unwrap();
    let taking = std::thread::spawn(move || take(&ours));
    for (index, byte) in b"doorward 1\n".chunks(1).enumerate() {
        let with = [end.as_fd()];
        let with = if index == 4 { &with[..] } else { &[] };
        sys::scm::send(theirs.as_fd(), byte, with).unwrap();
    }
    assert!(taking.join().unwrap().is_ok());
}

#[test]
fn exactly_one_unix_stream_socket_must_come_with_it() {
    let (end, other) = UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let text = b"doorward 1\n";
    for descriptors in [&[][..], &[end.as_fd(), other.as_fd()], &[null.as_fd()]] {
        let result = greeted(text, descriptors);
        assert!(matches!(result, Err(Error::Malformed(_))), "{result:?}");
    }
}

#[test]
fn a_refusal_is_told_in_the_service_s_words_limited_and_without_control_characters() {
    let refused = |text: &[u8]| match greeted(text, &[]) {
        Err(Error::Refused(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b"too many connections\n"), "too many connections");
    assert_eq!(refused(b"doorward 2\n"), "doorward 2");
    assert_eq!(refused(b"doorw"), "doorw");
    assert_eq!(
        refused(b"a\x1b[2Jb\nc\0\xff\n"),
        "a\\u{1b}[2Jb\\nc\\u{0}\u{fffd}"
    );
    assert_eq!(refused(&[b'x'; 5000]).len(), 1024);
}

#[test]
fn a_service_that_closes_without_a_word_is_closed_and_one_that_says_nothing_times_out() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let result = welcome::take(
        ours.as_fd(),
        Some(Instant::now() + Duration::from_millis(30)),
    );
    assert!(matches!(result, Err(Error::TimedOut)), "{result:?}");
    drop(theirs);
    let result = take(&ours);
    assert!(matches!(result, Err(Error::Closed)), "{result:?}");
}

#[test]
fn a_command_that_is_not_there_is_said_to_be_so() {
    for command in [&["/nowhere/at/all"][..], &["/etc"], &[""], &[]] {
        let result = Service::spawn(command);
        assert!(matches!(result, Err(Error::NoProgram(_))), "{result:?}");
    }
}

#[test]
fn a_service_that_was_started_talks_notifies_and_ends() {
    let script =
        "read -r word <&6; echo \"got $word\" >&7; echo event >&8; cat <&6 >/dev/null; exit 7";
    let mut service = Service::spawn(["sh", "-c", script]).unwrap();
    writeln!(service.connection, "hello").unwrap();
    let mut answer = [0; 10];
    service.connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"got hello\n");
    let mut event = [0; 6];
    service.notification.read_exact(&mut event).unwrap();
    assert_eq!(&event, b"event\n");
    assert!(service.pid().is_some());
    assert_eq!(service.end().unwrap().unwrap().code(), Some(7));
}

#[test]
fn a_service_that_does_not_mind_the_end_of_file_gets_a_signal() {
    use std::os::unix::process::ExitStatusExt as _;
    let service = Service::spawn(["sleep", "1000"]).unwrap();
    let status = service.end().unwrap().unwrap();
    assert_eq!(status.signal(), Some(nix::libc::SIGTERM));
}

#[test]
fn a_dropped_service_leaves_no_process() {
    let service = Service::spawn(["sh", "-c", "exec cat <&6"]).unwrap();
    let proc = format!("/proc/{}", service.pid().unwrap());
    assert!(Path::new(&proc).exists());
    drop(service);
    assert!(!Path::new(&proc).exists());
}

#[test]
fn a_service_that_is_started_has_nothing_of_ours_but_its_sockets() {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    // One that would pass through an exec, and SIGPIPE ignored, as Rust's runtime has it.
    let (stray, _other) = UnixStream::pair().unwrap();
    fcntl(&stray, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done";
    // `self` is grep in the one place and the shell, which opens the directory for a moment, in the other.
    let mut service = Service::spawn(["sh", "-c", &format!("{{ {script}; }} >&7")]).unwrap();
    let mut text = String::new();
    service.connection.read_to_string(&mut text).unwrap();
    let (signals, numbers): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("Sig"));
    assert_eq!(signals.len(), 2, "{text}");
    assert!(
        signals
            .iter()
            .all(|line| line.ends_with("\t0000000000000000")),
        "{text}"
    );
    for number in numbers {
        // The shell keeps its own 1 at a number from 10 up while it is redirected.
        assert!(
            ["0", "1", "2", "6", "7", "8", "10"].contains(&number),
            "{text}"
        );
    }
    drop(stray);
}
