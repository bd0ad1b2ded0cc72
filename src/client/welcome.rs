//! The greeting, as a client takes it: eleven bytes and one descriptor, and of a stream not a byte more.
#![forbid(unsafe_code)]

use super::error::{Error, Unable as _};
use crate::{greeting, sys};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How much of a refusal is kept, in bytes.
const REFUSAL: usize = 1024;
/// How long the rest of a refusal is waited for: who refuses closes the connection.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// Takes the greeting from a stream or SEQPACKET connection, which is lent; `end` limits the wait.
pub(crate) fn take(connection: BorrowedFd<'_>, end: Option<Instant>) -> Result<UnixStream, Error> {
    let mut descriptors = Vec::new();
    expect(connection, greeting::TEXT, &mut descriptors, end)?;
    let (Some(descriptor), None) = (descriptors.pop(), descriptors.pop()) else {
        return Err(Error::Malformed("not exactly one descriptor came with it"));
    };
    let stream = sys::socket::domain(descriptor.as_fd()).ok() == Some(libc::AF_UNIX)
        && getsockopt(&descriptor, sockopt::SockType) == Ok(SockType::Stream);
    if !stream {
        return Err(Error::Malformed(
            "its descriptor is not a Unix stream socket",
        ));
    }
    Ok(UnixStream::from(descriptor))
}

/// Takes `text`, which a server that lets its client in says first, with no descriptor.
#[cfg(feature = "cli")]
pub(crate) fn take_banner(
    connection: BorrowedFd<'_>,
    text: &[u8],
    end: Option<Instant>,
) -> Result<(), Error> {
    let mut descriptors = Vec::new();
    expect(connection, text, &mut descriptors, end)?;
    if descriptors.is_empty() {
        Ok(())
    } else {
        Err(Error::Malformed("a descriptor came with it"))
    }
}

/// Takes exactly `expected`; anything else is told as the server's refusal.
fn expect(
    connection: BorrowedFd<'_>,
    expected: &[u8],
    descriptors: &mut Vec<OwnedFd>,
    end: Option<Instant>,
) -> Result<(), Error> {
    // What does not fit of a record is lost, so there is room for a refusal; a stream keeps what follows.
    let records = getsockopt(&connection, sockopt::SockType) == Ok(SockType::SeqPacket);
    let mut text = Vec::with_capacity(expected.len());
    while text.len() < expected.len() {
        let room = if records {
            REFUSAL
        } else {
            expected.len() - text.len()
        };
        if !receive(connection, room, &mut text, descriptors, end)? {
            return Err(if text.is_empty() {
                Error::Closed
            } else {
                Error::Refused(readable(&text))
            });
        }
        if !expected.starts_with(&text) || (records && text != expected) {
            return Err(refusal(connection, text));
        }
    }
    Ok(())
}

/// Appends at most `most` bytes and what came with them; false at the end of file.
fn receive(
    connection: BorrowedFd<'_>,
    most: usize,
    text: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
    end: Option<Instant>,
) -> Result<bool, Error> {
    let mut buffer = vec![0; most];
    loop {
        wait(connection, end)?;
        let received = match sys::scm::receive(connection, &mut buffer, libc::MSG_DONTWAIT) {
            Ok(received) => received,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                continue;
            }
            // Who refuses may close with what we sent unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(Error::System("receive the greeting", error)),
        };
        // What is longer is no greeting, so that nothing that came with it matters.
        if received.truncated && received.length <= greeting::TEXT.len() {
            return Err(Error::System(
                "receive the greeting's descriptor",
                Errno::EMFILE.into(),
            ));
        }
        text.extend_from_slice(buffer.get(..received.length).unwrap_or_default());
        descriptors.extend(received.descriptors);
        return Ok(received.length > 0);
    }
}

fn wait(connection: BorrowedFd<'_>, end: Option<Instant>) -> Result<(), Error> {
    loop {
        let limit = match end {
            None => PollTimeout::NONE,
            Some(end) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Error::TimedOut);
                }
                // Rounded up, so that the rest of a millisecond is no busy loop.
                PollTimeout::try_from(left.as_millis().saturating_add(1))
                    .unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(connection, PollFlags::POLLIN)], limit) {
            Ok(0) | Err(Errno::EINTR) => {}
            result => return result.map(drop).unable("wait for the greeting"),
        }
    }
}

/// The rest of what is no greeting, as far as it comes.
fn refusal(connection: BorrowedFd<'_>, mut text: Vec<u8>) -> Error {
    let end = Some(Instant::now() + REFUSAL_PATIENCE);
    let mut unwanted = Vec::new();
    while text.len() < REFUSAL {
        let room = REFUSAL - text.len();
        match receive(connection, room, &mut text, &mut unwanted, end) {
            Ok(true) => unwanted.clear(),
            Ok(false) | Err(_) => break,
        }
    }
    Error::Refused(readable(&text))
}

/// What may be shown on a terminal or put into a log: one line, no control characters.
fn readable(text: &[u8]) -> String {
    let mut shown = String::new();
    for letter in String::from_utf8_lossy(text).trim_end().chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}
