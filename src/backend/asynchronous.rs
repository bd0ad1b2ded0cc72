//! The same channel for tokio (feature `tokio`).
#![forbid(unsafe_code)]

use super::error::Unable as _;
use super::{Backend, Error, Handoff, Next, PAUSE};
use crate::sys::reactor;
use std::future::{Future as _, poll_fn};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep};

/// A [`Backend`] whose `recv` is async.
#[derive(Debug)]
pub struct AsyncBackend {
    backend: Backend,
    /// Copies of the backend's descriptors, for the reactor.
    channel: AsyncFd<OwnedFd>,
    control: Option<AsyncFd<OwnedFd>>,
    /// Running while there is no room for descriptors.
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncBackend {
    /// Takes a backend into the current runtime, which must have its io and time drivers enabled. No flag of the channel is changed.
    ///
    /// # Errors
    /// `System`: the descriptors cannot be watched.
    ///
    /// # Panics
    /// Outside of a runtime, as tokio's `AsyncFd` has it.
    pub fn new(backend: Backend) -> Result<AsyncBackend, Error> {
        let channel = watched(backend.as_fd())?;
        let control = backend.control().map(watched).transpose()?;
        Ok(AsyncBackend {
            backend,
            channel,
            control,
            pause: None,
        })
    }

    /// Waits for a connection, as [`Backend::recv`] does. Its descriptors are blocking: set what the runtime is to use non-blocking.
    /// At the descriptor limit it looks for room 50 times a second.
    ///
    /// Cancel safe: a message is received only when it is returned.
    ///
    /// # Errors
    /// As [`Backend::recv`].
    pub async fn recv(&mut self) -> Result<Option<Handoff>, Error> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// How many messages were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.backend.dropped()
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Handoff>, Error>> {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            let mut ready = Vec::with_capacity(2);
            for watched in std::iter::once(&self.channel).chain(&self.control) {
                if let Poll::Ready(guard) = watched.poll_read_ready(context) {
                    ready.push(guard.unable("wait for the channel")?);
                }
            }
            if ready.is_empty() && self.backend.received.is_empty() {
                return Poll::Pending;
            }
            match self.backend.try_recv()? {
                Next::Handoff(handoff) => return Poll::Ready(Ok(Some(*handoff))),
                Next::Gone => return Poll::Ready(Ok(None)),
                Next::Nothing => ready.iter_mut().for_each(|guard| guard.clear_ready()),
                Next::NoRoom => self.pause = Some(Box::pin(sleep(PAUSE))),
            }
        }
    }
}

fn watched(fd: BorrowedFd<'_>) -> Result<AsyncFd<OwnedFd>, Error> {
    let copy = fd
        .try_clone_to_owned()
        .unable("copy a descriptor for the reactor")?;
    reactor::watch_reading(copy).unable("watch a descriptor")
}
