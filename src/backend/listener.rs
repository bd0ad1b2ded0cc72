//! A listening backend: doorward connects to it, proves who it is, and brings the channel.
#![forbid(unsafe_code)]

use super::error::{Error, Unable as _};
use super::given::{self, Role};
use super::handoff::named;
use super::message;
use crate::sys;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a connected doorward has to bring the channel: it sends it at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// A listening SEQPACKET socket, and who may come in by it.
///
/// Root and this process's effective user may; others only by [`Listener::allow_uid`]. There is no way to allow everybody: who brings
/// a channel says for whom the backend works.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    allowed: Vec<u32>,
}

impl Listener {
    /// Takes descriptor 3 as a service manager passes it (LISTEN_FDS=1 with this process's LISTEN_PID): under systemd, from a socket
    /// unit with `ListenSequentialPacket=` and `SocketMode=0600`. It becomes close-on-exec. See sd_listen_fds(3).
    ///
    /// # Errors
    /// `NotGiven`: there is none, or it was taken already. `WrongDescriptor`: not a listening Unix SEQPACKET socket (left alone).
    pub fn from_env() -> Result<Listener, Error> {
        given::take(Role::Listener).map(Listener::trusted)
    }

    /// Takes a socket that the caller has bound; it must listen.
    ///
    /// # Errors
    /// `WrongDescriptor`: not a listening Unix SEQPACKET socket; it is closed.
    pub fn from_fd(socket: OwnedFd) -> Result<Listener, Error> {
        given::check(socket.as_fd(), Role::Listener)?;
        Ok(Listener::trusted(socket))
    }

    fn trusted(socket: OwnedFd) -> Listener {
        Listener {
            socket,
            allowed: Vec::new(),
        }
    }

    /// Lets a doorward of another user hand off to this backend (`doorward handoff --run-as`).
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Listener {
        self.allowed.push(uid);
        self
    }

    /// Waits for a doorward; gives its control connection and the channel.
    pub(super) fn accept(&self) -> Result<(OwnedFd, OwnedFd), Error> {
        let control = loop {
            match sys::socket::accept(self.socket.as_fd()) {
                Ok((control, _)) => break control,
                // A client that went away before it was accepted is no error of ours.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(error) => return Err(Error::System("accept a control connection", error)),
            }
        };
        let uid = getsockopt(&control, sockopt::PeerCredentials)
            .unable("ask who wants to hand off")?
            .uid();
        self.may_hand_off(uid)?;
        let channel = receive_channel(control.as_fd())?;
        Ok((control, channel))
    }

    fn may_hand_off(&self, uid: u32) -> Result<(), Error> {
        // (uid_t)-1 is nobody, whatever was allowed.
        let trusted = uid != u32::MAX
            && (uid == 0 || uid == geteuid().as_raw() || self.allowed.contains(&uid));
        trusted.then_some(()).ok_or(Error::Untrusted { uid })
    }
}

/// To wait for a control connection in a loop of one's own.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `HANDOFF=1`, `HANDOFF_FDS=channel`, one descriptor.
fn receive_channel(control: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    wait_readable(control, Instant::now() + PATIENCE)?;
    let mut payload = [0; 4096];
    let received = sys::scm::receive(control, &mut payload, libc::MSG_DONTWAIT)
        .unable("receive the channel")?;
    if received.truncated {
        return Err(Error::Truncated);
    }
    let payload = payload.get(..received.length).unwrap_or_default();
    let message = message::parse(payload)?;
    let (_, channel) = named(&message.names, received.descriptors)?
        .find(|(name, _)| *name == b"channel")
        .ok_or(Error::Malformed("no channel"))?;
    given::check(channel.as_fd(), Role::Channel)?;
    Ok(channel)
}

fn wait_readable(socket: BorrowedFd<'_>, end: Instant) -> Result<(), Error> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], left) {
            Err(Errno::EINTR) => {}
            Ok(0) => {
                return Err(Error::System(
                    "receive the channel",
                    io::ErrorKind::TimedOut.into(),
                ));
            }
            result => return result.map(drop).unable("wait for the channel"),
        }
    }
}
