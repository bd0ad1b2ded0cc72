//! The running service: doors that each take connections from accept to exec, and one control thread for everything else.
#![forbid(unsafe_code)]

mod activate;
mod backend;
mod backoff;
mod bell;
mod capacity;
mod control;
mod door;
mod drain;
mod ends;
mod few;
mod groups;
mod ready;
mod reload;
mod slots;
mod status;
mod troubles;

pub(crate) use activate::{Daemon, Watch, above, watch};
pub(crate) use backend::{BackendPlan, Workers};
pub(crate) use capacity::{raise_descriptor_limit, warn_about_limits};
pub(crate) use control::run;
pub(crate) use ready::{Manager, ReadyFd};

use crate::admission::{Denials, Mapping, Room, Rules};
use crate::delivery::Delivery;
use crate::source::Listening;
use crate::sys;
use bell::Bell;
use door::DoorState;
use slots::Slots;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use troubles::Troubles;

/// Doors in all: creating a child stops its caller until the exec, so threads overlap what one loop cannot.
const DOORS: usize = 8;

/// Doors at each of `sockets` sockets where they create children.
pub(crate) fn spawning_doors_each(sockets: usize) -> usize {
    (DOORS / sockets.max(1)).max(1)
}

/// What is served, as the command line has it.
pub(crate) struct Orders {
    pub(crate) sockets: Vec<Listening>,
    pub(crate) rules: Rules,
    pub(crate) room: Room,
    pub(crate) mapping: Mapping,
    pub(crate) delivery: Delivery,
    /// Who takes what is handed off, if that is how it is delivered.
    pub(crate) backend: Option<BackendPlan>,
    /// Ready only when the backends are.
    pub(crate) ready_backend: bool,
    /// Sent to whoever is refused, with its newline.
    pub(crate) deny_text: Option<Vec<u8>>,
    /// How long a child may run.
    pub(crate) lifetime: Option<Duration>,
    /// How long running connections may finish after SIGTERM.
    pub(crate) grace: Duration,
}

/// What doors and control share.
struct Service {
    orders: Orders,
    slots: Slots,
    bell: Bell,
    denials: Denials,
    doors: Vec<DoorState>,
    counters: Counters,
    troubles: Troubles,
    /// The control thread wants to hear of the next change, for the status.
    wants_news: AtomicBool,
    /// Our own sockets are shut down: their doors leave when the queue is empty.
    retired: AtomicBool,
    /// Threads that have not begun their work yet.
    starting: AtomicUsize,
}

impl Service {
    /// Whether the control thread is to be told that something changed; once per question, so that a busy door does not wake it each time.
    fn takes_news(&self) -> bool {
        self.needs_control()
            || self.wants_news.load(Ordering::SeqCst)
                && self.wants_news.swap(false, Ordering::SeqCst)
    }

    fn needs_control(&self) -> bool {
        matches!(&self.orders.delivery, Delivery::Handoff(handing) if handing.needs_control())
    }

    /// For each thread when its start is over. The last gives back the memory of what only the start needed: a service waits far longer than
    /// it starts. Where this is refused, it only takes more memory.
    fn has_begun(&self) {
        if self.starting.fetch_sub(1, Ordering::SeqCst) == 1 {
            sys::memory::release_code();
        }
    }

    fn is_retired(&self, socket: usize) -> bool {
        self.retired.load(Ordering::SeqCst)
            && self
                .orders
                .sockets
                .get(socket)
                .is_some_and(Listening::is_own)
    }
}

/// For the status.
#[derive(Default)]
struct Counters {
    admitted: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    fn count(counter: &AtomicU64) {
        // In one order with `wants_news`: either the status counts this one, or its door hears that news is wanted.
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

/// `slots=3/1000`; behind the slash 0 is no limit, as in `--max 0`.
struct SlotsOf<'a>(&'a Service, u32);

impl std::fmt::Display for SlotsOf<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "slots={}/{}",
            self.1,
            self.0.orders.room.limits().max
        )
    }
}
