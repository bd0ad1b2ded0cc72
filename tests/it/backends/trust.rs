//! Whose word a backend takes: tests that are doorward themselves, in good and in bad faith.

use super::ALL;
use super::channel::{Channel, assert_ended, of, whoami};
use super::listening::listen;
use crate::support::{Client, Dial, Neighbour, User, eventually_some};
use std::fs;
use std::io::pipe;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

/// Both ends of a connection whose client is `user`.
fn connection_of(user: &User, backend: &Neighbour) -> (Client, OwnedFd) {
    let path = backend.path("client");
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let client = Dial::to(path).user(user).connect();
    (client, listener.accept().unwrap().0.into())
}

#[test]
fn control_connection_of_another_user_is_refused_and_of_one_who_may_is_not() {
    need!(root, "python3", "gcc", "go");
    let other = User::new(990, 990);
    for language in ALL {
        for (words, trusted) in [(&[][..], false), (&["--allow-user", "990"][..], true)] {
            let backend = listen(language, words);
            let open = fs::Permissions::from_mode(0o666);
            fs::set_permissions(backend.path("backend"), open).unwrap();
            let mut control = eventually_some("a listening backend", || {
                let dial = Dial::to(backend.path("backend")).seqpacket();
                dial.user(&other).try_connect().ok()
            });
            if trusted {
                // It waits for the channel: what comes instead is told apart from the user.
                control.send(b"nonsense");
                backend.wait_line("refused a control connection: the payload does not end");
            } else {
                control.assert_closed();
                backend.wait_line("refused a control connection: uid 990 may not");
            }
            let mut channel = Channel::to(&backend);
            assert!(whoami(&mut channel.hand_off()).starts_with("ok uid=0 "));
        }
    }
}

#[test]
fn message_that_claims_another_user_or_group_is_dropped_and_logged() {
    need!(root, "python3", "gcc", "go");
    let user = User::new(990, 991);
    for language in ALL {
        let backend = listen(language, &[]);
        let mut channel = Channel::to(&backend);
        let claims = [
            (
                of(&User::new(0, 991)),
                "forged: it says euid 0, the connection 990",
            ),
            (
                of(&User::new(990, 0)),
                "forged: it says egid 0, the connection 991",
            ),
            (
                "PROTO=UNIX\0UNIXREMOTEEUID=0\0".to_owned(),
                "forged: it says euid 0, the connection 990",
            ),
            (
                "PROTO=IPC\0IPCREMOTEEUID=+990\0".to_owned(),
                "an id is no number",
            ),
            ("IPCREMOTEEUID=990\0".to_owned(), "no PROTO"),
        ];
        for (claim, why) in claims {
            let (mut client, server) = connection_of(&user, &backend);
            let (mut free, lease) = pipe().unwrap();
            let payload = format!("HANDOFF=1\0HANDOFF_FDS=connection:lease\0{claim}");
            channel.send(payload.as_bytes(), &[server.as_fd(), lease.as_fd()]);
            drop((server, lease));
            client.assert_closed();
            assert_ended(&mut free);
            backend.wait_line(why);
        }
        // The true ones are served, the payload's word on pid and groups is none.
        for claim in [
            of(&user) + "IPCREMOTEPID=1\0IPCREMOTEGROUPS=0\0",
            "PROTO=IPC\0".to_owned(),
        ] {
            let (mut client, server) = connection_of(&user, &backend);
            let payload = format!("HANDOFF=1\0HANDOFF_FDS=connection\0{claim}");
            channel.send(payload.as_bytes(), &[server.as_fd()]);
            let me = format!("ok uid=990 gid=991 pid={} groups=-", std::process::id());
            assert_eq!(whoami(&mut client), me, "{language:?}");
        }
    }
}

#[test]
fn descriptors_are_found_by_name_and_unknown_ones_closed() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let backend = listen(language, &[]);
        let mut channel = Channel::to(&backend);
        let (client, server) = UnixStream::pair().unwrap();
        let (events, notify) = UnixStream::pair().unwrap();
        let (mut free, lease) = pipe().unwrap();
        let (mut unknown, later) = pipe().unwrap();
        let names = "later:lease:notify:connection";
        let payload = format!(
            "HANDOFF=1\0HANDOFF_FDS={names}\0{}HANDOFF_LATER=1\0GONE\0",
            of(&User::me())
        );
        let descriptors = [later.as_fd(), lease.as_fd(), notify.as_fd(), server.as_fd()];
        channel.send(payload.as_bytes(), &descriptors);
        drop((later, lease, notify, server));

        let mut client = Client::from(OwnedFd::from(client));
        assert!(whoami(&mut client).starts_with("ok uid="), "{language:?}");
        assert_ended(&mut unknown);
        client.send(b"watch lamp\nset lamp 1\n");
        let me = User::me().uid;
        let event = Client::from(OwnedFd::from(events)).read_line();
        assert_eq!(event, format!("changed lamp {me} 1"));
        drop(client);
        assert_ended(&mut free);
    }
}

#[test]
fn malformed_messages_are_dropped_whole_and_the_next_is_served() {
    need!("python3", "gcc", "go");
    let me = of(&User::me());
    let long = format!(
        "HANDOFF=1\0HANDOFF_FDS=connection\0{me}X={}\0",
        "x".repeat(16 * 1024)
    );
    let bad = [
        "x".to_owned(),
        "\0".to_owned(),
        "HANDOFF=1\0".to_owned(),
        format!("HANDOFF=2\0HANDOFF_FDS=connection\0{me}"),
        format!("HANDOFF_FDS=connection\0HANDOFF=1\0{me}"),
        format!("HANDOFF=1\0HANDOFF_FDS=connection:lease\0{me}"),
        format!("HANDOFF=1\0HANDOFF_FDS=lease\0{me}"),
        format!("HANDOFF=1\0HANDOFF_FDS=\0{me}"),
        format!("HANDOFF=1\0HANDOFF_FDS=connection:\0{me}"),
        format!("HANDOFF=1\0HANDOFF_FDS=connection\0{me}A=1\0A=2\0"),
        format!("HANDOFF=1\0HANDOFF_FDS=connection\0{me}=x\0"),
        format!("HANDOFF=1\0HANDOFF_FDS=connection\0{me}A=1"),
        long,
    ];
    for language in ALL {
        let backend = listen(language, &[]);
        let mut channel = Channel::to(&backend);
        for payload in &bad {
            let (client, server) = UnixStream::pair().unwrap();
            channel.send(payload.as_bytes(), &[server.as_fd()]);
            drop(server);
            Client::from(OwnedFd::from(client)).assert_closed();
            backend.wait_line("dropped a connection: ");
        }
        // No socket, and one that listens, in the connection's place.
        let listener = UnixListener::bind(backend.path("listener")).unwrap();
        let (_reader, writer) = pipe().unwrap();
        for wrong in [writer.as_fd(), listener.as_fd()] {
            channel.send(
                format!("HANDOFF=1\0HANDOFF_FDS=connection\0{me}").as_bytes(),
                &[wrong],
            );
            backend.wait_line("dropped a connection: ");
        }
        assert!(
            whoami(&mut channel.hand_off()).starts_with("ok uid="),
            "{language:?}"
        );
    }
}

#[test]
fn doorward_that_brings_no_channel_keeps_nobody_waiting_for_ever() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let backend = listen(language, &[]);
        let mut idle = eventually_some("a listening backend", || {
            Dial::to(backend.path("backend"))
                .seqpacket()
                .try_connect()
                .ok()
        });
        let mut channel = Channel::to(&backend);
        assert!(
            whoami(&mut channel.hand_off()).starts_with("ok uid="),
            "{language:?}"
        );
        idle.assert_closed();
        backend.wait_line("refused a control connection: it brought no channel");
    }
}
