//! The caller, as `answer` speaks with it: in doorward's own words or in those of s6-sudod.
#![forbid(unsafe_code)]

use super::frame::{self, No, Reply};
use super::receive::{Parser, is_passing};
use super::{patience, s6, wire};
use crate::sys::scm;
use crate::sys::wait::End;
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a caller may leave an answer unread that has no room: it has a few bytes at most to read.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much of what a refused caller has sent is read, so that it finds the refusal and no reset.
const MOST_DROPPED: usize = 2 * wire::LARGEST;

/// Whose words are spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Doorward,
    S6,
}

impl Protocol {
    pub(super) fn parser(self) -> Parser {
        match self {
            Protocol::Doorward => wire::parse,
            Protocol::S6 => s6::parse,
        }
    }

    /// What the answering side says first.
    pub(super) fn banner(self) -> &'static [u8] {
        match self {
            Protocol::Doorward => wire::BANNER,
            Protocol::S6 => s6::SERVER_BANNER,
        }
    }
}

/// What came from a caller whose program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    Signal(Signal),
    /// Its end of the program's terminal is set up.
    Prepared,
    /// End of file: it is dead, or as good as that.
    Gone,
    /// What no caller says.
    Nonsense,
}

#[derive(Debug)]
pub(super) struct Caller {
    connection: OwnedFd,
    protocol: Protocol,
    /// A message that is not whole yet.
    begun: Vec<u8>,
}

impl Caller {
    /// Says the banner: from here on the caller knows that it was let in.
    pub(super) fn greet(connection: OwnedFd, protocol: Protocol) -> io::Result<Caller> {
        let caller = Caller {
            connection,
            protocol,
            begun: Vec::new(),
        };
        match caller.send(protocol.banner(), PATIENCE) {
            // Nobody is there any more; the request will not come, which is seen next.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => Ok(caller),
            result => result.map(|()| caller),
        }
    }

    pub(super) fn connection(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// Whether signals and stops are spoken of.
    fn is_rich(&self) -> bool {
        self.protocol == Protocol::Doorward
    }

    /// Tells what became of the request. A caller that has gone, or does not read, misses it.
    pub(super) fn tell(&self, reply: Reply) {
        let status;
        let rich = reply.bytes();
        let words: &[u8] = match (self.is_rich(), reply) {
            (true, _) => &rich,
            (false, Reply::No(_) | Reply::Terminal | Reply::Stopped(_) | Reply::Foreground) => {
                return;
            }
            (false, Reply::Started) => &[0],
            // One byte, and 0 would say that it runs.
            (false, Reply::NotStarted(errno)) => {
                &[u8::try_from(errno).unwrap_or(127).clamp(1, 127)]
            }
            (false, Reply::Exited(code)) => {
                status = s6::status(End::Code(i32::from(code)));
                &status
            }
            (false, Reply::Killed(signal)) => {
                status = s6::status(End::Signal(signal));
                &status
            }
        };
        // A caller that leaves many stops unread misses the next; the program's end does not wait for it.
        let patience = match reply {
            Reply::Stopped(_) => Duration::ZERO,
            _ => PATIENCE,
        };
        let _ = self.send(words, patience);
    }

    /// Gives it the other end of the program's terminal.
    pub(super) fn offer(&self, terminal: BorrowedFd<'_>) -> io::Result<()> {
        // It has nothing unread but the banner, so there is room.
        scm::send(self.connection(), &Reply::Terminal.bytes(), &[terminal]).map(drop)
    }

    /// Refuses what was asked for. What the caller still sends is read for a moment, or it would find a reset in place of this answer.
    pub(super) fn dismiss(&self, no: No) {
        self.tell(Reply::No(no));
        let _ = shutdown(self.connection.as_raw_fd(), Shutdown::Write);
        let end = Instant::now() + PATIENCE;
        let mut dropped = 0;
        let mut buffer = [0; 64 * 1024];
        while dropped < MOST_DROPPED {
            if patience::wait(self.connection(), PollFlags::POLLIN, Some(end)).is_err() {
                return;
            }
            match scm::receive(self.connection(), &mut buffer, libc::MSG_DONTWAIT) {
                Ok(received) if received.length > 0 => dropped += received.length,
                Err(error) if is_passing(&error) => {}
                _ => return,
            }
        }
    }

    fn send(&self, mut words: &[u8], patience: Duration) -> io::Result<()> {
        let end = Instant::now() + patience;
        while !words.is_empty() {
            match scm::send(self.connection(), words, &[]) {
                Ok(sent) => words = words.get(sent..).unwrap_or_default(),
                Err(error) if is_passing(&error) => {
                    patience::wait(self.connection(), PollFlags::POLLOUT, Some(end))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether it is gone, or will be within `moment`.
    pub(super) fn goes_within(&self, moment: Duration) -> bool {
        // Data that is not read yet does not set it.
        let gone = PollFlags::from_bits_retain(libc::POLLRDHUP);
        patience::wait(self.connection(), gone, Some(Instant::now() + moment)).is_ok()
    }

    /// What it says now; `None`: nothing whole.
    pub(super) fn hear(&mut self) -> Option<Word> {
        let mut buffer = [0; frame::LENGTH];
        let missing = frame::LENGTH.saturating_sub(self.begun.len());
        let room = buffer.get_mut(..missing).unwrap_or_default();
        let received = match scm::receive(self.connection.as_fd(), room, libc::MSG_DONTWAIT) {
            Ok(received) => received,
            Err(error) if is_passing(&error) => return None,
            Err(_) => return Some(Word::Gone),
        };
        if received.length == 0 {
            return Some(Word::Gone);
        }
        if !self.is_rich() {
            // s6-sudoc says nothing more; whatever it is, it is dropped.
            return None;
        }
        if !received.descriptors.is_empty() || received.truncated {
            return Some(Word::Nonsense);
        }
        self.begun
            .extend_from_slice(room.get(..received.length).unwrap_or_default());
        let whole: [u8; frame::LENGTH] = self.begun.as_slice().try_into().ok()?;
        self.begun.clear();
        if whole == frame::PREPARED {
            return Some(Word::Prepared);
        }
        Some(match frame::read_signal(whole) {
            Some(signal) => Word::Signal(signal),
            None => Word::Nonsense,
        })
    }
}
