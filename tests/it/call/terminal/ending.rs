//! The end, by whatever: exit codes and signals as without a terminal, and the caller's terminal as it was.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{answer, at_a_terminal, script, words};
use crate::support::{
    Door, Screen, Served, Session, User, eventually, eventually_some, inspect, probe,
};

/// A program that says its pid and does not end by itself.
const WAITING: &str = "echo \"pid $$.\"; exec sleep 600";

fn pid_of(session: &mut Session) -> i32 {
    session.wait_for("pid ");
    let pid = session.wait_for(".");
    pid.trim_end_matches('.').parse().unwrap()
}

/// A call whose terminal is raw, and the pid of its program.
#[track_caller]
fn begun(server: &Served) -> (Session, i32) {
    let mut session = at_a_terminal(server, &[]);
    let pid = pid_of(&mut session);
    eventually("the raw terminal", || session.is_raw());
    (session, pid)
}

#[test]
fn exit_codes_and_signals_are_the_program_s_and_the_terminal_is_as_it_was() {
    need!(root, "setpriv");
    let server = answer(Door::new(), [probe()]);
    for code in [0, 1, 100, 255] {
        let mut session = at_a_terminal(&server, &["exit", &code.to_string()]);
        assert_eq!(
            session.wait_exit().code(),
            Some(code),
            "{}",
            session.shown()
        );
        assert!(!session.is_raw());
    }
    for signal in [1, 9, 11, 34] {
        let mut session = at_a_terminal(&server, &["die", &signal.to_string()]);
        let status = session.wait_exit();
        assert_eq!(
            status.signal(),
            Some(signal),
            "{status}: {}",
            session.shown()
        );
        assert!(!session.is_raw());
    }
    let nowhere = answer(Door::new(), ["/nowhere"]);
    let mut session = at_a_terminal(&nowhere, &[]);
    assert_eq!(session.wait_exit().code(), Some(127));
    assert!(session.shown().contains("No such file"));
    assert!(!session.is_raw());
}

#[test]
fn a_signal_to_the_caller_ends_the_program_and_the_terminal_is_as_it_was() {
    need!(root, "setpriv");
    let server = script(Door::new(), WAITING);
    for signal in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGUSR1,
    ] {
        let (mut session, program) = begun(&server);
        session.signal(signal);
        assert_eq!(session.wait_exit().signal(), Some(signal as i32));
        assert!(!session.is_raw(), "{signal}");
        eventually("the program's end", || !inspect::alive(program));
    }
    // What is not passed on ends the caller, and the program with it.
    for signal in [Signal::SIGALRM, Signal::SIGXCPU] {
        let (mut session, program) = begun(&server);
        session.signal(signal);
        assert_eq!(session.wait_exit().signal(), Some(signal as i32));
        assert!(!session.is_raw(), "{signal}");
        eventually("the program's end", || !inspect::alive(program));
    }
    server.wait_slots(0);
}

#[test]
fn keys_are_the_program_s_signals() {
    need!(root, "setpriv");
    let server = script(Door::new(), WAITING);
    for (key, signal) in [("\x03", Signal::SIGINT), ("\x1c", Signal::SIGQUIT)] {
        let (mut session, _) = begun(&server);
        session.type_in(key);
        assert_eq!(session.wait_exit().signal(), Some(signal as i32));
        assert!(!session.is_raw());
    }
}

#[test]
fn a_server_that_is_killed_leaves_the_terminal_as_it_was() {
    need!(root, "setpriv");
    let server = script(Door::new(), WAITING);
    let (mut session, program) = begun(&server);
    let answering = server.wait_children(1)[0];
    kill(Pid::from_raw(answering), Signal::SIGKILL).unwrap();
    assert_eq!(session.wait_exit().code(), Some(111));
    assert!(!session.is_raw());
    assert!(session.shown().contains("doorward: fatal: unable to call"));
    // Its terminal has hung up, so the program has not stayed either.
    eventually("the program's end", || !inspect::alive(program));
}

#[test]
fn a_killed_caller_s_program_is_ended_by_the_hang_up() {
    need!(root, "setpriv");
    // Deaf to the hang-up, below the program, and in a session of its own.
    let text = "setsid sh -c 'trap \"\" HUP TERM; echo \"pid $$.\"; while :; do sleep 1; done' & trap 'exit 9' HUP; echo \"pid $$.\"; while :; do sleep 1 & wait $!; done";
    let server = script(Door::new(), text);
    let mut session = at_a_terminal(&server, &[]);
    let pids = [pid_of(&mut session), pid_of(&mut session)];
    eventually("the raw terminal", || session.is_raw());
    session.signal(Signal::SIGKILL);
    session.wait_exit();
    eventually("the end of all", || {
        !pids.iter().any(|&pid| inspect::alive(pid))
    });
    // Nobody was left to do it.
    assert!(session.is_raw());
    server.wait_slots(0);
}

#[test]
fn a_window_that_is_closed_ends_the_program() {
    need!(root, "setpriv");
    let text = "trap 'echo hung up >\"$1\"; exit 3' HUP; echo \"pid $$.\"; while :; do sleep 1 & wait $!; done";
    let door = Door::new();
    let file = door.path("file");
    let server = script(door, text);
    // The caller's session is led by it, so the kernel tells it; its terminal tells one that ignores it.
    for before in [
        "exec \"$@\"",
        "trap '' HUP; exec \"$@\"",
        "trap '' HUP; exec \"$@\" </dev/null",
    ] {
        let screen = Screen::new().user(&User::unique());
        let words = words(&server.socket(), &[file.to_str().unwrap()]);
        let shell = ["sh", "-c", before, "sh"].map(Into::into);
        let mut session = screen.start(shell.into_iter().chain(words));
        let program = pid_of(&mut session);
        let mut closed = session.close();
        closed.wait_exit();
        eventually("the program's end", || !inspect::alive(program));
        let said = eventually_some("its last words", || std::fs::read_to_string(&file).ok());
        assert_eq!(said, "hung up\n");
        std::fs::remove_file(&file).unwrap();
    }
    server.wait_slots(0);
}

#[test]
fn a_background_process_that_keeps_the_terminal_keeps_nobody_waiting() {
    need!(root, "setpriv");
    // One that is silent, and one that never ceases to write.
    let text = "trap '' HUP; sleep 600 & yes & echo \"pid $!.\"; exit 5";
    let server = script(Door::new(), text);
    let mut session = at_a_terminal(&server, &[]);
    let yes = pid_of(&mut session);
    assert_eq!(session.wait_exit().code(), Some(5));
    assert!(!session.is_raw());
    eventually("the end of who writes into nothing", || {
        !inspect::alive(yes)
    });
    server.wait_slots(0);
}

#[test]
fn a_program_that_closes_its_terminal_and_opens_it_again_is_still_heard() {
    need!(root, "setpriv");
    let text = "exec </dev/null >/dev/null 2>&1; sleep 0.2; echo again >/dev/tty; read -r line </dev/tty; echo \"got $line\" >/dev/tty";
    let server = script(Door::new(), text);
    let mut session = at_a_terminal(&server, &[]);
    session.wait_for("again");
    session.type_in("word\r");
    session.wait_for("got word");
    assert!(session.wait_exit().success());
}
