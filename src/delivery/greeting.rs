//! What goes beside a connection: the notification socketpair, the greeting that brings the client its end, the peer's pidfd.
#![forbid(unsafe_code)]

use super::{Admitted, Beside, Channels, Trouble};
use crate::greeting::TEXT;
use crate::sys::scm;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socketpair, sockopt};
use std::os::fd::{AsFd as _, OwnedFd};

impl Beside {
    /// Makes what a program gets beside its connection, once.
    pub(crate) fn make(
        &mut self,
        channels: Channels,
        admitted: &Admitted<'_>,
    ) -> Result<(), Trouble> {
        if channels.pidfd {
            self.get_pidfd(admitted)?;
        }
        // Last, because from here on the client has been told that it is served.
        if channels.notify {
            self.greet(admitted)?;
        }
        Ok(())
    }

    /// The notification socket and the pidfd, for a program in place of this process.
    pub(crate) fn into_own(self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        (self.notify, self.pidfd)
    }

    /// Gets the peer's pidfd, once.
    pub(super) fn get_pidfd(&mut self, admitted: &Admitted<'_>) -> Result<(), Trouble> {
        const WHAT: &str = "get the peer's pidfd";
        if self.pidfd.is_none() {
            let pidfd = getsockopt(&admitted.connection, sockopt::PeerPidfd);
            self.pidfd = Some(pidfd.map_err(|error| match error {
                Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => Trouble::Later(WHAT, error.into()),
                error => Trouble::Client(WHAT, error.into()),
            })?);
        }
        Ok(())
    }

    /// Makes the notification socketpair, once.
    pub(super) fn pair(&mut self) -> Result<(), Trouble> {
        if self.notify.is_none() {
            let pair = socketpair(
                AddressFamily::Unix,
                SockType::Stream,
                None,
                SockFlag::SOCK_CLOEXEC,
            );
            let (ours, theirs) =
                pair.map_err(|error| Trouble::Later("make a notification socket", error.into()))?;
            (self.notify, self.notify_peer) = (Some(ours), Some(theirs));
        }
        Ok(())
    }

    /// Sends the client its end of the pair in the greeting, once.
    pub(super) fn greet(&mut self, admitted: &Admitted<'_>) -> Result<(), Trouble> {
        const WHAT: &str = "send a greeting";
        self.pair()?;
        let Some(theirs) = &self.notify_peer else {
            return Ok(());
        };
        // Nothing was sent on this connection yet, so the greeting fits and never has to wait.
        match scm::send(admitted.connection.as_fd(), TEXT, &[theirs.as_fd()]) {
            Ok(sent) if sent == TEXT.len() => {
                self.notify_peer = None;
                Ok(())
            }
            Ok(_) => Err(Trouble::Client(WHAT, Errno::EPROTO.into())),
            // Limits pass. Everything else (EPERM, EPIPE, what a security module says) will be the same next time, and a door that tried
            // again for ever would be lost to all others.
            Err(error) => Err(match error.raw_os_error().map(Errno::from_raw) {
                Some(
                    Errno::ETOOMANYREFS
                    | Errno::EMFILE
                    | Errno::ENFILE
                    | Errno::ENOMEM
                    | Errno::ENOBUFS
                    | Errno::EAGAIN
                    | Errno::EINTR,
                ) => Trouble::Later(WHAT, error),
                _ => Trouble::Client(WHAT, error),
            }),
        }
    }
}
