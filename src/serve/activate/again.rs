//! When a daemon that has ended is started again: at once for who waits, unless it fails or brings nobody forward.
#![forbid(unsafe_code)]

use super::{Keeper, queue};
use crate::report::{Seconds, error, warning};
use crate::serve::backoff::Backoff;
use crate::source::Listening;
use crate::sys::wait::End;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::time::Duration;

/// A daemon that ends well in a short time, with somebody left of whom it is not known that it took somebody else, is started again at once
/// this often in a row. One that takes nobody must not keep the machine busy.
const AT_ONCE: u32 = 20;

impl Keeper {
    /// How long nobody starts the daemon again that ended so.
    pub(super) fn pause_after(&mut self, end: End, lived: Duration) -> Duration {
        if end != End::Code(0) {
            return self.backoff.after(lived);
        }
        if Backoff::is_success(lived) || !self.somebody_waits() || self.took_somebody() {
            self.fruitless = 0;
            self.backoff = Backoff::default();
            return Duration::ZERO;
        }
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless <= AT_ONCE {
            return Duration::ZERO;
        }
        let pause = self.backoff.after(lived);
        warning!(
            "the daemon has ended {} times in a row and taken nobody of those who wait; again in {} s",
            self.fruitless,
            Seconds(pause)
        );
        pause
    }

    /// Whether one who waited at the daemon's start waits no more: who takes one client each time is no failure.
    fn took_somebody(&self) -> bool {
        let mut pairs = self.waited.iter().zip(self.clients());
        pairs.any(|(before, after)| queue::is_shorter(before.as_deref(), after.as_deref()))
    }

    /// Who waits on each socket, where the kernel tells.
    pub(super) fn clients(&self) -> Vec<Option<Vec<u32>>> {
        let sockets = self.sockets.iter().map(Listening::socket);
        sockets.map(queue::clients).collect()
    }

    /// Whether a socket has a client or a datagram now.
    fn somebody_waits(&self) -> bool {
        let look = |socket: &Listening| {
            let mut look = [PollFd::new(socket.socket(), PollFlags::POLLIN)];
            poll(&mut look, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        };
        self.sockets.iter().any(look)
    }

    /// A daemon that removed the path of a socket of ours has made it one that nobody finds.
    pub(super) fn look_for_paths(&self) {
        for socket in self.sockets.iter().filter(|socket| socket.is_lost()) {
            error!(
                "{} does not lead to its socket any more: no client will find it until doorward is started again",
                socket.address
            );
        }
    }
}
