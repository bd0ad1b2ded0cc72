//! The channel to the backends: a SEQPACKET socketpair of which doorward keeps both ends, so that what is queued outlives any backend.
#![forbid(unsafe_code)]

use crate::sys;
use crate::sys::scm;
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The longest payload of one message.
pub(crate) const LONGEST: usize = 16 * 1024;

/// A channel, and what is known of its queue.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Where doorward sends.
    near: OwnedFd,
    /// What backends receive from, all of them the same queue.
    far: OwnedFd,
    /// Sizes of the messages that may still be queued, oldest first.
    ///
    /// Held across the send, which never waits: the order here must be the kernel's. There is one door a socket, so with one socket
    /// nobody ever meets anybody here.
    sizes: Mutex<VecDeque<usize>>,
    /// An edge for each message that a backend takes.
    taken: Epoll,
    /// Some backend shut it down.
    broken: AtomicBool,
}

/// What became of one message.
#[derive(Debug)]
pub(crate) enum Sent {
    Queued,
    /// The queue is full: by number of messages, or by their size.
    Full,
    /// Some backend shut the channel down.
    Broken,
}

impl Channel {
    /// All descriptors stand at `low` or above.
    pub(crate) fn new(low: RawFd) -> io::Result<Channel> {
        let (near, far) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let (near, far) = (sys::fd::lift(near, low)?, sys::fd::lift(far, low)?);
        let taken = Epoll(sys::fd::lift(
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0,
            low,
        )?);
        taken.add(
            &near,
            EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLET, 0),
        )?;
        Ok(Channel {
            near,
            far,
            sizes: Mutex::default(),
            taken,
            broken: AtomicBool::new(false),
        })
    }

    /// The end that a backend gets (a copy of it).
    pub(crate) fn backend_end(&self) -> BorrowedFd<'_> {
        self.far.as_fd()
    }

    /// Queues a message, unless `ahead` messages wait already.
    ///
    /// # Errors
    /// What sendmsg(2) has; ETOOMANYREFS and the like are worth trying again.
    pub(crate) fn send(
        &self,
        payload: &[u8],
        descriptors: &[BorrowedFd<'_>],
        ahead: usize,
    ) -> io::Result<Sent> {
        let mut sizes = self.sizes();
        if sizes.len() >= ahead && self.count(&mut sizes)? >= ahead {
            return Ok(Sent::Full);
        }
        match scm::send(self.near.as_fd(), payload, descriptors) {
            Ok(_) => {
                sizes.push_back(payload.len());
                Ok(Sent::Queued)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Sent::Full),
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                self.broken.store(true, Ordering::SeqCst);
                Ok(Sent::Broken)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether fewer than `ahead` messages wait.
    pub(crate) fn has_room(&self, ahead: usize) -> bool {
        let mut sizes = self.sizes();
        // The kernel is asked only when as many were sent since it was asked last.
        sizes.len() < ahead || self.count(&mut sizes).is_ok_and(|waiting| waiting < ahead)
    }

    /// Queues a message that was taken back from another channel; false: not now.
    pub(crate) fn put_back(&self, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
        matches!(
            self.send(payload, descriptors, usize::MAX),
            Ok(Sent::Queued)
        )
    }

    /// Whether a message was refused because some backend shut it down.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// Messages that no backend has taken yet.
    pub(crate) fn waiting(&self) -> io::Result<usize> {
        self.count(&mut self.sizes())
    }

    /// The kernel tells the bytes that are queued; which messages those are follows from the sizes, for the queue is in order.
    fn count(&self, sizes: &mut VecDeque<usize>) -> io::Result<usize> {
        let queued = scm::queued(self.far.as_fd())?;
        let mut known: usize = sizes.iter().sum();
        while known > queued {
            let Some(oldest) = sizes.pop_front() else {
                break;
            };
            known = known.saturating_sub(oldest);
        }
        Ok(sizes.len())
    }

    /// Waits until a backend has taken a message since the last time; a signal ends it too. For one thread at a time: edges are not shared,
    /// so others look again after `patience` milliseconds.
    pub(crate) fn wait_for_taking(&self, patience: u16) {
        let _ = self
            .taken
            .wait(&mut [EpollEvent::empty()], EpollTimeout::from(patience));
    }

    /// Takes back one queued message (after a backend shut the channel down): its payload and its descriptors.
    pub(crate) fn take_back(&self) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
        let mut payload = vec![0; LONGEST];
        match scm::receive(self.far.as_fd(), &mut payload, libc::MSG_DONTWAIT) {
            Ok(received) if received.length > 0 && !received.truncated => {
                payload.truncate(received.length);
                Some((payload, received.descriptors))
            }
            Ok(_) => None,
            Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => self.take_back(),
            Err(_) => None,
        }
    }

    fn sizes(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{Shutdown, shutdown};
    use std::os::fd::AsRawFd as _;

    fn take(channel: &Channel) -> Vec<u8> {
        let mut payload = vec![0; LONGEST];
        let received =
            scm::receive(channel.backend_end(), &mut payload, libc::MSG_DONTWAIT).unwrap();
        payload.truncate(received.length);
        payload
    }

    #[test]
    fn messages_are_counted_whatever_their_sizes() {
        let channel = Channel::new(3).unwrap();
        for size in [100, 1, 5000, 7] {
            assert!(matches!(
                channel.send(&vec![b'x'; size], &[], 64).unwrap(),
                Sent::Queued
            ));
        }
        assert_eq!(channel.waiting().unwrap(), 4);
        assert_eq!(take(&channel).len(), 100);
        assert_eq!(channel.waiting().unwrap(), 3);
        take(&channel);
        take(&channel);
        assert_eq!(channel.waiting().unwrap(), 1);
    }

    #[test]
    fn no_more_than_ahead_wait_and_a_taking_makes_room() {
        let channel = Channel::new(3).unwrap();
        for _ in 0..3 {
            assert!(matches!(
                channel.send(b"message", &[], 3).unwrap(),
                Sent::Queued
            ));
        }
        assert!(matches!(
            channel.send(b"message", &[], 3).unwrap(),
            Sent::Full
        ));
        take(&channel);
        channel.wait_for_taking(20_000);
        assert!(matches!(
            channel.send(b"message", &[], 3).unwrap(),
            Sent::Queued
        ));
    }

    #[test]
    fn what_is_queued_can_be_taken_back_from_a_channel_that_was_shut_down() {
        let channel = Channel::new(3).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        channel.send(b"one", &[null.as_fd()], 64).unwrap();
        channel.send(b"two", &[], 64).unwrap();
        shutdown(channel.backend_end().as_raw_fd(), Shutdown::Both).unwrap();
        assert!(matches!(
            channel.send(b"three", &[], 64).unwrap(),
            Sent::Broken
        ));
        let (payload, descriptors) = channel.take_back().unwrap();
        assert_eq!((payload.as_slice(), descriptors.len()), (&b"one"[..], 1));
        assert_eq!(channel.take_back().unwrap().0, b"two");
        assert!(channel.take_back().is_none());
    }
}
