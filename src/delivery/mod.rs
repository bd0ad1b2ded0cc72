//! What an admitted connection is given to: a child of its own, or a backend that lives on.
#![forbid(unsafe_code)]

mod channel;
mod child;
mod env;
mod greeting;
mod handoff;
mod landing;
mod layout;
mod program;
mod seat;

pub(crate) use channel::Channel;
pub(crate) use child::Recipe;
pub(crate) use env::Template;
pub(crate) use handoff::{Handing, NotifyTo};
pub(crate) use landing::Landings;
pub(crate) use layout::{Channels, LAYOUTS_END, Layout, NOTIFY, PIDFD, SocketLayout};
pub(crate) use program::{Program, execlineb};

use crate::admission::Peer;
use crate::sys::spawn::{Note, Noted};
use nix::libc;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// An admitted connection, to be delivered.
pub(crate) struct Admitted<'a> {
    pub(crate) connection: OwnedFd,
    pub(crate) peer: &'a Peer,
    pub(crate) peer_name: &'a [u8],
    pub(crate) local_path: &'a OsStr,
    /// Connections that this user has open, this one included; `None`: nobody has counted.
    pub(crate) number: Option<u32>,
    /// Slots in use, this one included.
    pub(crate) slots: u32,
    pub(crate) rule_env: &'a [(Vec<u8>, Option<Vec<u8>>)],
    /// The rule's execline script, in place of the program.
    pub(crate) exec: Option<&'a [u8]>,
}

/// What goes beside the connection, made once for each, however often the delivery is tried.
#[derive(Default)]
pub(crate) struct Beside {
    /// Our side's end of the notification socketpair.
    notify: Option<OwnedFd>,
    /// The client's end, where it goes through a backend.
    notify_peer: Option<OwnedFd>,
    /// The peer's pidfd.
    pidfd: Option<OwnedFd>,
    /// Read end and write end of the pipe that tells when a backend is done.
    lease: Option<(OwnedFd, OwnedFd)>,
}

impl Beside {
    /// Whether the client was sent its end of the notification socketpair.
    pub(crate) fn greeted(&self) -> bool {
        self.notify.is_some() && self.notify_peer.is_none()
    }
}

/// What keeps the slot of a delivered connection.
#[derive(Debug)]
pub(crate) enum Held {
    Child(Noted),
    /// The read end of the lease.
    Lease(OwnedFd),
    Nothing,
}

impl Held {
    /// The child's pid.
    pub(crate) fn child(&self) -> Option<libc::pid_t> {
        match self {
            Held::Child(child) => Some(child.pid),
            Held::Lease(_) | Held::Nothing => None,
        }
    }
}

/// Why a connection was not delivered.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A limit, or no memory: try again with the same connection. What was tried, and why not.
    Later(&'static str, io::Error),
    /// Nothing is wrong, there is no room yet: try again.
    Full,
    /// The connection is lost: its client takes no descriptors or is gone.
    Client(&'static str, io::Error),
    /// The program cannot be run.
    Program(String, io::Error),
    /// A rule's variables make a message that no backend would take.
    TooLarge(usize),
}

/// What a door shares with whoever reaps of the child that it is creating.
#[derive(Debug, Default)]
pub(crate) struct Newborn {
    /// Its pid is the child's from before it runs until it is entered or has failed; else 0.
    pub(crate) note: Arc<Note>,
    /// Whether children are to have pidfds.
    pub(crate) wants_pidfd: AtomicBool,
}

/// One door's way to deliver, with what it uses again each time; nobody else touches it.
pub(crate) trait Deliver: Send {
    /// Whether one more connection can be taken on; waits a while if not (a signal ends the wait).
    fn has_room(&mut self) -> bool {
        true
    }

    /// Where children are created: the one that is being so.
    fn newborn(&self) -> Option<Arc<Newborn>> {
        None
    }

    /// Delivers. After [`Trouble::Later`] and [`Trouble::Full`] it is called again with the same `Beside`.
    fn deliver(&mut self, admitted: &Admitted<'_>, beside: &mut Beside) -> Result<Held, Trouble>;
}

/// How connections are delivered.
pub(crate) enum Delivery {
    Spawn(Recipe),
    Handoff(Handing),
}

impl Delivery {
    /// # Errors
    /// There is no memory, or no landing left.
    pub(crate) fn desk(&'static self, landings: &mut Landings) -> io::Result<Box<dyn Deliver>> {
        Ok(match self {
            Delivery::Spawn(recipe) => Box::new(child::Bench::new(recipe, landings)?),
            Delivery::Handoff(handing) => Box::new(handoff::Counter::new(handing)),
        })
    }

    /// Whether the `exec` of a rule can be run.
    pub(crate) fn runs_scripts(&self) -> bool {
        matches!(self, Delivery::Spawn(recipe) if recipe.execlineb.is_some())
    }

    /// The program that each connection gets.
    pub(crate) fn program(&self) -> Option<&CStr> {
        match self {
            Delivery::Spawn(recipe) => Some(&recipe.program.path),
            Delivery::Handoff(_) => None,
        }
    }

    /// Whether clients get a greeting.
    pub(crate) fn greets(&self) -> bool {
        match self {
            Delivery::Spawn(recipe) => recipe.channels.notify,
            Delivery::Handoff(handing) => handing.notify_to == NotifyTo::Client,
        }
    }

    /// In words, for the start line.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Delivery::Spawn(recipe) => recipe.channels.layout.words(),
            Delivery::Handoff(_) => "handing connections off",
        }
    }

    /// doorward's own descriptors stand here and above.
    pub(crate) fn low(&self) -> RawFd {
        match self {
            Delivery::Spawn(recipe) => recipe.low,
            Delivery::Handoff(handing) => handing.low,
        }
    }
}
