//! What workers tell of themselves: readiness, status, watchdog.
#![forbid(unsafe_code)]

use super::worker::State;
use super::{AT_ONCE, Backend};
use crate::sys::scm;
use crate::{clock, sys};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, getsockname, setsockopt, socket, sockopt,
};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

impl Backend {
    /// What workers say on the notification socket; others are not heard.
    pub(super) fn hear(&mut self) {
        let mut text = [0; 4096];
        // Everybody may send here, without end: the other events have their turn in between.
        for _ in 0..AT_ONCE {
            let Some((socket, _)) = &self.notify else {
                return;
            };
            let Ok(received) = scm::receive(socket.as_fd(), &mut text, libc::MSG_DONTWAIT) else {
                return;
            };
            let index = self.workers.iter().position(
                |worker| matches!(&worker.state, State::Up(up) if received.sender == Some(up.pid)),
            );
            let (Some(index), Some(said)) = (index, text.get(..received.length)) else {
                continue;
            };
            for line in said.split(|&byte| byte == b'\n') {
                match line {
                    b"READY=1" => self.update(index, |up| up.ready = true),
                    b"WATCHDOG=1" => self.update(index, |up| up.pinged = Some(clock::now())),
                    b"STOPPING=1" => self.update(index, |up| up.ready = false),
                    _ => {
                        if let Some(status) = line.strip_prefix(b"STATUS=") {
                            self.status = String::from_utf8_lossy(status)
                                .chars()
                                .filter(|letter| !letter.is_control())
                                .take(200)
                                .collect();
                        }
                    }
                }
            }
        }
    }
}

/// A datagram socket with a name that the kernel chose in the abstract namespace; each message tells its sender's pid.
pub(super) fn notify_socket(low: std::os::fd::RawFd) -> io::Result<(OwnedFd, String)> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let socket = sys::fd::lift(socket, low)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
    let address: UnixAddr = getsockname(socket.as_raw_fd())?;
    let name = address
        .as_abstract()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    name.map(|name| (socket, name))
        .ok_or_else(|| io::Error::other("the kernel gave the notification socket no name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notification_socket_has_a_name() -> io::Result<()> {
        let (_socket, name) = notify_socket(3)?;
        assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit()) && !name.is_empty());
        Ok(())
    }
}
