//! How a start ended that was to fail.

use std::fmt::Display;
use std::process::ExitStatus;

use super::Served;

/// Its exit and its words.
pub struct Outcome {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// All it said.
    pub stderr: String,
    /// Keeps its directory, so that what it left there can be looked at.
    pub(super) _door: Served,
}

impl Outcome {
    /// The exit code; panics if a signal ended it.
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("{}: {}", self.status, self.stderr))
    }

    /// Exit code `code`, and every one of `words` in what it said.
    #[track_caller]
    pub fn assert<S: Display>(&self, code: i32, words: impl IntoIterator<Item = S>) -> &Outcome {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}: {}",
            self.status,
            self.stderr
        );
        for word in words {
            let word = word.to_string();
            assert!(
                self.stderr.contains(&word),
                "{word:?} is not in: {}",
                self.stderr
            );
        }
        self
    }
}
