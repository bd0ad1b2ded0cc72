//! `backend::Listener`: who may bring a channel, and what is no channel.

use crate::support::client::with_address;
use crate::support::{Client, Dial, Scratch, User};
use doorward::backend::{Backend, Error, Listener};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, bind, listen, socket, socketpair,
};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

const CHANNEL: &[u8] = b"HANDOFF=1\0HANDOFF_FDS=channel\0";

/// A socket that anybody can connect to, as a careless administrator makes it.
fn listening(scratch: &Scratch) -> OwnedFd {
    let path = scratch.path("backend");
    let flags = SockFlag::SOCK_CLOEXEC;
    let listening = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    with_address(&path, |address| bind(listening.as_raw_fd(), address)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    listen(&listening, Backlog::new(8).unwrap()).unwrap();
    listening
}

fn channel() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
}

fn dial(scratch: &Scratch) -> Dial {
    Dial::to(scratch.path("backend")).seqpacket()
}

fn bring(control: &mut Client) -> OwnedFd {
    let (ours, theirs) = channel();
    control.send_fds(CHANNEL, &[theirs.as_fd()]);
    ours
}

#[test]
fn a_stranger_may_not_hand_off_unless_it_was_allowed() {
    need!(root);
    let scratch = Scratch::new();
    let listener = Listener::from_fd(listening(&scratch)).unwrap();
    let stranger = User::new(990, 990);
    let mut control = dial(&scratch).user(&stranger).connect();
    // It is hung up on before anything it brings is looked at.
    let _channel = bring(&mut control);
    let result = Backend::accept_from(&listener);
    assert!(
        matches!(result, Err(Error::Untrusted { uid: 990 })),
        "{result:?}"
    );

    let listener = listener.allow_uid(990);
    let mut control = dial(&scratch).user(&stranger).connect();
    let channel = bring(&mut control);
    let mut backend = Backend::accept_from(&listener).unwrap();
    let mut other = dial(&scratch).user(&User::new(991, 991)).connect();
    let _channel = bring(&mut other);
    let result = Backend::accept_from(&listener);
    assert!(
        matches!(result, Err(Error::Untrusted { uid: 991 })),
        "{result:?}"
    );
    // The control connection's hang-up is doorward's end, though the channel stays open.
    drop(control);
    assert!(backend.recv().unwrap().is_none());
    drop(channel);
}

#[test]
fn who_brings_no_channel_is_refused_and_the_next_one_is_not() {
    let scratch = Scratch::new();
    let listener = Listener::from_fd(listening(&scratch)).unwrap();
    let (stream, _other) = UnixStream::pair().unwrap();
    let (packets, _far) = channel();
    let null = std::fs::File::open("/dev/null").unwrap();
    let connection = b"HANDOFF=1\0HANDOFF_FDS=connection\0";
    let bad: [(&[u8], Vec<_>); 6] = [
        (b"garbage", vec![]),
        (CHANNEL, vec![]),
        (CHANNEL, vec![null.as_fd()]),
        (CHANNEL, vec![stream.as_fd()]),
        (CHANNEL, vec![packets.as_fd(), packets.as_fd()]),
        (connection, vec![packets.as_fd()]),
    ];
    for (text, descriptors) in bad {
        let mut control = dial(&scratch).connect();
        control.send_fds(text, &descriptors);
        let result = Backend::accept_from(&listener);
        assert!(
            matches!(result, Err(Error::Malformed(_) | Error::WrongDescriptor(_))),
            "{:?}: {result:?}",
            text.escape_ascii().to_string()
        );
        assert_eq!(control.read_record(), b"");
    }
    drop(dial(&scratch).connect());
    assert!(Backend::accept_from(&listener).is_err());
    let mut control = dial(&scratch).connect();
    let _channel = bring(&mut control);
    assert!(Backend::accept_from(&listener).is_ok());
}

#[test]
fn what_does_not_listen_for_packets_is_no_listener() {
    let (packets, _far) = channel();
    let (stream, _other) = UnixStream::pair().unwrap();
    for no_listener in [packets, stream.into()] {
        let result = Listener::from_fd(no_listener);
        assert!(
            matches!(result, Err(Error::WrongDescriptor(_))),
            "{result:?}"
        );
    }
}
