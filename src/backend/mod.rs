//! The receiving end of `doorward handoff`: connections that were accepted and checked, one message each.
//!
//! A backend that doorward starts finds its channel in the environment ([`Backend::from_env`]); one that lives by itself listens, and
//! doorward brings the channel ([`Backend::accept_from`]). From then on both are the same: [`Backend::recv`] until it gives `None`.
//! The wire format is docs/PROTOCOL.md of the source.
//!
//! ```no_run
//! use doorward::backend::{Backend, Error};
//! use std::{io::Write, os::unix::net::UnixStream};
//!
//! fn main() -> Result<(), Error> {
//!     let mut backend = Backend::from_env()?.on_drop(|why| eprintln!("dropped a connection: {why}"));
//!     while let Some(mut handoff) = backend.recv()? {
//!         let greeted = handoff.greet();
//!         let mut connection = UnixStream::from(handoff.connection);
//!         let _ = greeted.is_ok() && writeln!(connection, "you are user {}", handoff.peer.uid).is_ok();
//!     } // Here the connection, the notification socket and the lease are closed: the client's slot is free.
//!     Ok(())
//! }
//! ```
//!
//! # What is dropped
//! A message that is malformed, cut short or forged (its payload names another user or group than the connection's SO_PEERCRED) costs
//! its one connection and never the service: everything that came with it is closed, [`Backend::dropped`] counts it, and the function
//! given to [`Backend::on_drop`] is told, which should log it. The library itself prints nothing.
//!
//! # The limit of descriptors
//! The kernel gives a receiver at its descriptor limit the data without the descriptors, and the connection is lost. So before each
//! message is taken this library opens and closes as many descriptors as a message can hold; without room nothing is received, and the
//! message waits in the channel. Other threads that open descriptors in the few instructions between can still take the room; then the
//! connection is lost, and dropped as above.
#![forbid(unsafe_code)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod error;
mod given;
mod handoff;
mod listener;
mod message;
mod room;
#[cfg(test)]
mod tests;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncBackend;
pub use error::Error;
pub use handoff::{Handoff, Peer};
pub use listener::Listener;
pub use message::Environment;

use crate::sys::scm::Batch;
use error::Unable as _;
use given::Role;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// One byte more than a payload may have, so that what is larger shows.
const PAYLOAD: usize = message::LARGEST + 1;
/// How often room is looked for when there is none; the kernel has no event for it.
const PAUSE: Duration = Duration::from_millis(20);

/// The other side has closed, or will send no more (nix has no name for POLLRDHUP).
const END: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// The answer of [`Backend::try_recv`].
#[derive(Debug)]
pub enum Next {
    /// A connection.
    Handoff(Box<Handoff>),
    /// None is waiting.
    Nothing,
    /// This process is at its descriptor limit; what is waiting stays in the channel. Close something, or pause, before asking again.
    NoRoom,
    /// doorward has gone, and everything it had sent was received.
    Gone,
}

/// The channel, from which connections come.
///
/// It owns the channel and, in a listening backend, the control connection, by whose hang-up doorward learns that this backend is gone;
/// dropping it closes both. Descriptors are received with MSG_DONTWAIT: no flag of the channel, which is shared with doorward, is changed.
pub struct Backend {
    channel: OwnedFd,
    control: Option<OwnedFd>,
    batch: Batch,
    /// Taken from the channel, and not asked for yet.
    received: VecDeque<Handoff>,
    /// The last batch of several was full, so that more may be waiting.
    expects_more: bool,
    dropped: u64,
    on_drop: Option<Hook>,
}

/// Told of each message that was dropped.
type Hook = Box<dyn FnMut(&Error) + Send>;

impl Backend {
    /// Takes descriptor 3 as doorward gives it to a backend that it starts: LISTEN_FDS=1, LISTEN_PID this process,
    /// LISTEN_FDNAMES=handoff. It becomes close-on-exec. The environment is not changed: LISTEN_PID keeps children from believing it.
    /// Call it early: a program that has put something else on 3 meanwhile finds it refused at best. See sd_listen_fds(3).
    ///
    /// # Errors
    /// `NotGiven`: not started so, or taken already. `WrongDescriptor`: not a connected Unix SEQPACKET socket; it is left alone.
    pub fn from_env() -> Result<Backend, Error> {
        Ok(Backend::new(given::take(Role::Channel)?, None))
    }

    /// Waits until a doorward connects to `listener` (lent), checks its user, and takes the channel that it brings, within 5 seconds. The
    /// control connection is kept as the sign of life of both.
    ///
    /// # Errors
    /// `Untrusted`: another user connected and was hung up on; `Malformed`, `Truncated`, `WrongDescriptor`, `System` with `TimedOut`: who
    /// connected is no doorward. After these call it again. `System`, else: accept(2) failed; with EMFILE pause before calling it again.
    pub fn accept_from(listener: &Listener) -> Result<Backend, Error> {
        let (control, channel) = listener.accept()?;
        Ok(Backend::new(channel, Some(control)))
    }

    fn new(channel: OwnedFd, control: Option<OwnedFd>) -> Backend {
        Backend {
            channel,
            control,
            batch: Batch::new(1, PAYLOAD),
            received: VecDeque::new(),
            expects_more: false,
            dropped: 0,
            on_drop: None,
        }
    }

    /// Takes up to `most` messages at once (1 to 32; 1 if it is not called). More saves system calls; but what was received and not
    /// served is lost when this process dies, and another worker cannot take it meanwhile.
    #[must_use]
    pub fn batch(mut self, most: usize) -> Backend {
        self.batch = Batch::new(most, PAYLOAD);
        self
    }

    /// Calls `hook` for each message that was dropped, with the reason. See [the module](self).
    #[must_use]
    pub fn on_drop(mut self, hook: impl FnMut(&Error) + Send + 'static) -> Backend {
        self.on_drop = Some(Box::new(hook));
        self
    }

    /// How many messages were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The control connection of a listening backend: its hang-up means that doorward has gone. For a loop of one's own, which waits
    /// for POLLHUP on it beside POLLIN on the channel ([`Backend::as_fd`]), and then calls [`Backend::try_recv`].
    pub fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    /// Waits for a connection; `None`: doorward has gone, and everything it had sent was received. Signals interrupt it in vain.
    /// At the descriptor limit it waits until other threads have closed something, looking 50 times a second.
    ///
    /// # Errors
    /// `System`: the channel cannot be read. A bad message is no error here: see [the module](self).
    pub fn recv(&mut self) -> Result<Option<Handoff>, Error> {
        loop {
            if let Some(handoff) = self.received.pop_front() {
                return Ok(Some(handoff));
            }
            if !self.expects_more {
                self.wait()?;
            }
            match self.look()? {
                Look::Some | Look::Nothing => {}
                Look::Gone => return Ok(None),
                Look::NoRoom => std::thread::sleep(PAUSE),
            }
        }
    }

    /// The same without waiting, for a loop of one's own that watches the channel ([`Backend::as_fd`]) and [`Backend::control`].
    ///
    /// # Errors
    /// As [`Backend::recv`].
    pub fn try_recv(&mut self) -> Result<Next, Error> {
        loop {
            if let Some(handoff) = self.received.pop_front() {
                return Ok(Next::Handoff(Box::new(handoff)));
            }
            match self.look()? {
                Look::Some => {}
                Look::Nothing => return Ok(Next::Nothing),
                Look::NoRoom => return Ok(Next::NoRoom),
                Look::Gone => return Ok(Next::Gone),
            }
        }
    }

    /// Receives what is there, or says why there is nothing.
    fn look(&mut self) -> Result<Look, Error> {
        match self.fill()? {
            // What was sent before the hang-up is in the channel by the time that it shows: look there once more.
            Look::Nothing if self.control_hung_up()? => match self.fill()? {
                Look::Nothing => Ok(Look::Gone),
                other => Ok(other),
            },
            other => Ok(other),
        }
    }

    /// Receives up to a batch of messages, as many as there is room for.
    fn fill(&mut self) -> Result<Look, Error> {
        self.expects_more = false;
        let room =
            room::messages(self.channel.as_fd(), self.batch.most()).unable("look for room")?;
        if room == 0 {
            return Ok(Look::NoRoom);
        }
        let messages = loop {
            match self.batch.receive(self.channel.as_fd(), room) {
                Ok(messages) => break messages,
                // A reset is told once, and what was sent before is still there.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNRESET)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Look::Nothing);
                }
                Err(error) => return Err(Error::System("receive from the channel", error)),
            }
        };
        self.expects_more = room > 1 && messages.len() == room;
        for (index, message) in messages.into_iter().enumerate() {
            // An empty message looks like the end, which shows again at the next call.
            if message.length == 0 && message.descriptors.is_empty() {
                let ended = hung_up(self.channel.as_fd()).unable("watch the channel")?;
                if ended {
                    return Ok(if index > 0 { Look::Some } else { Look::Gone });
                }
            }
            let handoff = if message.truncated {
                Err(Error::Truncated)
            } else {
                let payload = self.batch.payload(index, message.length);
                Handoff::from_message(payload, message.descriptors)
            };
            match handoff {
                Ok(handoff) => self.received.push_back(handoff),
                Err(why) => self.drop_message(&why),
            }
        }
        Ok(Look::Some)
    }

    fn drop_message(&mut self, why: &Error) {
        self.dropped = self.dropped.saturating_add(1);
        if let Some(hook) = &mut self.on_drop {
            hook(why);
        }
    }

    /// Waits for a message or a hang-up.
    fn wait(&self) -> Result<(), Error> {
        let channel = PollFd::new(self.channel.as_fd(), PollFlags::POLLIN);
        // No event but the hang-up: words on the control connection are for a later protocol.
        let waited = match self.control() {
            Some(control) => poll(&mut [channel, PollFd::new(control, END)], PollTimeout::NONE),
            None => poll(&mut [channel], PollTimeout::NONE),
        };
        match waited {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(Error::System("wait for the channel", error.into())),
        }
    }

    fn control_hung_up(&self) -> Result<bool, Error> {
        self.control()
            .map_or(Ok(false), hung_up)
            .unable("watch the control connection")
    }
}

/// What was found in the channel; messages that were dropped count.
enum Look {
    Some,
    Nothing,
    NoRoom,
    Gone,
}

/// Whether nothing more can come from the other side of a socket.
fn hung_up(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut watched = [PollFd::new(socket, END)];
    loop {
        match poll(&mut watched, PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            Ok(count) => return Ok(count > 0),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The channel: readable when a connection waits, or at the end.
impl AsFd for Backend {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Backend")
            .field("channel", &self.channel)
            .field("control", &self.control)
            .field("batch", &self.batch.most())
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}
