//! Monotonic time as one number, small enough to keep for every connection.
#![forbid(unsafe_code)]

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time since boot on CLOCK_MONOTONIC; the clock cannot fail where it exists, and it does on every Linux.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
}
