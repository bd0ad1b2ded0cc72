//! A request as it comes in: its bytes up to the last, and the descriptors that came with them.
#![forbid(unsafe_code)]

use super::patience;
use super::wire::{MOST_DESCRIPTORS, Malformed, Parsed};
use crate::sys::scm;
use nix::libc;
use nix::poll::PollFlags;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

/// Memory is taken by this much at a time, as bytes arrive, whatever length they claim.
const CHUNK: usize = 64 * 1024;

/// How a protocol reads its request.
pub(super) type Parser = fn(&[u8]) -> Result<Parsed<'_>, Malformed>;

/// A whole request, by the parser that was given.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Broken {
    Malformed(Malformed),
    /// More than any request has, or some were lost.
    Descriptors,
    /// The caller has gone.
    Gone,
    TooLate,
    System(io::Error),
}

/// Receives until `parse` has a whole request; not a byte behind it is taken.
pub(super) fn take(
    connection: BorrowedFd<'_>,
    end: Instant,
    parse: Parser,
) -> Result<Message, Broken> {
    let mut bytes = Vec::new();
    let mut descriptors = Vec::new();
    let mut chunk = Vec::new();
    while let Parsed::Missing(missing) = parse(&bytes).map_err(Broken::Malformed)? {
        let missing = missing.min(CHUNK);
        // As large as it has to be: most requests are a page or two.
        chunk.resize(missing.max(chunk.len()), 0);
        patience::wait(connection, PollFlags::POLLIN, Some(end)).map_err(Broken::of)?;
        let room = chunk.get_mut(..missing).unwrap_or_default();
        let received = match scm::receive(connection, room, libc::MSG_DONTWAIT) {
            Ok(received) => received,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(Broken::of(error)),
        };
        if received.truncated || descriptors.len() + received.descriptors.len() > MOST_DESCRIPTORS {
            return Err(Broken::Descriptors);
        }
        if received.length == 0 {
            return Err(Broken::Gone);
        }
        descriptors.extend(received.descriptors);
        bytes.extend_from_slice(room.get(..received.length).unwrap_or_default());
    }
    Ok(Message { bytes, descriptors })
}

/// Whether it is worth another try at once.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

impl Broken {
    pub(super) fn of(error: io::Error) -> Broken {
        match error.kind() {
            io::ErrorKind::TimedOut => Broken::TooLate,
            io::ErrorKind::ConnectionReset => Broken::Gone,
            _ => Broken::System(error),
        }
    }
}
