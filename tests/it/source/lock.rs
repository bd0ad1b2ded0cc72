//! `PATH.lock`: of two that start at once exactly one wins, and nobody takes a live socket away.

use std::fs::File;
use std::os::unix::fs::symlink;

use nix::fcntl::{FcntlArg, fcntl};

use super::{assert_plain_child, holder, mode, reporter};
use crate::support::{Dial, Door, Report, eventually};

#[test]
fn of_several_that_start_at_once_exactly_one_serves() {
    let home = crate::support::Scratch::new();
    let path = home.path("s");
    for _ in 0..5 {
        let mut doors: Vec<_> = (0..4)
            .map(|_| Door::new().bind(&path).start(reporter()))
            .collect();
        eventually("three of four to end", || {
            doors
                .iter_mut()
                .map(|door| u32::from(!door.running()))
                .sum::<u32>()
                == 3
        });
        for door in &mut doors {
            if door.running() {
                door.wait_notice("READY=1");
            } else {
                assert_eq!(door.wait_exit().code(), Some(111), "{:?}", door.log());
                door.wait_log(path.to_str().unwrap());
            }
        }
        assert_plain_child(&Report::parse(Dial::to(&path).connect().read_to_end()));
        let mut winner = doors
            .into_iter()
            .find_map(|mut door| door.running().then_some(door))
            .unwrap();
        assert!(winner.stop().success());
        assert!(!path.exists());
    }
}

#[test]
fn second_start_is_refused_for_as_long_as_the_first_lives() {
    let first = Door::new().serve(reporter());
    let path = first.socket();
    Door::new()
        .bind(&path)
        .fails(reporter())
        .assert(111, [path.display()]);
    // Not even with the socket's name gone may another one take its place.
    std::fs::remove_file(&path).unwrap();
    Door::new()
        .bind(&path)
        .fails(reporter())
        .assert(111, [path.display()]);
    drop(first);
}

#[test]
fn successor_may_start_as_soon_as_the_first_has_ended() {
    let mut first = Door::new().serve(reporter());
    let path = first.socket();
    assert!(first.stop().success());
    let second = Door::new().bind(&path).serve(reporter());
    assert_plain_child(&Report::parse(second.connect().read_to_end()));
}

#[test]
fn successor_may_start_while_the_first_lets_its_last_connections_finish() {
    let mut first = Door::new().args(["--grace", "60"]).serve(holder());
    let path = first.socket();
    let held = first.connect();
    first.wait_children(1);
    first.signal(nix::sys::signal::Signal::SIGTERM);
    first.wait_notice("STOPPING=1");
    eventually("the first to leave its place", || !path.exists());

    let second = Door::new().bind(&path).serve(reporter());

    held.assert_open();
    drop(held);
    assert!(first.wait_exit().success());
    assert!(path.exists(), "it is the second one's by now");
    assert_plain_child(&Report::parse(second.connect().read_to_end()));
}

#[test]
fn killed_doorward_leaves_a_stale_socket_that_the_next_replaces() {
    let mut first = Door::new().serve(reporter());
    let path = first.socket();
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.wait_exit();
    assert!(path.exists());
    let second = Door::new().bind(&path).serve(reporter());
    assert_plain_child(&Report::parse(second.connect().read_to_end()));
}

#[test]
fn posix_lock_of_another_program_counts() {
    let door = Door::new();
    let lock = File::create(door.path("s.lock")).unwrap();
    let whole = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&lock, FcntlArg::F_SETLK(&whole)).unwrap();
    let path = door.path("s");
    let outcome = door.fails(reporter());
    outcome.assert(111, [path.display()]);
    assert!(!path.exists());
}

#[test]
fn lock_file_is_for_its_owner_alone_and_never_followed() {
    let door = Door::new()
        .wrap(["sh", "-c", "umask 0; exec \"$@\"", "sh"])
        .serve(reporter());
    assert_eq!(mode(&door.path("s.lock")), 0o600);

    for exists in [true, false] {
        let door = Door::new();
        let target = door.path("target");
        if exists {
            std::fs::write(&target, "kept").unwrap();
        }
        symlink(&target, door.path("s.lock")).unwrap();
        let path = door.path("s");
        let outcome = door.fails(reporter());
        outcome.assert(111, ["s.lock"]);
        assert_eq!(
            std::fs::read_to_string(&target).ok(),
            exists.then(|| "kept".to_owned())
        );
        assert!(!path.exists());
    }
}

#[test]
fn lock_file_that_is_no_file_is_refused_at_once() {
    let door = Door::new();
    nix::unistd::mkfifo(&door.path("s.lock"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    door.fails(reporter()).assert(111, ["s.lock"]);
    let door = Door::new();
    std::fs::create_dir(door.path("s.lock")).unwrap();
    door.fails(reporter()).assert(111, ["s.lock"]);
}

#[test]
fn one_path_twice_on_the_command_line_is_refused() {
    let door = Door::new();
    let path = door.path("s");
    let outcome = door
        .args(["--bind".as_ref(), path.as_os_str()])
        .fails(reporter());
    assert!([100, 111].contains(&outcome.code()), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains(path.to_str().unwrap()),
        "{}",
        outcome.stderr
    );
}
