//! With the programs of others, on either side.

use std::os::unix::fs::FileTypeExt as _;

use nix::sys::signal::Signal;

use crate::support::{DEADLINE, Neighbour, eventually, probe};

/// A place where `server` sends back, at `s`, what it gets.
fn served(server: &[&str]) -> Neighbour {
    let mut place = Neighbour::new();
    let mut command = place.command(server[0]);
    command.args(&server[1..]);
    place.start(&mut command);
    eventually("its socket", || {
        place
            .path("s")
            .symlink_metadata()
            .is_ok_and(|node| node.file_type().is_socket())
    });
    // There is a moment between bind and listen.
    drop(place.connect("s"));
    place
}

/// What `client`, a line of shell, writes.
#[track_caller]
fn says(place: &Neighbour, client: &str) -> String {
    let limit = DEADLINE.as_secs().to_string();
    place.say("timeout", &[&limit, "sh", "-c", client])
}

#[test]
fn echo_piped_into_connect_is_answered_by_spawn() {
    let spawn = ["doorward", "spawn", "--bind", "s", "--inetd", "cat"];
    let mut place = served(&spawn);
    assert_eq!(says(&place, "echo hi | doorward connect s"), "hi\n");
    assert_eq!(says(&place, "doorward connect s </dev/null"), "");
    assert_eq!(
        says(&place, "yes | doorward connect s | head -n 2"),
        "y\ny\n"
    );
    assert!(place.stop(Signal::SIGTERM).success());
    place.assert_all_ended();
}

#[test]
fn s6_ipcserver_and_unixserver_serve_connect() {
    need!("s6-ipcserver", "unixserver");
    for server in [
        &["s6-ipcserver", "-a", "0600", "s", "cat"][..],
        &["unixserver", "--", "s", "cat"],
    ] {
        let place = served(server);
        for client in [
            "echo hi | doorward connect s",
            "echo hi | doorward connect s doorward relay",
            "doorward connect s sh -c 'echo hi >&7; head -n 1 <&6'",
        ] {
            assert_eq!(says(&place, client), "hi\n", "{server:?}, {client}");
        }
    }
}

#[test]
fn clients_of_s6_and_ucspi_unix_become_relay_and_connect_becomes_s6_ioconnect() {
    need!("s6-ipcclient", "s6-ioconnect", "unixclient");
    let spawn = ["doorward", "spawn", "--bind", "s", "--inetd", "cat"];
    let place = served(&spawn);
    for client in [
        "echo hi | s6-ipcclient s doorward relay",
        "echo hi | unixclient s doorward relay --idle 60",
        "echo hi | doorward connect s s6-ioconnect",
    ] {
        assert_eq!(says(&place, client), "hi\n", "{client}");
    }
}

#[test]
fn notifications_are_heard_beside_a_relay() {
    let probe = probe().display().to_string();
    let script = format!("echo some news >&8; exec {probe} echo 6 7");
    let spawn = [
        "doorward", "spawn", "--notify", "--bind", "s", "sh", "-c", &script,
    ];
    let place = served(&spawn);
    let client = "echo hi | doorward connect --notify s sh -c 'head -n 1 <&8; exec doorward relay'";
    assert_eq!(says(&place, client), "some news\nhi\n");
}
