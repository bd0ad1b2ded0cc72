//! A doorward of the tests' own: it brings a listening backend a channel, and sends what it likes.

use crate::support::{Client, Dial, Neighbour, User, eventually_some, raw};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io::{PipeReader, Read, pipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A channel that a backend has taken from us.
pub(super) struct Channel {
    near: Client,
    far: OwnedFd,
    _control: Client,
}

impl Channel {
    pub(super) fn to(backend: &Neighbour) -> Channel {
        let pair = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        );
        let (near, far) = pair.unwrap();
        let mut control = eventually_some("a listening backend", || {
            Dial::to(backend.path("backend"))
                .seqpacket()
                .try_connect()
                .ok()
        });
        control.send_fds(b"HANDOFF=1\0HANDOFF_FDS=channel\0", &[far.as_fd()]);
        Channel {
            near: Client::from(near),
            far,
            _control: control,
        }
    }

    pub(super) fn send(&mut self, payload: &[u8], descriptors: &[BorrowedFd<'_>]) {
        self.near.send_fds(payload, descriptors);
    }

    /// A connection from ourselves, with what doorward would say of it; the client's end.
    pub(super) fn hand_off(&mut self) -> Client {
        let (client, server) = UnixStream::pair().unwrap();
        let (_, lease) = pipe().unwrap();
        let payload = format!(
            "HANDOFF=1\0HANDOFF_FDS=connection:lease\0{}",
            of(&User::me())
        );
        self.send(payload.as_bytes(), &[server.as_fd(), lease.as_fd()]);
        Client::from(OwnedFd::from(client))
    }

    /// Bytes that the backend has not taken.
    pub(super) fn queued(&self) -> usize {
        raw::queued(&self.far).unwrap()
    }
}

/// The variables of a connection of this user.
pub(super) fn of(user: &User) -> String {
    format!(
        "PROTO=IPC\0IPCREMOTEEUID={}\0IPCREMOTEEGID={}\0",
        user.uid, user.gid
    )
}

/// What the service says of the client.
#[track_caller]
pub(super) fn whoami(client: &mut Client) -> String {
    client.send(b"whoami\n");
    client.read_line()
}

/// Nobody holds the other end of the pipe any more.
#[track_caller]
pub(super) fn assert_ended(pipe: &mut PipeReader) {
    assert_eq!(pipe.read(&mut [0]).unwrap(), 0);
}
