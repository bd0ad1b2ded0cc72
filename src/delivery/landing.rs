//! The low descriptor numbers, kept for what children are to get.
//!
//! A child has a copy of the numbers below [`Landings::low`] alone, so what it is to get must stand there when it starts, wherever the
//! kernel put it: a connection that got a high number (because many are held) is moved to a landing for that moment.
#![forbid(unsafe_code)]

use super::layout::{Channels, LAYOUTS_END};
use crate::sys;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// One door's numbers: for the connection, the notification socket, the peer's pidfd. Something harmless stands there meanwhile.
pub(crate) type Landing = [Option<OwnedFd>; 3];

/// The numbers of all doors.
#[derive(Debug)]
pub(crate) struct Landings {
    doors: Vec<Landing>,
    low: RawFd,
    /// Held for good: nothing that a child is to get may ever stand at a number that the child puts something else on.
    _layouts: Vec<OwnedFd>,
}

impl Landings {
    /// Takes the lowest free numbers for `doors` doors, with copies of `null`; `low` is where doorward's own begin at least.
    pub(crate) fn reserve(
        null: BorrowedFd<'_>,
        doors: usize,
        channels: Channels,
        low: RawFd,
    ) -> io::Result<Landings> {
        let mut layouts = Vec::new();
        let mut first = sys::fd::copy_above(null, 3)?;
        while first.as_raw_fd() < LAYOUTS_END {
            layouts.push(std::mem::replace(&mut first, sys::fd::copy_above(null, 3)?));
        }
        drop(first);
        let landing = |wanted: bool| {
            wanted
                .then(|| sys::fd::copy_above(null, LAYOUTS_END))
                .transpose()
        };
        let door = || {
            Ok([
                landing(true)?,
                landing(channels.notify)?,
                landing(channels.pidfd)?,
            ])
        };
        let doors = (0..doors)
            .map(|_| door())
            .collect::<io::Result<Vec<Landing>>>()?;
        // Whoever started us may have left many descriptors open, so that the free numbers are not as low as one would like.
        let highest = doors
            .iter()
            .flatten()
            .flatten()
            .map(|landing| landing.as_raw_fd() + 1)
            .max();
        Ok(Landings {
            doors,
            low: highest.unwrap_or(low).max(low),
            _layouts: layouts,
        })
    }

    /// A child's table holds the numbers below this.
    pub(crate) fn low(&self) -> RawFd {
        self.low
    }

    /// The numbers of one more door.
    pub(crate) fn take(&mut self) -> Option<Landing> {
        self.doors.pop()
    }
}
