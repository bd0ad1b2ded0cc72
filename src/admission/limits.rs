//! The counts behind `--max`, `--max-per-user` and `--rate`, as values: no clock, no lock, no descriptor.
#![forbid(unsafe_code)]

use super::User;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// `--rate N/SECONDS`: a bucket of N tokens per user, refilled evenly, full for a user not seen yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) period: Duration,
}

impl Rate {
    /// The time that one token takes to come back.
    fn interval(self) -> Duration {
        self.period / self.burst.max(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.burst, self.period.as_secs())
    }
}

/// The limits of one process, all sockets together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Slots at once; 0: no limit.
    pub(crate) max: u32,
    /// Slots at once of one user.
    pub(crate) max_per_user: Option<u32>,
    pub(crate) rate: Option<Rate>,
}

/// Why a user gets no place now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    MaxPerUser(u32),
    Rate(Rate),
}

/// What is counted of one user.
#[derive(Debug, Default)]
struct Account {
    /// Places reserved: slots and those that wait for one.
    places: u32,
    /// When the bucket will be full again (time since boot): the whole state of a token bucket in one number.
    full_at: Duration,
}

/// All counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    slots: u32,
    accounts: HashMap<User, Account>,
    /// Accounts that say nothing any more are swept out when there are this many.
    sweep_at: usize,
}

impl Tally {
    /// Slots taken.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Reserves a place for a user who passed the rules; gives the user's count with this one. Only who gets a place takes a token.
    pub(crate) fn reserve(
        &mut self,
        limits: &Limits,
        user: User,
        now: Duration,
    ) -> Result<u32, Full> {
        if self.accounts.len() >= self.sweep_at {
            self.accounts
                .retain(|_, account| account.places > 0 || account.full_at > now);
            // So that the sweeps cost a constant per connection, however many users there are.
            self.sweep_at = (self.accounts.len() * 2).max(1024);
        }
        let account = self.accounts.entry(user).or_default();
        if let Some(limit) = limits.max_per_user
            && account.places >= limit
        {
            return Err(Full::MaxPerUser(limit));
        }
        if let Some(rate) = limits.rate {
            let full_at = account.full_at.max(now) + rate.interval();
            // More than a whole period of tokens is out: the bucket is empty.
            if full_at - now > rate.interval() * rate.burst {
                return Err(Full::Rate(rate));
            }
            account.full_at = full_at;
        }
        account.places += 1;
        Ok(account.places)
    }

    /// Gives a reserved place back.
    pub(crate) fn forgo(&mut self, user: User) {
        if let Some(account) = self.accounts.get_mut(&user) {
            account.places = account.places.saturating_sub(1);
        }
    }

    /// Makes the reserved place a slot, if there is one or `beyond` says not to look.
    pub(crate) fn enter(&mut self, limits: &Limits, beyond: bool) -> bool {
        let room = limits.max == 0 || self.slots < limits.max || beyond;
        self.slots += u32::from(room);
        room
    }

    /// Frees a slot and its place.
    pub(crate) fn release(&mut self, user: User) {
        self.slots = self.slots.saturating_sub(1);
        self.forgo(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn limits(max: u32, max_per_user: Option<u32>, rate: Option<(u32, u64)>) -> Limits {
        Limits {
            max,
            max_per_user,
            rate: rate.map(|(burst, seconds)| Rate {
                burst,
                period: Duration::from_secs(seconds),
            }),
        }
    }

    #[test]
    fn a_user_counts_by_itself_and_gets_its_place_back() {
        let (limits, mut tally) = (limits(10, Some(2), None), Tally::default());
        assert_eq!(tally.reserve(&limits, Some(1), NOW), Ok(1));
        assert_eq!(tally.reserve(&limits, Some(1), NOW), Ok(2));
        assert_eq!(
            tally.reserve(&limits, Some(1), NOW),
            Err(Full::MaxPerUser(2))
        );
        assert_eq!(tally.reserve(&limits, Some(2), NOW), Ok(1));
        assert_eq!(tally.reserve(&limits, None, NOW), Ok(1));
        tally.forgo(Some(1));
        assert_eq!(tally.reserve(&limits, Some(1), NOW), Ok(2));
    }

    #[test]
    fn slots_end_at_max_and_zero_is_no_limit() {
        let (two, mut tally) = (limits(2, None, None), Tally::default());
        assert!(tally.enter(&two, false) && tally.enter(&two, false));
        assert!(!tally.enter(&two, false));
        assert_eq!(tally.slots(), 2);
        assert!(tally.enter(&two, true));
        tally.release(None);
        tally.release(None);
        assert!(tally.enter(&two, false));
        assert!((0..5000).all(|_| tally.enter(&limits(0, None, None), false)));
    }

    #[test]
    fn a_bucket_starts_full_and_refills_evenly() {
        let (limits, mut tally) = (limits(0, None, Some((4, 2))), Tally::default());
        let mut take = |at: Duration| tally.reserve(&limits, Some(1), at).is_ok();
        assert!((0..4).all(|_| take(NOW)));
        assert!(!take(NOW));
        assert!(!take(NOW + Duration::from_millis(499)));
        assert!(take(NOW + Duration::from_millis(500)));
        assert!(!take(NOW + Duration::from_millis(500)));
        let later = NOW + Duration::from_secs(60);
        assert!((0..4).all(|_| take(later)));
        assert!(!take(later));
    }

    #[test]
    fn who_is_over_the_user_limit_takes_no_token() {
        let (limits, mut tally) = (limits(0, Some(1), Some((2, 3600))), Tally::default());
        assert_eq!(tally.reserve(&limits, Some(1), NOW), Ok(1));
        for _ in 0..5 {
            assert_eq!(
                tally.reserve(&limits, Some(1), NOW),
                Err(Full::MaxPerUser(1))
            );
        }
        tally.forgo(Some(1));
        assert_eq!(tally.reserve(&limits, Some(1), NOW), Ok(1));
    }

    #[test]
    fn users_that_left_are_forgotten_in_the_end() {
        let (limits, mut tally) = (limits(0, Some(9), Some((1, 1))), Tally::default());
        for user in 0..100_000u32 {
            let now = NOW + Duration::from_secs(u64::from(user));
            assert_eq!(tally.reserve(&limits, Some(user), now), Ok(1));
            tally.forgo(Some(user));
        }
        assert!(tally.accounts.len() < 2100, "{}", tally.accounts.len());
    }
}
