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

/// Whole milliseconds, rounded up; without a division of 128 bits, for which a waiting service would need one more page of code.
pub(crate) fn milliseconds(wait: Duration) -> u128 {
    wait.saturating_add(Duration::from_nanos(999_999))
        .as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begun_millisecond_counts_whole() {
        let counted = |nanoseconds| milliseconds(Duration::from_nanos(nanoseconds));
        assert_eq!([0, 1, 1_000_000, 1_000_001].map(counted), [0, 1, 1, 2]);
        assert!(milliseconds(Duration::MAX) > 0);
    }
}
