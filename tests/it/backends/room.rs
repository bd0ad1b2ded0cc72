//! Backends at their descriptor limit, where the kernel gives a receiver messages without their descriptors.

use super::channel::{Channel, assert_ended, of, whoami};
use super::{ALL, Language};
use crate::support::{Client, Neighbour, User, eventually};
use std::io::pipe;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A backend with few descriptors.
fn listen_with_limit(language: Language) -> Neighbour {
    let mut backend = Neighbour::new();
    let mut command = backend.command("sh");
    let words = ["-c", "ulimit -n 40 && exec \"$@\"", "sh"];
    command.args(words).arg(language.program());
    command.args(["--listen", &backend.text("backend")]);
    backend.start(&mut command);
    eventually("the backend's socket", || backend.path("backend").exists());
    backend
}

#[test]
fn at_the_descriptor_limit_connections_wait_in_the_channel_and_none_is_lost() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let backend = listen_with_limit(language);
        let mut channel = Channel::to(&backend);
        let mut clients: Vec<Client> = (0..30).map(|_| channel.hand_off()).collect();
        for client in &mut clients {
            client.send(b"whoami\n");
        }
        for client in clients.iter_mut().take(3) {
            client.read_line();
        }
        assert!(channel.queued() > 0, "{language:?}: more than fit");
        for (n, mut client) in clients.into_iter().enumerate() {
            if n >= 3 {
                assert!(client.read_line().starts_with("ok uid="), "{language:?}");
            }
        }
        assert_eq!(backend.lines().all(), Vec::<String>::new());
    }
}

#[test]
fn message_with_more_descriptors_than_fit_is_dropped_whole() {
    need!("python3", "gcc", "go");
    for language in ALL {
        let backend = listen_with_limit(language);
        let mut channel = Channel::to(&backend);
        let (client, server) = UnixStream::pair().unwrap();
        let (mut free, lease) = pipe().unwrap();
        let descriptors: Vec<_> = [server.as_fd()]
            .into_iter()
            .chain([lease.as_fd(); 45])
            .collect();
        let payload = format!("HANDOFF=1\0HANDOFF_FDS=connection\0{}", of(&User::me()));
        channel.send(payload.as_bytes(), &descriptors);
        drop(descriptors);
        drop((server, lease));
        Client::from(OwnedFd::from(client)).assert_closed();
        assert_ended(&mut free);
        backend.wait_line("dropped a connection: it was cut short");
        assert!(
            whoami(&mut channel.hand_off()).starts_with("ok uid="),
            "{language:?}"
        );
    }
}
