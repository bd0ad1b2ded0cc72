//! Backends that listen, and to which doorward connects.

use super::{ALL, Guest, Language, converse};
use crate::support::{Door, Neighbour, Served, User, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt;

/// A backend that listens on `backend` in its directory.
pub(super) fn listen(language: Language, words: &[&str]) -> Neighbour {
    let mut backend = Neighbour::new();
    start(&mut backend, language, words);
    backend
}

pub(super) fn start(backend: &mut Neighbour, language: Language, words: &[&str]) -> i32 {
    let mut command = backend.command(language.program());
    command
        .args(["--listen", &backend.text("backend")])
        .args(words);
    let pid = backend.start(&mut command);
    eventually("the backend's socket", || backend.path("backend").exists());
    pid
}

/// A doorward that hands off to it.
fn door(backend: &Neighbour) -> Served {
    let path = backend.text("backend");
    Door::new()
        .command("handoff")
        .args(["--mode", "0666", "--ready", "backend", "--backend", &path])
        .serve(Vec::<String>::new())
}

#[test]
fn each_language_answers_behind_doorward_and_lets_it_come_and_go() {
    need!(root, "python3", "gcc", "go");
    for language in ALL {
        let mut backend = listen(language, &[]);
        let mode = backend.path("backend").metadata().unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let mut first = door(&backend);
        converse(|uid| first.connect_as(&User::new(uid, uid).groups([7, uid])));
        let mut stays = Guest::greeted(first.connect());
        assert!(first.stop().success());
        assert_eq!(stays.ask("get lamp"), "ok off", "{language:?}");

        // The next one, and two at once.
        let second = door(&backend);
        let third = door(&backend);
        for door in [&second, &third] {
            let mut guest = Guest::greeted(door.connect());
            assert_eq!(guest.ask("get lamp"), "ok off", "{language:?}");
        }
        drop((second, third, stays));
        assert!(backend.stop(Signal::SIGTERM).success());
        assert_eq!(
            backend.lines().all(),
            Vec::<String>::new(),
            "nothing to say"
        );
    }
}

#[test]
fn backend_that_is_started_again_serves_who_waited() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let mut backend = listen(language, &[]);
        let door = door(&backend);
        let mut guest = Guest::greeted(door.connect());
        assert_eq!(guest.ask("set lamp 1"), "ok");
        assert_eq!(guest.ask("quit"), "ok");
        assert!(backend.stop(Signal::SIGTERM).success());
        door.wait_log("backend exit");
        let waiting: Vec<_> = (0..10).map(|_| door.connect()).collect();
        for client in &waiting {
            client.assert_open();
        }
        // The node of the one before is still there, and nobody serves it.
        start(&mut backend, language, &[]);
        for client in waiting {
            assert_eq!(Guest::greeted(client).ask("get lamp"), "none");
        }
    }
}

#[test]
fn stopped_backend_finishes_with_its_clients_and_leaves_the_others_to_the_next() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let mut backend = Neighbour::new();
        let pid = start(&mut backend, language, &["--grace", "20"]);
        let door = door(&backend);
        let mut guest = Guest::greeted(door.connect());
        assert_eq!(guest.ask("watch lamp"), "ok");
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        // It has hung up: from now on it takes nobody.
        door.wait_log("backend exit");
        let later = door.connect();
        assert_eq!(guest.ask("set lamp 1"), "ok", "{language:?}");
        assert_eq!(guest.events.read_line(), "changed lamp 0 1");
        later.assert_open();
        assert_eq!(guest.ask("quit"), "ok");
        drop(guest);
        // It ends by itself; this signal only serves to wait for that.
        assert!(backend.stop(Signal::SIGCONT).success());
        start(&mut backend, language, &[]);
        assert_eq!(Guest::greeted(later).ask("get lamp"), "none");
    }
}
