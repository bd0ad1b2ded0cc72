//! The end: nothing outlives the caller that was not meant to, however it hides.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::{answer, call, called, script};
use crate::support::{Door, Served, eventually, eventually_some, inspect};

/// The pids that a program has written into `pids`, one a line, once there are `count`.
fn pids(server: &Served, count: usize) -> Vec<i32> {
    eventually_some("the pids of what runs", || {
        let text = fs::read_to_string(server.path("pids")).unwrap_or_default();
        let pids: Vec<i32> = text
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect();
        (pids.len() >= count).then_some(pids)
    })
}

/// A door, and where its programs write their pids.
fn with_pids() -> (Door, PathBuf) {
    let door = Door::new();
    let path = door.path("pids");
    (door, path)
}

/// Something in a session of its own, whose parent has gone, deaf to SIGTERM: what a daemon does.
fn daemon(pids: &std::path::Path) -> String {
    format!(
        "sh -c 'setsid sh -c \"trap \\\"\\\" TERM HUP; echo \\$\\$ >>{0}; while :; do sleep 1; done\" &'; echo $$ >>{0}; exec sleep 60",
        pids.display()
    )
}

#[test]
fn a_killed_caller_takes_with_it_what_left_the_group_the_session_and_its_parent() {
    let (door, path) = with_pids();
    let server = script(door, &[], &daemon(&path));
    let mut running = call(&server.socket(), &[]).start([""; 0]);
    let pids = pids(&server, 2);
    assert!(pids.iter().all(|&pid| inspect::alive(pid)));
    running.signal(Signal::SIGKILL);
    running.wait_exit();
    eventually("the end of all", || {
        !pids.iter().any(|&pid| inspect::alive(pid))
    });
    server.wait_slots(0);
}

#[test]
fn a_killed_caller_s_program_is_asked_first() {
    let (door, path) = with_pids();
    let farewell = door.path("farewell");
    let text = format!(
        "trap 'echo bye >{}; exit' TERM; echo $$ >>{}; kill -STOP $$; while :; do sleep 1 & wait $!; done",
        farewell.display(),
        path.display()
    );
    let server = script(door, &[], &text);
    let running = call(&server.socket(), &[]).start([""; 0]);
    let program = pids(&server, 1)[0];
    eventually("it to stop", || {
        inspect::status_line(program, "State").is_some_and(|state| state.starts_with('T'))
    });
    // It stands, so it must be continued to hear.
    running.signal(Signal::SIGKILL);
    eventually("its farewell", || farewell.exists());
    server.wait_slots(0);
}

#[test]
fn what_keeps_starting_more_is_ended_too() {
    let (door, path) = with_pids();
    let text = format!(
        "trap '' TERM; echo $$ >>{}; while :; do setsid sh -c 'trap \"\" TERM; sleep 60 & sleep 60' & sleep 0.02; done",
        path.display()
    );
    let server = script(door, &[], &text);
    let running = call(&server.socket(), &[]).start([""; 0]);
    let program = pids(&server, 1)[0];
    eventually("a few of them", || inspect::descendants(program).len() > 20);
    let answering = server.children()[0];
    running.signal(Signal::SIGKILL);
    eventually("the end of answer", || !inspect::alive(answering));
    let marked = |&pid: &i32| {
        let ours = inspect::environment(pid);
        let of_server = inspect::environment(server.pid());
        let mark = of_server
            .iter()
            .find(|entry| entry.starts_with(b"DOORWARD_TEST="));
        inspect::alive(pid) && mark.is_some_and(|mark| ours.contains(mark)) && pid != server.pid()
    };
    assert_eq!(inspect::pids().into_iter().filter(marked).count(), 0);
}

#[test]
fn a_detached_program_outlives_its_caller_where_that_is_allowed() {
    let (door, path) = with_pids();
    let text = format!(
        "echo $$ >>{}; while [ ! -e {1} ]; do sleep 0.05; done; echo done >{1}.done",
        path.display(),
        door.path("go").display()
    );
    let server = script(door, &["--allow-detach"], &text);
    let mut running = call(&server.socket(), &["--detach"]).start([""; 0]);
    let program = pids(&server, 1)[0];
    let answering = server.children()[0];
    running.signal(Signal::SIGKILL);
    running.wait_exit();
    eventually("answer to see that its caller has gone", || {
        !inspect::fds(answering)
            .values()
            .any(|to| to.starts_with("socket:"))
    });
    assert!(inspect::alive(program));
    assert_eq!(server.slots(), 1, "its slot is taken as long as it runs");
    fs::write(server.path("go"), "").unwrap();
    eventually("its end", || server.path("go.done").exists());
    server.wait_slots(0);
}

#[test]
fn detaching_must_be_allowed() {
    let server = script(Door::new(), &[], "echo ran");
    let refused = called(call(&server.socket(), &["--detach"]), [""; 0]);
    refused.assert(1, "does not allow --detach");
    assert_eq!(refused.output, [""; 0]);
}

#[test]
fn what_a_program_leaves_behind_goes_on_and_its_end_is_told_at_once() {
    let (door, path) = with_pids();
    let text = format!(
        "sleep 60 </dev/null >/dev/null 2>&1 & echo $! >>{}; exit 4",
        path.display()
    );
    let server = script(door, &[], &text);
    called(call(&server.socket(), &[]), [""; 0]).assert(4, "");
    server.wait_slots(0);
    assert!(inspect::alive(pids(&server, 1)[0]));
}

#[test]
fn an_end_of_the_service_ends_programs_and_their_callers_learn_how() {
    use std::os::unix::process::ExitStatusExt;
    let (door, path) = with_pids();
    let server = script(door.args(["--lifetime", "0.5"]), &[], &daemon(&path));
    let mut running = call(&server.socket(), &[]).start([""; 0]);
    let pids = pids(&server, 2);
    assert_eq!(running.wait_exit().signal(), Some(Signal::SIGTERM as i32));
    eventually("the end of all", || {
        !pids.iter().any(|&pid| inspect::alive(pid))
    });
}

#[test]
fn a_caller_whose_server_is_killed_says_so() {
    let server = script(Door::new(), &["--verbose"], "echo ready; exec sleep 60");
    let mut running = call(&server.socket(), &[]).start([""; 0]);
    running.output().take("ready").unwrap();
    // The program may be ahead of the word that it runs; the line comes behind both.
    server.wait_log("doorward: call ");
    let answering = server.children()[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(answering), Signal::SIGKILL).unwrap();
    assert_eq!(running.wait_exit().code(), Some(111));
    running.wait_log("it has gone");
}

#[test]
fn a_hundred_calls_at_once_are_each_answered() {
    let server = answer(Door::new(), &[], ["sh", "-c", "exit \"$1\"", "sh"]);
    let calls: Vec<_> = (0..100)
        .map(|code| call(&server.socket(), &[]).start([code.to_string()]))
        .collect();
    for (code, mut running) in calls.into_iter().enumerate() {
        assert_eq!(running.wait_exit().code(), Some(code as i32));
    }
    server.wait_slots(0);
}
