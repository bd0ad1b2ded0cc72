//! One message for each connection: its descriptors and what is known of it, to whichever backend takes it from the channel.
#![forbid(unsafe_code)]

use super::channel::{Channel, LONGEST, Sent};
use super::env::{Connection, Template};
use super::{Admitted, Beside, Deliver, Held, Trouble};
use crate::sys::cvec::CVec;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How long a door waits for a backend to take a message before it looks again, in milliseconds.
const PATIENCE: u16 = 100;

/// Who gets the client's end of the notification socketpair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum NotifyTo {
    /// the backend gets both ends, and sends the client its own when it likes
    Backend,
    /// the client gets its end in a greeting, first thing on the connection
    Client,
    /// there is no notification socket
    None,
}

impl NotifyTo {
    /// As `--notify-to` takes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            NotifyTo::Backend => "backend",
            NotifyTo::Client => "client",
            NotifyTo::None => "none",
        }
    }
}

/// What is the same for every hand-off.
pub(crate) struct Handing {
    pub(crate) template: Template,
    pub(crate) notify_to: NotifyTo,
    pub(crate) pidfd: bool,
    /// Whether slots are counted, so that a backend's hold on a connection must be seen.
    pub(crate) lease: bool,
    /// Messages that may wait in the channel.
    pub(crate) ahead: usize,
    pub(crate) low: RawFd,
    /// Exchanged whole when a backend shut it down.
    pub(crate) channel: RwLock<Arc<Channel>>,
    /// The channel must be exchanged: set by a door, cleared by the control thread.
    pub(crate) broken: AtomicBool,
    /// The control thread wants to hear of the next message (nobody is there to take it).
    pub(crate) unattended: AtomicBool,
}

impl Handing {
    /// The channel of this moment.
    pub(crate) fn channel(&self) -> Arc<Channel> {
        // A writer only stores a finished channel.
        Arc::clone(&self.channel.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether something happened that the control thread must see to; once per cause.
    pub(crate) fn needs_control(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
            || self.unattended.load(Ordering::SeqCst)
                && self.unattended.swap(false, Ordering::SeqCst)
    }
}

/// A door's place of work: the buffer of one message.
pub(super) struct Counter {
    handing: &'static Handing,
    payload: CVec,
}

impl Counter {
    pub(super) fn new(handing: &'static Handing) -> Counter {
        Counter {
            handing,
            payload: CVec::default(),
        }
    }

    fn compose(&mut self, admitted: &Admitted<'_>, beside: &Beside) -> Result<(), Trouble> {
        let names = names(beside);
        let connection = Connection::of(admitted);
        self.handing
            .template
            .hand_off(&mut self.payload, &["HANDOFF=1", names], &connection);
        let length = self.payload.all().len();
        if length > LONGEST {
            Err(Trouble::TooLarge(length))
        } else {
            Ok(())
        }
    }
}

impl Deliver for Counter {
    fn has_room(&mut self) -> bool {
        let channel = self.handing.channel();
        let room = channel.has_room(self.handing.ahead);
        if !room {
            channel.wait_for_taking(PATIENCE);
        }
        room
    }

    fn deliver(&mut self, admitted: &Admitted<'_>, beside: &mut Beside) -> Result<Held, Trouble> {
        let handing = self.handing;
        if handing.pidfd {
            beside.get_pidfd(admitted)?;
        }
        if handing.lease && beside.lease.is_none() {
            let pipe = pipe2(OFlag::O_CLOEXEC);
            beside.lease =
                Some(pipe.map_err(|error| Trouble::Later("make a lease", error.into()))?);
        }
        match handing.notify_to {
            NotifyTo::Backend => beside.pair()?,
            NotifyTo::Client if beside.notify.is_none() || beside.notify_peer.is_some() => {
                // What would be refused for its size must be so before the client is told that it is served.
                beside.pair()?;
                self.compose(admitted, beside)?;
                beside.greet(admitted)?;
            }
            NotifyTo::Client | NotifyTo::None => {}
        }
        self.compose(admitted, beside)?;
        let mut descriptors = [admitted.connection.as_fd(); 5];
        let count = fill(&mut descriptors, beside);
        let channel = handing.channel();
        match channel.send(
            self.payload.all(),
            descriptors.get(..count).unwrap_or_default(),
            handing.ahead,
        ) {
            Ok(Sent::Queued) => Ok(beside
                .lease
                .take()
                .map_or(Held::Nothing, |(ours, _)| Held::Lease(ours))),
            Ok(Sent::Full) => {
                channel.wait_for_taking(PATIENCE);
                Err(Trouble::Full)
            }
            Ok(Sent::Broken) => {
                handing.broken.store(true, Ordering::SeqCst);
                Err(Trouble::Later(
                    "hand a connection off",
                    io::Error::from(Errno::EPIPE),
                ))
            }
            Err(error) => Err(Trouble::Later("hand a connection off", error)),
        }
    }
}

/// The descriptors in the order of [`names`]; the connection stands first already.
fn fill<'a>(descriptors: &mut [BorrowedFd<'a>; 5], beside: &'a Beside) -> usize {
    let lease = beside.lease.as_ref().map(|(_, theirs)| theirs);
    let others = [
        beside.notify.as_ref(),
        beside.notify_peer.as_ref(),
        beside.pidfd.as_ref(),
        lease,
    ];
    let mut count = 1;
    for (place, descriptor) in descriptors
        .iter_mut()
        .skip(1)
        .zip(others.into_iter().flatten())
    {
        *place = descriptor.as_fd();
        count += 1;
    }
    count
}

/// `HANDOFF_FDS`: the names of what is there.
fn names(beside: &Beside) -> &'static str {
    match (
        beside.notify.is_some(),
        beside.notify_peer.is_some(),
        beside.pidfd.is_some(),
        beside.lease.is_some(),
    ) {
        (false, _, false, false) => "HANDOFF_FDS=connection",
        (false, _, false, true) => "HANDOFF_FDS=connection:lease",
        (false, _, true, false) => "HANDOFF_FDS=connection:pidfd",
        (false, _, true, true) => "HANDOFF_FDS=connection:pidfd:lease",
        (true, false, false, false) => "HANDOFF_FDS=connection:notify",
        (true, false, false, true) => "HANDOFF_FDS=connection:notify:lease",
        (true, false, true, false) => "HANDOFF_FDS=connection:notify:pidfd",
        (true, false, true, true) => "HANDOFF_FDS=connection:notify:pidfd:lease",
        (true, true, false, false) => "HANDOFF_FDS=connection:notify:notify-peer",
        (true, true, false, true) => "HANDOFF_FDS=connection:notify:notify-peer:lease",
        (true, true, true, false) => "HANDOFF_FDS=connection:notify:notify-peer:pidfd",
        (true, true, true, true) => "HANDOFF_FDS=connection:notify:notify-peer:pidfd:lease",
    }
}
