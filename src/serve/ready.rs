//! Readiness and status, told to the service manager (sd_notify(3)) or to a supervisor (a newline on a descriptor).
#![forbid(unsafe_code)]

use crate::report::{Escaped, warning};
use crate::sys;
use sd_notify::NotifyState;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager behind NOTIFY_SOCKET; without one every message goes nowhere.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// What it had no room for yet, in order.
    waiting: VecDeque<String>,
}

impl Manager {
    /// `address` is the value of NOTIFY_SOCKET: a path, or `@` and an abstract name (which the crate cannot reach).
    pub(crate) fn at(address: Option<&OsStr>, low: RawFd) -> Manager {
        let Some(address) = address else {
            return Manager::default();
        };
        let shown = Escaped(address.as_bytes());
        let target = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(address),
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "neither a path nor an abstract name",
            )),
        };
        let socket = || -> io::Result<UnixDatagram> {
            let socket = UnixDatagram::unbound()?;
            // A manager that is stuck must not stop us.
            socket.set_nonblocking(true)?;
            Ok(UnixDatagram::from(sys::fd::lift(
                OwnedFd::from(socket),
                low,
            )?))
        };
        match target.and_then(|target| Ok((socket()?, target))) {
            Ok(socket) => Manager {
                socket: Some(socket),
                waiting: VecDeque::new(),
            },
            Err(error) => {
                warning!("unable to use NOTIFY_SOCKET {shown}: {error}");
                Manager::default()
            }
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether something waits for room.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends `states` in one datagram, or keeps it until there is room.
    pub(crate) fn tell(&mut self, states: &[NotifyState<'_>]) {
        if self.is_there() {
            self.waiting.push_back(datagram(states));
            self.catch_up();
        }
    }

    /// Sends a status line, unless it does not fit now: the next will say more. Gives whether it went off.
    pub(crate) fn tell_status(&mut self, status: &str) -> bool {
        if self.is_behind() {
            return false;
        }
        let text = datagram(&[NotifyState::Status(&one_line(status))]);
        self.socket
            .as_ref()
            .is_some_and(|(socket, target)| socket.send_to_addr(text.as_bytes(), target).is_ok())
    }

    /// Sends what waits; gives whether some is left.
    pub(crate) fn catch_up(&mut self) -> bool {
        let Some((socket, target)) = &self.socket else {
            return false;
        };
        while let Some(message) = self.waiting.front() {
            match socket.send_to_addr(message.as_bytes(), target) {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        || error.raw_os_error() == Some(nix::libc::ENOBUFS) =>
                {
                    return true;
                }
                Err(error) => warning!("unable to notify the service manager: {error}"),
                Ok(_) => {}
            }
            self.waiting.pop_front();
        }
        false
    }
}

fn datagram(states: &[NotifyState<'_>]) -> String {
    let mut text = String::new();
    for state in states {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{state}");
    }
    text
}

/// A newline would begin another assignment, which the crate lets through.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// `--ready-fd N`: gets a newline and is closed, as s6's notification-fd wants it.
#[derive(Debug)]
pub(crate) struct ReadyFd(pub(crate) OwnedFd);

impl ReadyFd {
    pub(crate) fn announce(self) {
        if let Err(error) = nix::unistd::write(&self.0, b"\n") {
            warning!("unable to tell readiness on --ready-fd: {}", error.desc());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_assignment() {
        assert_eq!(
            datagram(&[NotifyState::Status(&one_line("a\nREADY=1"))]),
            "STATUS=a READY=1\n"
        );
    }
}
