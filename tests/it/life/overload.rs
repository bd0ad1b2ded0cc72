//! What is too much pauses the service, and neither ends it nor loses a connection.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc::{self, rlimit};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::Shutdown;

use super::{MAX_1, assert_all_answered, assert_serves, copy_of, echo, probe_with, served};
use crate::source::stream;
use crate::support::{Client, Dial, Door, Served, User, eventually, inspect, raw};

/// A soft limit for descriptors.
fn soft(limit: u64) -> rlimit {
    // The hard one is left where it is: going back up takes a right that not every root has.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    rlimit {
        rlim_cur: limit,
        rlim_max: hard,
    }
}

/// Waits for `text`, and measures what such a time costs: hardly any of the processor, and a line a second.
#[track_caller]
fn assert_pauses(door: &Served, text: &str) {
    door.wait_log(text);
    let (began, ticks) = (Instant::now(), inspect::cpu_ticks(door.pid()));
    let lines = door.log().len();
    let period = Duration::from_millis(2500);
    eventually("a period to measure", || began.elapsed() >= period);
    let (took, ticks) = (began.elapsed(), inspect::cpu_ticks(door.pid()) - ticks);
    let lines = (door.log().len() - lines) as u64;
    assert!(
        (1..=took.as_secs() + 2).contains(&lines),
        "{lines} in {took:?}"
    );
    // A tick is 10 ms: an eighth of one processor at most, where a busy loop takes all of it.
    let share = ticks as f64 / 100.0 / took.as_secs_f64();
    assert!(share < 0.125, "{ticks} ticks in {took:?}");
}

/// A limit, and how many clients it takes to meet it: with 3 there is no number for a connection; with 16 there are some, and none for
/// children once they are so many that each needs one.
const NO_DESCRIPTORS: [(u64, usize); 2] = [(3, 30), (16, 100)];

#[test]
fn full_descriptor_table_pauses_the_service() {
    for (few, many) in NO_DESCRIPTORS {
        let mut door = Door::new().serve(echo());
        let mut before = served(door.connect());
        let limit = raw::set_limit(door.pid(), libc::RLIMIT_NOFILE, soft(few));
        let clients: Vec<_> = (0..many).map(|_| door.connect()).collect();

        assert_pauses(&door, "Too many open files (os error 24); pausing 50 ms");

        raw::set_limit(door.pid(), libc::RLIMIT_NOFILE, limit);
        assert_all_answered(clients);
        super::assert_echoes(&mut before);
        assert!(door.stop().success());
    }
}

#[test]
fn stopping_works_with_a_full_descriptor_table_on_an_inherited_socket() {
    let door = Door::new().no_bind();
    let (path, socket) = (door.path("s"), stream(&door.path("s")));
    let mut door = door
        .listen_fds([socket.try_clone().unwrap()], &[])
        .serve(echo());
    raw::set_limit(door.pid(), libc::RLIMIT_NOFILE, soft(3));
    let mut clients: Vec<_> = (0..30).map(|_| Dial::to(&path).connect()).collect();
    door.wait_log("Too many open files (os error 24); pausing 50 ms");

    assert!(door.stop().success());

    // A door in accept has its number already, so eight connections can have come in for which there is no child.
    let next = Door::new().no_bind().listen_fds([socket], &[]);
    let _next = next.serve(echo());
    let answer = |client: &mut Client| {
        let _ = client.try_send(b"x");
        let _ = nix::sys::socket::shutdown(client.as_fd().as_raw_fd(), Shutdown::Write);
        client.try_read_to_end().unwrap_or_default()
    };
    let lost = clients.iter_mut().map(answer).filter(|came| came != b"x");
    let (lost, told) = (lost.count(), door.count_log(" is lost"));
    assert!(lost <= 8, "{lost}");
    assert_eq!(lost, told, "{:?}", door.log());
}

#[test]
fn stopping_works_with_a_full_descriptor_table_on_an_own_socket() {
    for (few, many) in NO_DESCRIPTORS {
        let mut door = Door::new().args(["--grace", "0.3"]).serve(echo());
        raw::set_limit(door.pid(), libc::RLIMIT_NOFILE, soft(few));
        let _clients: Vec<_> = (0..many).map(|_| door.connect()).collect();
        door.wait_log("Too many open files (os error 24); pausing 50 ms");
        assert!(door.stop().success());
        assert!(!door.socket().exists());
    }
}

/// Of the user that has as many processes as it may.
const USER: &str = "61234";

fn as_the_user(words: &[&str]) -> Vec<String> {
    let become_user = [
        "setpriv",
        "--reuid",
        USER,
        "--regid",
        USER,
        "--clear-groups",
    ];
    [&become_user, words]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// Sets how many processes the user may have, as seen by `door`.
#[track_caller]
fn limit_processes(door: &Served, limit: &str) {
    let (pid, limit) = (door.pid().to_string(), format!("--nproc={limit}:"));
    let words = as_the_user(&["prlimit", "--pid", &pid, &limit]);
    let status = Command::new(&words[0]).args(&words[1..]).status();
    assert!(status.unwrap().success(), "{words:?}");
}

/// A doorward of that user that can create no child any more, and its clients.
fn out_of_processes() -> (Served, Vec<Client>) {
    let door = Door::new().no_bind();
    let path = door.path("s");
    let door = door.wrap(as_the_user(&[])).listen_fds([stream(&path)], &[]);
    let door = door.serve(echo());
    assert_eq!(Dial::to(&path).connect().ask(b"x"), b"x");
    door.wait_children(0);
    // Threads count, too, and doorward has more than five.
    limit_processes(&door, "5");
    let clients = (0..30).map(|_| Dial::to(&path).connect()).collect();
    (door, clients)
}

#[test]
fn process_limit_pauses_the_service() {
    need!(root, "setpriv", "prlimit");
    let (door, clients) = out_of_processes();
    assert_pauses(&door, "warning: unable to create a child: ");
    limit_processes(&door, "20000");
    assert_all_answered(clients);
}

#[test]
fn stopping_works_at_the_process_limit() {
    need!(root, "setpriv", "prlimit");
    let (mut door, _clients) = out_of_processes();
    door.wait_log("warning: unable to create a child: ");
    assert!(door.stop().success());
}

#[test]
fn burst_of_five_thousand_is_served_to_the_last() {
    let door = Door::new().args(["--max", "50", "--max-per-user", "100000"]);
    let mut door = door.serve(probe_with(["notify", "7", "served"]));
    let socket = door.socket();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let all: Vec<_> = (0..500).map(|_| Dial::to(&socket).connect()).collect();
                for mut client in all {
                    assert_eq!(client.read_text(), "served\n");
                }
            });
        }
    });
    door.wait_notice("slots=0/50, 5000 admitted, 0 refused");
    assert!(door.stop().success());
}

#[test]
fn programs_that_crash_at_once_do_not_end_the_service() {
    for words in [["die", "9"], ["exit", "1"]] {
        let mut door = Door::new().serve(probe_with(words));
        for _ in 0..300 {
            door.connect().assert_closed();
        }
        door.wait_notice("slots=0/1000, 300 admitted");
        assert!(door.log().len() < 10, "{:?}", door.log());
        assert!(door.stop().success());
    }
}

#[test]
fn program_that_is_gone_is_told_once_a_second_and_served_when_it_is_back() {
    let door = Door::new().args(["--inetd"]);
    let program = copy_of("/bin/cat", door.path("program"));
    let door = door.serve([&program]);
    let aside = door.path("aside");
    std::fs::rename(&program, &aside).unwrap();
    let began = Instant::now();
    for _ in 0..300 {
        door.connect().assert_closed();
    }
    let lines = door.count_log("error: unable to run ") as u64;
    assert!(
        (1..=began.elapsed().as_secs() + 1).contains(&lines),
        "{lines}"
    );
    door.wait_log("No such file or directory");

    std::fs::rename(&aside, &program).unwrap();
    assert_serves(&door);
    door.wait_notice("slots=0/1000");
}

#[test]
fn full_house_is_told_and_who_waits_is_served_when_there_is_room() {
    let door = Door::new().args(MAX_1).serve(echo());
    let first = served(door.connect());
    let others: Vec<_> = (0..20).map(|_| door.connect()).collect();
    door.wait_log("doorward: full slots=1/1 waiting=");
    others.iter().for_each(|client| client.assert_open());
    let ticks = inspect::cpu_ticks(door.pid());
    door.wait_notice(", full");
    assert!(inspect::cpu_ticks(door.pid()) < ticks + 20);
    assert_eq!(door.children().len(), 1);

    drop(first);
    assert_all_answered(others);
    door.wait_log("doorward: room slots=");
}

#[test]
fn refused_ones_are_told_at_once_even_when_the_house_is_full() {
    need!(root);
    let door = Door::new().args(["--max", "1", "--max-per-user", "3", "--mode", "0666"]);
    let door = door.serve(echo());
    let _held = served(door.connect());
    let _waiting = [door.connect(), door.connect()];
    eventually("both to wait", || door.count_log("full ") > 0);
    door.connect().assert_closed();
    let _other = door.connect_as(&User::nobody());
    door.wait_log("reason=max-per-user limit=3");
}

/// What no limit provokes safely on a running machine: the call itself is made to fail, the first times that each door makes it.
#[test]
fn accept_that_fails_for_a_while_is_told_once_and_loses_nobody() {
    need!(root, "strace");
    for (error, told) in [
        ("ENFILE", Some("Too many open files in system")),
        ("ENOMEM", Some("Cannot allocate memory")),
        ("ECONNABORTED", None),
    ] {
        let inject = format!("inject=accept4:error={error}:when=1..3");
        let calls = ["-e", "trace=accept4", "-e", &inject];
        let wrap = [&["strace", "-f", "-qq", "-o", "/dev/null"], &calls[..]].concat();
        let mut door = Door::new().wrap(wrap).serve(echo());
        let traced = nix::unistd::Pid::from_raw(door.children()[0]);
        let clients: Vec<_> = (0..20).map(|_| door.connect()).collect();
        assert_all_answered(clients);
        match told {
            Some(cause) => {
                assert!(door.wait_log("unable to accept").contains(cause));
                assert!(door.count_log("unable to accept") <= 3);
            }
            // A client that went away while it was in the queue is nobody's trouble.
            None => assert_eq!(door.count_log("unable to"), 0),
        }
        nix::sys::signal::kill(traced, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(door.wait_exit().success());
    }
}
