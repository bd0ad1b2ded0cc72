//! Stops and the background: a shell's jobs, with a call among them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{at_a_terminal, script, words};
use crate::support::{Door, Screen, Served, Session, User, eventually, inspect};

/// A user's shell with job control, in which `call` calls the server.
#[track_caller]
fn shell(server: &Served) -> Session {
    let words: Vec<String> = words(&server.socket(), &[])
        .iter()
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let screen = Screen::new().user(&User::unique());
    let mut session = screen.start(["bash", "--norc", "-i"]);
    session.wait_for("ready> ");
    session.type_in(&format!("call() {{ {} \"$@\"; }}\r", words.join(" ")));
    session.wait_for("ready> ");
    session
}

fn pid_of(session: &mut Session) -> i32 {
    session.wait_for("pid ");
    let pid = session.wait_for(".");
    pid.trim_end_matches('.').parse().unwrap()
}

fn stands(pid: i32) -> bool {
    inspect::status_line(pid, "State").is_some_and(|state| state.starts_with('T'))
}

#[test]
fn a_key_stops_the_program_and_the_call_and_fg_continues_both() {
    need!(root, "setpriv", "bash");
    let server = script(Door::new(), "echo \"pid $$.\"; exec cat");
    let mut session = shell(&server);
    session.type_in("call\r");
    let program = pid_of(&mut session);
    eventually("the raw terminal", || session.is_raw());
    for round in 0..3 {
        session.type_in("\x1a");
        session.wait_for("Stopped");
        session.wait_for("ready> ");
        assert!(stands(program));
        assert!(!session.is_raw());
        session.type_in(&format!("echo shell {round}\r"));
        session.wait_for(&format!("\r\nshell {round}"));
        session.type_in("fg\r");
        eventually("the raw terminal", || session.is_raw());
        session.type_in(&format!("program {round}\r"));
        // The terminal's echo, and the program's.
        session.wait_for(&format!("program {round}\r\nprogram {round}\r\n"));
    }
    session.type_in("\x04");
    session.wait_for("ready> ");
    session.type_in("echo status $?\r");
    session.wait_for("status 0");
}

#[test]
fn a_shell_that_sets_no_modes_finds_its_own_while_the_call_is_stopped() {
    need!(root, "setpriv", "dash");
    let server = script(Door::new(), "echo \"pid $$.\"; exec cat");
    let mut session = Screen::new().user(&User::unique()).start(["dash", "-i"]);
    session.wait_for("ready> ");
    let words: Vec<String> = words(&server.socket(), &[])
        .iter()
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    session.type_in(&format!("{}\r", words.join(" ")));
    pid_of(&mut session);
    eventually("the raw terminal", || session.is_raw());
    session.type_in("\x1a");
    session.wait_for("ready> ");
    assert!(!session.is_raw());
    session.type_in("fg\r");
    eventually("the raw terminal", || session.is_raw());
    session.type_in("\x04");
    session.wait_for("ready> ");
    assert!(!session.is_raw());
}

#[test]
fn a_program_that_stops_itself_stops_the_call() {
    need!(root, "setpriv", "bash");
    let text = "printf before; kill -STOP $$; stty size; exit 6";
    let server = script(Door::new(), text);
    let mut session = shell(&server);
    session.type_in("call\r");
    session.wait_for("before");
    session.wait_for("Stopped");
    session.wait_for("ready> ");
    session.resize(33, 44);
    session.type_in("fg\r");
    session.wait_for("33 44");
    session.wait_for("ready> ");
    session.type_in("echo status $?\r");
    session.wait_for("status 6");
}

#[test]
fn a_call_in_the_background_waits_for_the_foreground() {
    need!(root, "setpriv", "bash");
    let server = script(Door::new(), "read -r line; echo \"got $line\"");
    let mut session = shell(&server);
    session.type_in("call &\r");
    session.wait_for("ready> ");
    // It has not even asked, so no program waits for the user.
    eventually("the stop", || {
        session.type_in("jobs\r");
        session.wait_for("jobs\r\n");
        session.wait_for("ready> ").contains("Stopped")
    });
    assert_eq!(server.slots(), 0);
    assert!(!session.is_raw());
    session.type_in("fg\r");
    eventually("the raw terminal", || session.is_raw());
    session.type_in("word\r");
    session.wait_for("got word");
    session.wait_for("ready> ");
}

#[test]
fn a_stopped_call_that_is_sent_to_the_background_stops_again() {
    need!(root, "setpriv", "bash");
    let server = script(Door::new(), "echo \"pid $$.\"; exec cat");
    let mut session = shell(&server);
    session.type_in("call\r");
    let program = pid_of(&mut session);
    eventually("the raw terminal", || session.is_raw());
    session.type_in("\x1a");
    session.wait_for("ready> ");
    session.type_in("bg\r");
    session.wait_for("ready> ");
    session.type_in("echo mine\r");
    session.wait_for("\r\nmine");
    assert!(!session.is_raw());
    session.type_in("fg\r");
    eventually("the raw terminal", || session.is_raw());
    session.type_in("word\r");
    session.wait_for("word\r\nword\r\n");
    session.type_in("\x03");
    session.wait_for("ready> ");
    eventually("the program's end", || !inspect::alive(program));
}

#[test]
fn signals_from_elsewhere_stop_and_continue_it_too() {
    need!(root, "setpriv", "bash");
    let server = script(Door::new(), "echo \"pid $$.\"; exec cat");
    let mut session = shell(&server);
    session.type_in("call\r");
    let program = pid_of(&mut session);
    eventually("the raw terminal", || session.is_raw());
    let call = inspect::descendants(session.pid())[0];
    kill(Pid::from_raw(call), Signal::SIGTSTP).unwrap();
    session.wait_for("Stopped");
    session.wait_for("ready> ");
    assert!(stands(program) && stands(call) && !session.is_raw());
    session.type_in("fg\r");
    eventually("the raw terminal", || session.is_raw());
    // A stop that it cannot know of, after which the shell has set the terminal as it likes.
    kill(Pid::from_raw(call), Signal::SIGSTOP).unwrap();
    session.wait_for("ready> ");
    session.type_in("fg\r");
    eventually("the raw terminal", || session.is_raw());
    session.type_in("word\r");
    session.wait_for("word\r\nword\r\n");
    session.type_in("\x04");
    session.wait_for("ready> ");
}

#[test]
fn nobody_is_stopped_whom_nobody_would_continue() {
    need!(root, "setpriv");
    let server = script(Door::new(), "echo \"pid $$.\"; exec cat");
    // No shell above it: it leads the session itself.
    let mut session = at_a_terminal(&server, &[]);
    pid_of(&mut session);
    eventually("the raw terminal", || session.is_raw());
    session.type_in("\x1a");
    session.wait_for("^Z");
    session.type_in("word\r");
    session.wait_for("word\r\nword\r\n");
    session.type_in("\x04");
    assert!(session.wait_exit().success());
}

#[test]
fn all_of_a_pipeline_stops_with_the_call() {
    need!(root, "setpriv", "bash");
    let server = script(Door::new(), "echo \"pid $$.\"; exec cat /dev/tty");
    let mut session = shell(&server);
    session.type_in("sleep 600 | call | cat\r");
    let program = pid_of(&mut session);
    eventually("the raw terminal", || session.is_raw());
    session.type_in("\x1a");
    session.wait_for("Stopped");
    session.wait_for("ready> ");
    assert!(stands(program));
    session.type_in("kill %1; fg\r");
    session.wait_for("ready> ");
    eventually("the program's end", || !inspect::alive(program));
}
