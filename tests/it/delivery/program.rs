//! PROG: found once before READY, and what becomes of connections when it cannot be run later.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use crate::support::{Door, Served, User};

#[test]
fn a_program_that_is_missing_is_127_and_leaves_no_socket() {
    for program in [
        "no-such-program-here",
        "/no/such/program",
        "./no-such-program",
        "",
    ] {
        let door = Door::new();
        let socket = door.path("s");
        let outcome = door.fails([program]);
        outcome.assert(127, ["doorward: fatal: unable to run ", program]);
        assert!(!socket.exists());
    }
}

#[test]
fn a_program_that_is_not_executable_is_126() {
    let door = Door::new();
    let plain = door.path("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let socket = door.path("s");
    door.fails([&plain])
        .assert(126, ["doorward: fatal: unable to run ", "plain"]);
    assert!(!socket.exists());
    Door::new()
        .fails(["/etc"])
        .assert(126, ["doorward: fatal: unable to run /etc"]);
    // In PATH, where nothing better follows.
    let door = Door::new();
    fs::write(door.path("plain"), "#!/bin/sh\n").unwrap();
    let dir = door.dir().to_owned();
    door.env("PATH", dir)
        .fails(["plain"])
        .assert(126, ["plain"]);
}

#[test]
fn path_is_searched_in_order_and_what_cannot_be_run_is_passed_over() {
    let door = Door::new().args(["--inetd"]);
    for (dir, text) in [("a", None), ("b", Some("b")), ("c", Some("c"))] {
        fs::create_dir(door.path(dir)).unwrap();
        let name = format!("{dir}/program");
        match text {
            Some(text) => drop(door.script(&name, &format!("#!/bin/sh\necho {text}\n"))),
            None => fs::write(door.path(&name), "").unwrap(),
        }
    }
    let path = ["a", "b", "c"]
        .map(|dir| door.path(dir).to_str().unwrap().to_owned())
        .join(":");
    let door = door
        .env("PATH", format!("/nowhere:{path}:/bin"))
        .serve(["program"]);
    assert_eq!(door.connect().read_text(), "b\n");
}

#[test]
fn a_program_that_the_new_user_may_not_run_is_126() {
    need!(root);
    let door = Door::new().args(["--run-as", "4321:4321"]);
    let program = door.script("program", "#!/bin/sh\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    door.fails([program])
        .assert(126, ["doorward: fatal: unable to run "]);
}

/// Connects some ten times: each client sees the end of file at once, and the log says why, once a second.
#[track_caller]
fn assert_fails(door: &mut Served, words: &[&str]) {
    let before = door.count_log("unable to run");
    let begun = Instant::now();
    for _ in 0..10 {
        door.connect().assert_closed();
    }
    let line = door.wait_log("doorward: error: unable to run ");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line}");
    }
    let seconds = begun.elapsed().as_secs() as usize;
    let lines = door.count_log("unable to run") - before;
    assert!(lines <= 1 + seconds, "{lines} lines in {seconds} seconds");
    assert!(door.running());
    door.wait_children(0);
}

#[test]
fn a_program_that_vanishes_later_ends_connections_and_not_the_service() {
    let door = Door::new().args([
        "--inetd",
        "--max",
        "1",
        "--max-per-user",
        "1",
        "--rate",
        "1000/1",
    ]);
    let program = door.script("program", "#!/bin/sh\necho first\n");
    let mut door = door.serve([&program]);
    assert_eq!(door.connect().read_text(), "first\n");
    // The slot of the one before.
    crate::support::eventually("the slot to be free", || {
        let text = door.connect().read_text();
        text == "first\n"
    });
    fs::remove_file(&program).unwrap();
    crate::support::eventually("a failure", || {
        door.connect().assert_closed();
        door.count_log("unable to run") > 0
    });
    assert!(
        door.wait_log("unable to run")
            .contains("No such file or directory")
    );

    // Where it is again it is run again; the failures kept no slot.
    crate::support::scratch::write_script(&program, "#!/bin/sh\necho second\n");
    assert_eq!(door.connect().read_text(), "second\n");
    assert!(door.running());
}

#[test]
fn the_log_says_which_program_and_why_once_a_second() {
    need!(root);
    let missing = "No such file or directory";
    for (text, mode, cause) in [
        // The kernel knows no such format, and doorward guesses none: a shell would.
        (
            Some("echo no interpreter named\n"),
            0o755,
            "Exec format error",
        ),
        (Some("#!/no/such/interpreter\n"), 0o755, missing),
        (Some("#!/bin/sh\n"), 0o644, "Permission denied"),
        (Some(""), 0o755, "Exec format error"),
        (None, 0, missing),
    ] {
        let door = Door::new();
        let program = door.script("program", "#!/bin/sh\n");
        let mut door = door.serve([&program]);
        fs::remove_file(&program).unwrap();
        if let Some(text) = text {
            crate::support::scratch::write_script(&program, text);
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_fails(&mut door, &["program", cause]);
    }
}

#[test]
fn failures_are_no_leak_of_descriptors_or_slots() {
    need!(root);
    let options = [
        "--mode",
        "0666",
        "--notify",
        "--pidfd",
        // A slot is given back a moment after its client's end of file.
        "--max",
        "50",
        "--max-per-user",
        "50",
    ];
    let door = Door::new().args(options);
    let program = door.script("program", "#!/bin/sh\n");
    let door = door.serve([&program]);
    let before = door.fds().len();
    fs::remove_file(&program).unwrap();
    for _ in 0..100 {
        let mut client = door.connect_as(&User::new(1000, 1000));
        // Refused or not, greeted or not: it ends.
        drop(client.recv_greeting());
        assert_eq!(client.read_to_end(), b"");
    }
    assert_eq!(door.count_log("doorward: deny "), 0);
    crate::support::eventually("the descriptors of before", || door.fds().len() == before);
}
