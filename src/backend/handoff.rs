//! One connection as a backend gets it: descriptors by their names, and the peer by the kernel's word.
#![forbid(unsafe_code)]

use super::error::{Error, Unable as _};
use super::message::{self, Environment};
use crate::{greeting, sys};
use nix::libc;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// The client: what the kernel kept of its credentials when it connected.
///
/// In a user namespace that does not map everything, unmapped ids read as the overflow ids (65534): grant those nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id; `None`: in a pid namespace that is not ours. The process may be gone, and the number another's: take
    /// [`Handoff::pidfd`] to act on it.
    pub pid: Option<i32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// `getsockopt(SO_PEERCRED, SO_PEERGROUPS)` on a connected Unix socket, which is lent. See unix(7).
    ///
    /// # Errors
    /// `WrongDescriptor`: not a connected Unix socket. `System`: the kernel does not say.
    pub fn of(connection: BorrowedFd<'_>) -> Result<Peer, Error> {
        match sys::socket::peer_family(connection) {
            Ok(libc::AF_UNIX) => {}
            // A listening one would answer with the credentials of who listens.
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
                return Err(Error::WrongDescriptor("a connected socket"));
            }
            Ok(_) | Err(_) => return Err(Error::WrongDescriptor("a Unix socket")),
        }
        let credentials =
            getsockopt(&connection, sockopt::PeerCredentials).unable("ask who the peer is")?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        // (uid_t)-1 is what a socket without a peer has.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Error::WrongDescriptor("a connected socket"));
        }
        let mut groups = Vec::new();
        sys::peer::groups(connection, &mut groups).unable("ask for the peer's groups")?;
        Ok(Peer {
            uid,
            gid,
            pid: Some(credentials.pid()).filter(|pid| *pid > 0),
            groups,
        })
    }
}

/// A connection that doorward has admitted. All descriptors are owned, close-on-exec, and blocking.
#[derive(Debug)]
#[non_exhaustive]
pub struct Handoff {
    /// Who is at the other end, read from the connection.
    pub peer: Peer,
    /// What doorward and the matched rule say of it.
    pub env: Environment,
    /// The connection; as doorward's `--type` has it a stream (`UnixStream::from`) or a SEQPACKET socket.
    pub connection: OwnedFd,
    /// The backend's end of the notification socketpair, an AF_UNIX stream.
    pub notify: Option<OwnedFd>,
    /// The client's end of it, to be sent on: see [`Handoff::greet`]. Absent where doorward has sent it.
    pub notify_peer: Option<OwnedFd>,
    /// The client's process, if doorward was told `--pidfd`.
    pub pidfd: Option<OwnedFd>,
    /// Holds the client's slot: it is free when every copy of this is closed. Keep it exactly as long as you serve the client.
    pub lease: Option<OwnedFd>,
}

impl Handoff {
    /// Sends the client its end of the notification socketpair, as `doorward spawn --notify` does: the greeting, first thing on the
    /// connection, with one descriptor. Does nothing if there is none to send. Never blocks; the end is closed here once it is sent.
    ///
    /// # Errors
    /// `System`, with EPERM or EPIPE: the client takes no descriptors or is gone; ETOOMANYREFS: too many descriptors of this user are
    /// under way, try again later ([`Handoff::notify_peer`] is still there then).
    pub fn greet(&mut self) -> Result<(), Error> {
        let Some(end) = self.notify_peer.take() else {
            return Ok(());
        };
        match sys::scm::send(self.connection.as_fd(), greeting::TEXT, &[end.as_fd()]) {
            Ok(sent) if sent == greeting::TEXT.len() => Ok(()),
            // Half a greeting cannot be taken back.
            Ok(_) => Err(Error::System(
                "send a greeting",
                std::io::ErrorKind::WriteZero.into(),
            )),
            Err(cause) => {
                self.notify_peer = Some(end);
                Err(Error::System("send a greeting", cause))
            }
        }
    }

    /// Makes a handoff of a message; what it does not keep is closed.
    pub(super) fn from_message(
        payload: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<Handoff, Error> {
        let message = message::parse(payload)?;
        let (mut connection, mut notify, mut notify_peer, mut pidfd, mut lease) =
            (None, None, None, None, None);
        for (name, descriptor) in named(&message.names, descriptors)? {
            let place = match name {
                b"connection" => &mut connection,
                b"notify" => &mut notify,
                b"notify-peer" => &mut notify_peer,
                b"pidfd" => &mut pidfd,
                b"lease" => &mut lease,
                // Closed here.
                _ => continue,
            };
            *place = Some(descriptor);
        }
        let connection = connection.ok_or(Error::Malformed("no connection"))?;
        let peer = Peer::of(connection.as_fd())?;
        let (uid, gid) = message.claimed()?;
        for (what, claimed, actual) in [("euid", uid, peer.uid), ("egid", gid, peer.gid)] {
            if let Some(claimed) = claimed.filter(|claimed| *claimed != actual) {
                return Err(Error::Forged {
                    what,
                    claimed,
                    actual,
                });
            }
        }
        if !notify.iter().chain(&notify_peer).all(is_stream) {
            return Err(Error::WrongDescriptor("a notification socket"));
        }
        Ok(Handoff {
            peer,
            env: message.env(),
            connection,
            notify,
            notify_peer,
            pidfd,
            lease,
        })
    }
}

/// Descriptors with their names.
///
/// # Errors
/// `Malformed`: there are more names than descriptors, or fewer.
pub(super) fn named<'a>(
    names: &[&'a [u8]],
    descriptors: Vec<OwnedFd>,
) -> Result<impl Iterator<Item = (&'a [u8], OwnedFd)>, Error> {
    if names.len() != descriptors.len() {
        return Err(Error::Malformed(
            "HANDOFF_FDS names another number of descriptors than came",
        ));
    }
    Ok(names.iter().copied().zip(descriptors))
}

fn is_stream(socket: &OwnedFd) -> bool {
    getsockopt(socket, sockopt::SockType) == Ok(SockType::Stream)
}
