//! Children that are on their way to their programs at the same time: doors do not wait for the exec of each while many come.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::reporter;
use crate::support::{Client, Door, Report, Served, eventually, inspect, scratch};

/// So many slots in use that no door waits.
const CROWD: usize = 8;

/// Connections that stay, each with its child.
#[track_caller]
fn crowd(door: &Served) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..CROWD).map(|_| door.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.read_line(), "there");
    }
    clients
}

/// A program that says that it is there, and stays until its client goes.
fn greeter(door: &Door) -> PathBuf {
    door.script("program", "#!/bin/sh\necho there\nexec cat\n")
}

/// A service in such a crowd: with it its program, and the clients.
#[track_caller]
fn crowded(args: &[&str]) -> (Served, PathBuf, Vec<Client>) {
    let door = Door::new().args(args);
    let program = greeter(&door);
    let door = door.serve([&program]);
    let clients = crowd(&door);
    (door, program, clients)
}

#[test]
fn each_child_gets_its_own_connection_and_environment() {
    let door = Door::new().serve(reporter("7"));
    let door = &door;
    let ask = |thread: usize| {
        for turn in 0..40 {
            let name = format!("@{}/{thread}/{turn}", door.dir().display());
            let mut client = door.dial().bound_to(&name).connect();
            let report = Report::parse(client.read_to_end());
            assert_eq!(report.env("REMOTE_ADDR").as_deref(), Some(&*name));
            assert_eq!(report.env("PROTO").as_deref(), Some("IPC"));
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..16 {
            scope.spawn(move || ask(thread));
        }
    });
    eventually("no child left", || door.children().is_empty());
}

#[test]
fn a_child_has_nothing_but_its_own_descriptors() {
    let door = Door::new().args(["--inetd"]);
    let program = greeter(&door);
    let door = door.serve([&program]);
    let before = door.fds().len();
    let clients = crowd(&door);
    for child in door.wait_children(CROWD) {
        // The shell has its script open until it is `cat`.
        eventually("a child with three descriptors", || {
            inspect::fds(child).into_keys().eq([0, 1, 2])
        });
    }
    // No connection, and with so few children nothing for each of them.
    eventually("the descriptors of before", || door.fds().len() == before);
    drop(clients);
    door.wait_children(0);
}

#[test]
fn a_program_that_vanishes_in_a_crowd_is_told_and_is_run_again_when_it_is_back() {
    let (door, program, clients) = crowded(&["--inetd", "-v"]);
    std::fs::rename(&program, door.path("aside")).unwrap();
    door.connect().assert_closed();
    let line = door.wait_log("doorward: error: unable to run ");
    assert!(line.contains("No such file or directory"), "{line}");
    // It had a child, whose end is told as any other's.
    door.wait_log("status=127");
    door.wait_slots(CROWD as u32);

    std::fs::rename(door.path("aside"), &program).unwrap();
    assert_eq!(door.connect().read_line(), "there");
    drop(clients);
    door.wait_children(0);
}

#[test]
fn a_program_that_says_127_by_itself_is_no_failure_of_ours() {
    let (door, program, clients) = crowded(&["--inetd", "-v"]);
    scratch::write_script(&program, "#!/bin/sh\nexit 127\n");
    door.connect().assert_closed();
    door.wait_log("status=127");
    assert_eq!(door.count_log("unable to run"), 0);
    drop(clients);
}

/// A tracer that lets each process's first `times` calls of execve fail.
struct Refusing(Child);

impl Refusing {
    fn at(door: &Served, error: &str, times: usize) -> Refusing {
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=execve", "-e"])
            .arg(format!("inject=execve:error={error}:when=1..{times}"))
            .args(["-p", &door.pid().to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let refusing = Refusing(strace);
        eventually("every thread to be traced", || {
            inspect::threads(door.pid()).into_iter().all(|thread| {
                inspect::status_line(thread, "TracerPid").is_some_and(|tracer| tracer != "0")
            })
        });
        refusing
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

#[test]
fn what_execve_is_short_of_for_a_while_costs_no_connection() {
    need!(root, "strace");
    let (door, _, clients) = crowded(&["--inetd"]);
    for error in ["EAGAIN", "ENOMEM", "ENFILE"] {
        let refusing = Refusing::at(&door, error, 3);
        let mut more: Vec<Client> = (0..2 * CROWD).map(|_| door.connect()).collect();
        for client in &mut more {
            assert_eq!(client.read_line(), "there", "{error}");
        }
        drop(refusing);
        drop(more);
        door.wait_children(CROWD);
    }
    assert_eq!(door.count_log("error: "), 0, "{:#?}", door.log());
    drop(clients);
}

#[test]
fn what_execve_is_always_short_of_ends_the_connection_and_is_told() {
    need!(root, "strace");
    let (mut door, _, clients) = crowded(&["--inetd"]);
    let refusing = Refusing::at(&door, "ENOMEM", 1000);
    door.connect().assert_closed();
    let line = door.wait_log("doorward: error: unable to run ");
    assert!(line.contains("Cannot allocate memory"), "{line}");
    drop(refusing);
    assert_eq!(door.connect().read_line(), "there");
    drop(clients);
    assert!(door.running());
}
