//! Signals that reach the caller reach the program.

use nix::sys::signal::Signal;

use super::{call, script};
use crate::support::{Door, eventually, inspect};

/// Says each signal's name as it comes, and does not end of any.
const NAMING: &str =
    "for name in INT TERM HUP QUIT USR1 USR2 WINCH; do trap \"echo $name\" $name; done
trap 'exit 5' ALRM
echo \"ready $$\"
while :; do sleep 1 & wait $!; done";

#[test]
fn each_signal_of_the_contract_reaches_the_program() {
    let server = script(Door::new(), &[], NAMING);
    let running = call(&server.socket(), &[]).start([""; 0]);
    running.output().take("ready").unwrap();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
    ] {
        running.signal(signal);
        let name = signal.as_str().trim_start_matches("SIG");
        assert_eq!(running.output().take(name).as_deref(), Some(name));
    }
}

#[test]
fn a_signal_reaches_the_whole_group() {
    let text = "trap : USR1; (trap 'echo below; exit' USR1; echo ready; while :; do sleep 1 & wait $!; done) & wait; wait";
    let server = script(Door::new(), &[], text);
    let mut running = call(&server.socket(), &[]).start([""; 0]);
    running.output().take("ready").unwrap();
    running.signal(Signal::SIGUSR1);
    assert!(running.output().take("below").is_some());
    assert!(running.wait_exit().success());
}

#[test]
fn the_caller_dies_of_the_signal_that_its_program_dies_of() {
    use std::os::unix::process::ExitStatusExt;
    let server = script(Door::new(), &[], "echo ready; exec sleep 60");
    let mut running = call(&server.socket(), &[]).start([""; 0]);
    running.output().take("ready").unwrap();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait_exit().signal(), Some(Signal::SIGTERM as i32));
    server.wait_slots(0);
}

fn stands(pid: i32) -> bool {
    inspect::status_line(pid, "State").is_some_and(|state| state.starts_with('T'))
}

#[test]
fn a_stop_stops_the_program_then_the_caller_and_sigcont_continues_both() {
    let server = script(
        Door::new(),
        &[],
        "trap 'echo on' CONT; echo \"ready $$\"; while :; do sleep 1 & wait $!; done",
    );
    let running = call(&server.socket(), &[]).start([""; 0]);
    let ready = running.output().take("ready").unwrap();
    let program: i32 = ready.trim_start_matches("ready ").parse().unwrap();
    for round in 0..3 {
        running.signal(Signal::SIGTSTP);
        eventually("both to stand", || stands(program) && stands(running.pid()));
        running.signal(Signal::SIGCONT);
        assert!(running.output().take("on").is_some(), "round {round}");
        eventually("both to go on", || {
            !stands(program) && !stands(running.pid())
        });
    }
}

#[test]
fn a_program_that_stops_by_itself_stops_its_caller() {
    let server = script(Door::new(), &[], "echo ready; kill -STOP $$; echo on");
    let mut running = call(&server.socket(), &[]).start([""; 0]);
    running.output().take("ready").unwrap();
    eventually("the caller to stand", || stands(running.pid()));
    running.signal(Signal::SIGCONT);
    assert!(running.output().take("on").is_some());
    assert!(running.wait_exit().success());
}

#[test]
fn what_the_caller_s_parent_ignores_is_not_passed_on() {
    let server = script(Door::new(), &[], NAMING);
    let ignoring = ["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh"];
    let running = call(&server.socket(), &[]).wrap(ignoring).start([""; 0]);
    running.output().take("ready").unwrap();
    running.signal(Signal::SIGHUP);
    running.signal(Signal::SIGINT);
    running.signal(Signal::SIGUSR1);
    assert!(running.output().take("USR1").is_some());
    assert_eq!(
        running.output().count("HUP") + running.output().count("INT"),
        0
    );
}

#[test]
fn a_server_that_does_not_start_the_program_keeps_no_caller_from_ending() {
    use std::os::unix::process::ExitStatusExt;
    let scratch = crate::support::Scratch::new();
    let listening = std::os::unix::net::UnixListener::bind(scratch.path("s")).unwrap();
    for signals in [&[Signal::SIGINT][..], &[Signal::SIGUSR1, Signal::SIGTERM]] {
        let mut running = call(&scratch.path("s"), &[]).start([""; 0]);
        let (mut connection, _) = listening.accept().unwrap();
        // It has the banner, sends, and waits for the word that the program runs.
        std::io::Write::write_all(&mut connection, super::request::BANNER).unwrap();
        let mut first = [0; 16];
        std::io::Read::read_exact(&mut connection, &mut first).unwrap();
        assert_eq!(first, super::request::BANNER);
        for signal in signals {
            running.signal(*signal);
        }
        let ended = running.wait_exit().signal();
        assert!(signals.iter().any(|signal| ended == Some(*signal as i32)));
    }
}

#[test]
fn a_server_that_reads_nothing_keeps_no_caller_from_ending() {
    use std::os::unix::process::ExitStatusExt;
    let scratch = crate::support::Scratch::new();
    let listening = std::os::unix::net::UnixListener::bind(scratch.path("s")).unwrap();
    let large = vec!["x".repeat(100_000); 10];
    let mut running = call(&scratch.path("s"), &[]).start(large);
    let (mut connection, _) = listening.accept().unwrap();
    std::io::Write::write_all(&mut connection, super::request::BANNER).unwrap();
    let mut first = [0; 16];
    std::io::Read::read_exact(&mut connection, &mut first).unwrap();
    // It waits for room, with most of its request still to send.
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait_exit().signal(), Some(Signal::SIGTERM as i32));
}
