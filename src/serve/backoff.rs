//! Pauses that double with each failure.
#![forbid(unsafe_code)]

use std::time::Duration;

/// The first pause before a new start, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Who has lived for this long is no failure, however it ended.
const SUCCESS: Duration = Duration::from_secs(10);
/// Pauses that double with each failure.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether who lived for so long is no failure, however it ended.
    pub(super) fn is_success(lived: Duration) -> bool {
        lived >= SUCCESS
    }

    /// The pause after an end that came `lived` after the start.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if Backoff::is_success(lived) {
            self.failures = 0;
        }
        let pause = FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_success_begins_anew() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9)
            .map(|_| backoff.after(Duration::from_secs(1)).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(backoff.after(SUCCESS), FIRST_PAUSE);
        assert_eq!(backoff.after(Duration::ZERO), FIRST_PAUSE * 2);
    }
}
