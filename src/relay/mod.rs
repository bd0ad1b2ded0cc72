//! Two directions of bytes between four descriptors, each at its own pace, until both are over.
//!
//! Each direction has a thread, so that a regular file, a terminal or a stalled reader holds up nobody but itself. No flag of a
//! descriptor is changed: what came from the parent is shared with it.
#![forbid(unsafe_code)]

mod flow;

pub(crate) use flow::{Act, Ended, Side};

use crate::clock;
use flow::Flow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// One direction: what comes on `from` goes to `to`. Both are closed when it is over; of a socket, the half that it used is shut down,
/// whoever else holds it.
#[derive(Debug)]
pub(crate) struct Direction {
    pub(crate) from: Side,
    pub(crate) to: Side,
}

/// Why it stopped before both directions were over.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nothing moved for the idle time, for whatever reason.
    Idle,
    /// What was to be done at which side, and why it could not be.
    Failed(Act, &'static str, io::Error),
}

/// Relays until both directions are over. The first failure stops both, and so do `idle` seconds in which nothing is read or written;
/// the threads then live on until the process ends, which is to follow.
pub(crate) fn run(
    directions: [Direction; 2],
    idle: Option<Duration>,
) -> Result<[Ended; 2], Stopped> {
    let moved = Moved::new();
    let (tell, told) = channel();
    for (index, direction) in directions.into_iter().enumerate() {
        let (tell, moved) = (tell.clone(), Arc::clone(&moved));
        let name = direction.from.name();
        let flow = move || {
            let result = Flow::new(direction, &moved).run();
            // Nobody listens any more once the relay has stopped.
            let _ = tell.send((index, result));
        };
        let started = thread::Builder::new().name("relay".to_owned()).spawn(flow);
        started.map_err(|error| Stopped::Failed(Act::Read, name, error))?;
    }
    drop(tell);
    let mut ended = [Ended::Whole; 2];
    let mut left = ended.len();
    while left > 0 {
        let wait = idle.map(|idle| idle.saturating_sub(moved.ago()));
        if wait == Some(Duration::ZERO) {
            return Err(Stopped::Idle);
        }
        let news = match wait {
            Some(wait) => told.recv_timeout(wait),
            None => told.recv().map_err(RecvTimeoutError::from),
        };
        let (index, result) = match news {
            Ok(news) => news,
            Err(RecvTimeoutError::Timeout) => continue,
            // A thread that panicked has told nothing: that is no success.
            Err(RecvTimeoutError::Disconnected) => {
                let error = io::Error::other("its thread ended by itself");
                return Err(Stopped::Failed(Act::Read, "one direction", error));
            }
        };
        let how = result?;
        if let Some(ended) = ended.get_mut(index) {
            *ended = how;
        }
        left -= 1;
    }
    Ok(ended)
}

/// When bytes moved last, in either direction.
#[derive(Debug)]
struct Moved(AtomicU64);

impl Moved {
    fn new() -> Arc<Moved> {
        let moved = Arc::new(Moved(AtomicU64::new(0)));
        moved.now();
        moved
    }

    fn now(&self) {
        let now = u64::try_from(clock::now().as_nanos()).unwrap_or(u64::MAX);
        self.0.store(now, Ordering::Relaxed);
    }

    fn ago(&self) -> Duration {
        let last = Duration::from_nanos(self.0.load(Ordering::Relaxed));
        clock::now().saturating_sub(last)
    }
}
