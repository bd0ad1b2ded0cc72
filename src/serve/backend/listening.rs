//! A backend that listens on a socket of its own: connected to, and again.
#![forbid(unsafe_code)]

use super::{Backend, BackendPlan, CONNECTION};
use crate::admission::Servers;
use crate::report::{Seconds, Throttle, event};
use crate::serve::backoff::Backoff;
use crate::source::Address;
use crate::sys;
use crate::sys::scm;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

impl Backend {
    /// Connects to a listening backend, looks who it is, and gives it the channel.
    pub(super) fn connect(&mut self, now: Duration) {
        static WAITING: Throttle = Throttle::new();
        let BackendPlan::Listening { address, servers } = self.plan else {
            return;
        };
        self.connect_at = None;
        match self.try_to_connect(address, servers) {
            Ok(connection) => {
                event!("backend start path={address}");
                // That it is there again is all that doorward can see of its success.
                self.backoff = Backoff::default();
                self.connection = Some((connection, now));
            }
            Err(cause) => {
                let pause = self.backoff.after(Duration::ZERO);
                self.connect_at = Some(now + pause);
                if WAITING.open() {
                    event!(
                        "backend wait path={address} again={} cause={cause}",
                        Seconds(pause)
                    );
                }
            }
        }
    }

    pub(super) fn try_to_connect(
        &self,
        address: &Address,
        servers: &Servers,
    ) -> io::Result<OwnedFd> {
        let connection = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        )?;
        let connection = sys::fd::lift(connection, self.handing.low)?;
        let (_directory, address) = address.reach()?;
        connect(connection.as_raw_fd(), &address)?;
        servers.check(connection.as_fd())?;
        let channel = self.handing.channel();
        scm::send(
            connection.as_fd(),
            b"HANDOFF=1\0HANDOFF_FDS=channel\0",
            &[channel.backend_end()],
        )?;
        self.service
            .slots
            .watch_own(connection.as_fd(), CONNECTION)?;
        Ok(connection)
    }

    pub(super) fn connection_event(&mut self, now: Duration) {
        let Some((connection, began)) = &self.connection else {
            return;
        };
        // A backend has nothing to say here; its end of file is its death.
        match scm::receive(connection.as_fd(), &mut [0; 4096], libc::MSG_DONTWAIT) {
            Ok(received) if received.length > 0 => return,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return;
            }
            _ => {}
        }
        let lived = now.saturating_sub(*began);
        let pause = self.backoff.after(lived);
        self.connection = None;
        self.connect_at = Some(now + pause);
        if let BackendPlan::Listening { address, .. } = self.plan {
            event!(
                "backend exit path={} seconds={} again={}",
                address,
                Seconds(lived),
                Seconds(pause)
            );
        }
    }
}
