//! A part of 0, 1 and 2 is no terminal: pipes stay pipes, and the keyboard is the program's when it asks for it.

use std::io::{Read, Write};
use std::process::Stdio;

use super::super::{call, called};
use super::{at_a_terminal, script, words};
use crate::support::{Door, Screen, Session, User, eventually, raw};

const WHAT: &str =
    "for n in 0 1 2; do test -t $n && echo \"$n terminal\" >&2 || echo \"$n none\" >&2; done";

/// A line of shell in a terminal, with the call as `$C`.
#[track_caller]
fn in_a_shell(server: &crate::support::Served, line: &str) -> Session {
    let words = words(&server.socket(), &[]);
    let call: Vec<String> = words
        .iter()
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let screen = Screen::new().user(&User::unique());
    screen.start(["sh", "-c", &line.replace("$C", &call.join(" "))])
}

#[test]
fn pipes_stay_pipes() {
    need!(root, "setpriv");
    let text = format!("{WHAT}; cat; echo done");
    let server = script(Door::new(), &text);
    let mut session = in_a_shell(&server, "printf 'a\\r\\nb' | $C");
    assert!(session.wait_exit().success());
    // A terminal's output is processed once, and a pipe's input not at all.
    let shown = session.shown();
    assert_eq!(
        shown,
        "0 none\r\n1 terminal\r\n2 terminal\r\na\r\r\nbdone\r\n"
    );
    let server = script(Door::new(), &format!("{WHAT}; echo \"$0\""));
    let mut session = in_a_shell(&server, "$C | tr a-z A-Z");
    assert!(session.wait_exit().success());
    let shown = session.shown();
    assert!(
        shown.contains("0 terminal\r\n1 none\r\n2 terminal\r\n"),
        "{shown:?}"
    );
    assert!(shown.contains("SH\r\n"), "{shown:?}");
    let mut session = in_a_shell(&server, "$C 2>/dev/null </dev/null");
    assert!(session.wait_exit().success());
    assert_eq!(session.shown(), "sh\r\n");
}

#[test]
fn standard_error_alone_is_a_terminal() {
    need!(root, "setpriv");
    let server = script(Door::new(), &format!("{WHAT}; tr a-z A-Z; exit 4"));
    let (mut there, stdin) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut back, stdout) = std::io::pipe().unwrap();
    let screen = Screen::new().user(&User::unique());
    let screen = screen
        .standard(0, Stdio::from(std::os::fd::OwnedFd::from(stdin)))
        .standard(1, stdout);
    let mut session = screen.start(words(&server.socket(), &[]));
    there.write_all(b"through").unwrap();
    drop(there);
    let mut said = String::new();
    back.read_to_string(&mut said).unwrap();
    assert_eq!(said, "THROUGH");
    session.wait_for("0 none\r\n1 none\r\n2 terminal\r\n");
    assert_eq!(session.wait_exit().code(), Some(4));
}

#[test]
fn the_rest_of_a_pipeline_keeps_the_keyboard_until_the_program_wants_it() {
    need!(root, "setpriv");
    let server = script(Door::new(), "echo from the program");
    let pager = "sh -c 'cat; read -r line </dev/tty; echo \"pager has $line\"'";
    let mut session = in_a_shell(&server, &format!("$C | {pager}"));
    session.wait_for("from the program");
    assert!(!session.is_raw());
    session.type_in("mine\r");
    session.wait_for("pager has mine");
    session.wait_exit();
    // Asked for at a prompt, as ssh and sudo do, and with the echo turned off.
    let text = "stty -echo </dev/tty; printf 'Password: ' >/dev/tty; read -r word </dev/tty; stty echo </dev/tty; echo \"${#word} and $(cat)\"";
    let server = script(Door::new(), text);
    let mut session = in_a_shell(&server, "echo piped | $C | cat -A");
    session.wait_for("Password: ");
    eventually("the keyboard", || session.is_raw());
    session.type_in("secret\r");
    session.wait_for("6 and piped$");
    assert!(session.wait_exit().success());
    assert!(!session.is_raw());
    assert!(!session.shown().contains("secret"));
}

#[test]
fn a_program_in_a_pipeline_reads_its_terminal() {
    need!(root, "setpriv");
    let server = script(Door::new(), "cat; echo end");
    let mut session = in_a_shell(&server, "$C | cat -A");
    eventually("the keyboard", || session.is_raw());
    session.type_in("a line\r");
    session.wait_for("a line$");
    session.type_in("\x04");
    session.wait_for("end$");
    assert!(session.wait_exit().success());
}

#[test]
fn lines_end_once_before_and_after_the_program_has_the_keyboard() {
    need!(root, "setpriv");
    let text = "echo before; read -r word </dev/tty; echo \"got $word\"; cat";
    let server = script(Door::new(), text);
    let mut session = in_a_shell(&server, "echo piped | $C");
    session.wait_for("before\r\n");
    eventually("the keyboard", || session.is_raw());
    session.type_in("word\r");
    session.wait_for("got word\r\npiped\r\n");
    assert!(session.wait_exit().success());
    assert!(!session.shown().contains("\r\r"));
}

#[test]
fn keys_of_a_pipeline_that_nobody_reads_are_signals_to_all_of_it() {
    need!(root, "setpriv");
    let server = script(Door::new(), "echo begun; exec sleep 600");
    let mut session = in_a_shell(&server, "$C | cat");
    session.wait_for("begun");
    session.type_in("\x03");
    session.wait_exit();
    server.wait_slots(0);
}

#[test]
fn without_a_terminal_there_is_none_to_stand_in_for() {
    need!(root, "setpriv", "setsid");
    let server = script(Door::new(), "echo ran");
    // No controlling terminal at all.
    let call = call(&server.socket(), &["--pty"]).wrap(["setsid", "-w"]);
    called(call, [""; 0]).assert(100, "--pty needs a terminal");
    // One, but none of 0, 1 and 2.
    let mut session = in_a_shell(&server, "$C </dev/null 2>&1 | cat");
    session.wait_exit();
    // Standard error went into the pipe too, so the refusal came through it.
    assert!(
        session
            .shown()
            .contains("--pty needs a terminal as descriptor")
    );
    // A terminal of somebody else's.
    let (_shows, other) = raw::terminal();
    let screen = Screen::new().user(&User::unique()).standard(1, other);
    let mut session = screen.start(words(&server.socket(), &[]));
    assert_eq!(session.wait_exit().code(), Some(100));
    assert!(session.shown().contains("descriptor 1 is another terminal"));
    // What is not to be sent counts for nothing.
    let mut words = words(&server.socket(), &[]);
    words.splice(2..2, ["--no-stdout".into(), "--no-stderr".into()]);
    let null = std::fs::File::open("/dev/null").unwrap();
    let screen = Screen::new().user(&User::unique()).standard(0, null);
    assert_eq!(screen.start(words).wait_exit().code(), Some(100));
    for (with, words) in [
        ("--s6", "--s6 and --pty"),
        ("--detach", "--pty and --detach"),
    ] {
        let call = super::super::call(&server.socket(), &["--pty", with]);
        called(call, [""; 0]).assert(100, words);
    }
    let mut session = at_a_terminal(&server, &[]);
    session.wait_for("ran");
}
