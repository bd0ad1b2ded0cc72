//! One direction: reads as much as there is, and reads on when all of it was taken, so that a slow reader slows its writer down.
#![forbid(unsafe_code)]

use super::{Direction, Moved, Stopped};
use crate::sys::now::{read_now, write_now};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, SockType, getsockopt, shutdown, sockopt};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

/// Twice what a pipe holds, and most of what a socket does; more was measured to be no faster.
const BUFFER: usize = 128 << 10;

/// One end of a direction, and what messages call it.
#[derive(Debug)]
pub(crate) struct Side {
    fd: OwnedFd,
    name: &'static str,
    is_socket: bool,
}

impl Side {
    /// # Errors
    /// What is wrong with it: bytes can be relayed neither to nor from a listening socket, and records would lose their bounds.
    pub(crate) fn new(fd: OwnedFd, name: &'static str) -> Result<Side, String> {
        let kind = getsockopt(&fd, sockopt::SockType);
        if let Ok(kind) = kind {
            if getsockopt(&fd, sockopt::AcceptConn) == Ok(true) {
                return Err(format!("{name} is a listening socket, not a connection"));
            }
            if kind != SockType::Stream {
                return Err(format!(
                    "{name} is a socket of records, which a relay would run together; it takes streams"
                ));
            }
        }
        let is_socket = kind != Err(Errno::ENOTSOCK);
        Ok(Side {
            fd,
            name,
            is_socket,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Shuts down the half that the direction used. A failure means that there is nothing to shut down any more.
    fn shut_down(&self, half: Shutdown) {
        if self.is_socket {
            let _ = shutdown(self.fd.as_raw_fd(), half);
        }
    }
}

/// What a side was asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Read,
    Write,
}

/// How a direction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// All that came was taken, up to the end of file.
    Whole,
    /// Nobody takes anything any more; all that had come was taken.
    Unheard,
    /// Nobody was there any more to take something that had come.
    Unwanted,
}

pub(super) struct Flow<'a> {
    from: Side,
    to: Side,
    moved: &'a Moved,
}

impl Flow<'_> {
    pub(super) fn new(direction: Direction, moved: &Moved) -> Flow<'_> {
        let Direction { from, to } = direction;
        Flow { from, to, moved }
    }

    /// Copies until there is no more to copy, and tells both neighbours by closing.
    pub(super) fn run(self) -> Result<Ended, Stopped> {
        let ended = self.copy()?;
        match ended {
            Ended::Whole => self.to.shut_down(Shutdown::Write),
            Ended::Unheard | Ended::Unwanted => self.from.shut_down(Shutdown::Read),
        }
        Ok(ended)
    }

    fn copy(&self) -> Result<Ended, Stopped> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match read_now(self.from.fd.as_fd(), &mut buffer) {
                Ok(0) => return Ok(Ended::Whole),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.wait_for_more()? {
                        continue;
                    }
                    return Ok(Ended::Unheard);
                }
                Err(error) => return Err(failed(Act::Read, &self.from, error)),
            };
            self.moved.now();
            if !self.pass_on(buffer.get(..count).unwrap_or_default())? {
                return Ok(Ended::Unwanted);
            }
        }
    }

    /// Waits until something has come, the end of file included; false if nobody takes anything any more.
    fn wait_for_more(&self) -> Result<bool, Stopped> {
        let mut both = [
            PollFd::new(self.from.fd.as_fd(), PollFlags::POLLIN),
            // No event is asked for: POLLERR and POLLHUP are told in any case.
            PollFd::new(self.to.fd.as_fd(), PollFlags::empty()),
        ];
        wait(&mut both).map_err(|error| failed(Act::Read, &self.from, error))?;
        let [from, to] = &both;
        // What has come goes first: only the attempt to pass it on tells whether something is lost.
        Ok(from.any().unwrap_or(true) || !to.any().unwrap_or(false))
    }

    /// Writes all of `bytes`; false if nobody takes them.
    fn pass_on(&self, mut bytes: &[u8]) -> Result<bool, Stopped> {
        while !bytes.is_empty() {
            match write_now(self.to.fd.as_fd(), bytes) {
                Ok(0) => return Err(failed(Act::Write, &self.to, ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.moved.now();
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => self.wait_for_room()?,
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => return Ok(false),
                    _ => return Err(failed(Act::Write, &self.to, error)),
                },
            }
        }
        Ok(true)
    }

    fn wait_for_room(&self) -> Result<(), Stopped> {
        let to: BorrowedFd<'_> = self.to.fd.as_fd();
        wait(&mut [PollFd::new(to, PollFlags::POLLOUT)])
            .map_err(|error| failed(Act::Write, &self.to, error))
    }
}

fn wait(descriptors: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(descriptors, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

fn failed(act: Act, side: &Side, error: io::Error) -> Stopped {
    Stopped::Failed(act, side.name, error)
}
