//! Order statistics of a few rounds, and the shuffle that keeps rounds fair.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The median of some figures with their quartiles (nearest rank); all NaN of none.
#[derive(Clone, Copy)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures
            .into_iter()
            .filter(|figure| figure.is_finite())
            .collect();
        sorted.sort_by(f64::total_cmp);
        Self {
            low: quantile(&sorted, 0.25),
            median: middle(&sorted),
            high: quantile(&sorted, 0.75),
        }
    }
}

impl Spread {
    /// With so many decimals; `-` if there is none.
    pub fn words(&self, decimals: usize) -> String {
        let Self { low, median, high } = self;
        if median.is_nan() {
            return "-".into();
        }
        format!("{median:.decimals$} [{low:.decimals$}-{high:.decimals$}]")
    }

    /// With two decimals, for ratios.
    pub fn ratio(&self) -> String {
        self.words(2)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(0))
    }
}

/// The value at `share` (0 to 1) of sorted figures, by nearest rank; NaN of none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The median proper: of an even number of figures the mean of the two in the middle.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match (sorted.get(half), sorted.len() % 2) {
        (Some(upper), 1) => *upper,
        (Some(upper), _) => sorted
            .get(half.saturating_sub(1))
            .map_or(*upper, |lower| (lower + upper) / 2.0),
        (None, _) => f64::NAN,
    }
}

/// A xorshift generator, seeded by the clock: good enough to shuffle a dozen rows.
pub struct Shuffle(u64);

impl Shuffle {
    pub fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64);
        Self(now | 1)
    }

    /// The numbers below `count`, in an order that differs from round to round.
    pub fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            order.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
        order
    }
}
