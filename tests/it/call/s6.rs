//! The real s6-sudo against `answer --s6`, and `call --s6` against the real s6-sudod.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use nix::sys::signal::Signal;

use super::{answer, call, called, report, script};
use crate::support::{Door, Served, eventually, inspect, probe};

fn s6_sudo(
    server: &Served,
    options: &[&str],
    words: &[&str],
    variables: &[(&str, &str)],
) -> Output {
    let mut command = Command::new("s6-sudo");
    command.args(options).arg(server.socket()).args(words);
    command.envs(variables.iter().copied());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_real_s6_sudo_is_answered() {
    need!("s6-sudo");
    let door = Door::new().env("OFFERED", "");
    let server = script(
        door,
        &["--s6"],
        "echo \"$# $2 $OFFERED$ELSE\"; echo aside >&2; exit \"$1\"",
    );
    for code in [0, 1, 7, 100, 127] {
        let variables = [("OFFERED", "mine"), ("ELSE", "not")];
        let output = s6_sudo(&server, &[], &[&code.to_string(), "two words"], &variables);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "2 two words mine\n");
        assert_eq!(text(&output.stderr), "aside\n");
    }
    let bare = s6_sudo(&server, &["-e"], &["0"], &[("OFFERED", "mine")]);
    assert_eq!(text(&bare.stdout), "1  \n");
}

#[test]
fn the_real_s6_sudo_learns_of_signals_and_of_what_does_not_start() {
    need!("s6-sudo");
    let server = script(Door::new(), &["--s6"], "kill -TERM $$");
    // It makes an exit code of a signal.
    assert_eq!(
        s6_sudo(&server, &[], &[], &[]).status.code(),
        Some(128 + 15)
    );
    let nowhere = answer(Door::new(), &["--s6"], ["/nowhere/at/all"]);
    let output = s6_sudo(&nowhere, &[], &["x"], &[]);
    assert_eq!(output.status.code(), Some(111));
    assert!(
        text(&output.stderr).contains("No such file or directory"),
        "{output:?}"
    );
    let closed = script(Door::new().args(["--deny", "all"]), &["--s6"], "true");
    assert_eq!(s6_sudo(&closed, &[], &[], &[]).status.code(), Some(111));
}

#[test]
fn a_killed_s6_sudo_takes_its_program_with_it() {
    need!("s6-sudo");
    let door = Door::new();
    let pids = door.path("pids");
    let server = script(
        door,
        &["--s6"],
        &format!("setsid sleep 60 & echo $! >{}; wait", pids.display()),
    );
    let mut running = Command::new("s6-sudo")
        .arg(server.socket())
        .spawn()
        .unwrap();
    let daemon = crate::support::eventually_some("its pid", || {
        std::fs::read_to_string(&pids).ok()?.trim().parse().ok()
    });
    running.kill().unwrap();
    running.wait().unwrap();
    eventually("the end of all", || !inspect::alive(daemon));
    server.wait_slots(0);
}

/// The real s6-sudod with the probe behind it.
fn s6_sudod(door: Door, program: &[&str]) -> Served {
    let words = ["s6-sudod"].into_iter().chain(program.iter().copied());
    door.args(["--inetd", "--mode", "0666"]).serve(words)
}

#[test]
fn the_real_s6_sudod_is_called() {
    need!("s6-sudod");
    let probe = probe().display().to_string();
    let server = s6_sudod(Door::new(), &[&probe, "exit"]);
    for code in [0, 7, 127, 128, 200, 255] {
        // Its client would make 128 of all above.
        let called = called(call(&server.socket(), &["--s6"]), [code.to_string()]);
        assert_eq!(called.status.code(), Some(code), "{}", called.log);
    }
    let server = s6_sudod(Door::new(), &[&probe, "die"]);
    for signal in [2, 9, 15] {
        let called = called(call(&server.socket(), &["--s6"]), [signal.to_string()]);
        assert_eq!(called.status.signal(), Some(signal), "{}", called.log);
    }
}

#[test]
fn the_real_s6_sudod_gets_words_variables_and_descriptors() {
    need!("s6-sudod");
    let probe = probe().display().to_string();
    let server = s6_sudod(Door::new().env("OFFERED", ""), &[&probe]);
    let options = ["--s6", "--no-stdin"];
    let report = report(call(&server.socket(), &options).env("OFFERED", "mine"));
    assert_eq!(report.argv(), [probe.as_str(), "report", "1"]);
    assert_eq!(report.env("OFFERED").as_deref(), Some("mine"));
    assert_eq!(report.fds()[&0].link, "/dev/null");
}

#[test]
fn a_caller_that_is_ended_ends_what_s6_sudod_runs() {
    need!("s6-sudod");
    let server = s6_sudod(Door::new(), &["sh", "-c", "echo $$; exec sleep 60"]);
    let mut running = call(&server.socket(), &["--s6"]).start([""; 0]);
    let program: i32 = running.output().take("").unwrap().parse().unwrap();
    // Until call has its word that the program runs, s6-sudod has nobody to tell it to, and leaves what it has started.
    eventually("call to know that it runs", || {
        inspect::fds(running.pid())
            .get(&1)
            .is_some_and(|to| to == "/dev/null")
    });
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait_exit().signal(), Some(Signal::SIGTERM as i32));
    eventually("the end of the program", || !inspect::alive(program));
}
