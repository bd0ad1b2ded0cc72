//! How often a refusal is logged: at most ten lines a second per user and reason, then one that says how many more there were.
#![forbid(unsafe_code)]

use super::{Reason, User};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Window {
    began: Duration,
    lines: u32,
    suppressed: u64,
}

/// What to do about one refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Telling {
    Line,
    /// Counted; `first` in its window, so that somebody sees to [`Denials::ended`] when the window is over.
    Suppressed {
        first: bool,
    },
}

/// The refusals of the last second.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    windows: Mutex<Windows>,
}

#[derive(Debug, Default)]
struct Windows {
    open: HashMap<(User, Reason), Window>,
    /// Windows that are over and have nothing to tell are swept out when there are this many.
    sweep_at: usize,
}

impl Denials {
    pub(crate) fn note(&self, user: User, reason: Reason, now: Duration) -> Telling {
        let mut windows = self.windows();
        if windows.open.len() >= windows.sweep_at {
            windows
                .open
                .retain(|_, window| window.suppressed > 0 || now < window.began + WINDOW);
            windows.sweep_at = (windows.open.len() * 2).max(1024);
        }
        let window = windows.open.entry((user, reason)).or_insert(Window {
            began: now,
            lines: 0,
            suppressed: 0,
        });
        // A window with something to tell is closed by `ended` alone, so that nothing is told twice or never.
        if now >= window.began + WINDOW && window.suppressed == 0 {
            *window = Window {
                began: now,
                lines: 0,
                suppressed: 0,
            };
        }
        if window.lines < LINES {
            window.lines += 1;
            return Telling::Line;
        }
        window.suppressed += 1;
        Telling::Suppressed {
            first: window.suppressed == 1,
        }
    }

    /// Closes the windows that are over; gives those that suppressed lines, and whether open ones are left that did.
    pub(crate) fn ended(&self, now: Duration) -> (Vec<(User, Reason, u64)>, bool) {
        let mut told = Vec::new();
        let mut open = false;
        self.windows().open.retain(|(user, reason), window| {
            let over = now >= window.began + WINDOW;
            if over && window.suppressed > 0 {
                told.push((*user, *reason, window.suppressed));
            }
            open |= !over && window.suppressed > 0;
            !over
        });
        (told, open)
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn ten_lines_a_second_and_then_a_count() {
        let denials = Denials::default();
        let tellings: Vec<_> = (0..15)
            .map(|_| denials.note(Some(1), Reason::Rate, NOW))
            .collect();
        assert!(
            tellings[..10]
                .iter()
                .all(|telling| *telling == Telling::Line)
        );
        assert_eq!(tellings[10], Telling::Suppressed { first: true });
        assert!(
            tellings[11..]
                .iter()
                .all(|telling| *telling == Telling::Suppressed { first: false })
        );
        assert_eq!(
            denials.ended(NOW + Duration::from_millis(999)),
            (vec![], true)
        );
        assert_eq!(
            denials.ended(NOW + WINDOW),
            (vec![(Some(1), Reason::Rate, 5)], false)
        );
        assert_eq!(
            denials.note(Some(1), Reason::Rate, NOW + WINDOW),
            Telling::Line
        );
    }

    #[test]
    fn users_and_reasons_are_told_apart() {
        let denials = Denials::default();
        for _ in 0..10 {
            denials.note(Some(1), Reason::Rate, NOW);
        }
        assert_eq!(denials.note(Some(2), Reason::Rate, NOW), Telling::Line);
        assert_eq!(denials.note(Some(1), Reason::Rule, NOW), Telling::Line);
    }
}
