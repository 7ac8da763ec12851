//! Counts that any thread may add to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A count that only grows, from the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds some.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the values of a histogram are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Durations, kept in nanoseconds and shown in seconds.
    Seconds,
    /// Plain numbers.
    Number,
}

/// How often values up to each bound were seen, and their sum.
#[derive(Debug)]
pub struct Histogram {
    unit: Unit,
    bounds: &'static [u64],
    /// One for each bound, and one for what is above the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

const MS: u64 = 1_000_000;

/// From a disk with a battery to one that is about to fail.
const COMMIT_NANOS: &[u64] = &[
    MS / 10,
    MS / 4,
    MS / 2,
    MS,
    2 * MS + MS / 2,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1_000 * MS,
    2_500 * MS,
    10_000 * MS,
];

/// From a store next door to one that barely answers.
const UPLOAD_NANOS: &[u64] = &[
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1_000 * MS,
    2_500 * MS,
    5_000 * MS,
    10_000 * MS,
    30_000 * MS,
    60_000 * MS,
];

/// From a small file in a store next door to one of many gigabytes.
const RESTORE_NANOS: &[u64] = &[
    100 * MS,
    250 * MS,
    500 * MS,
    1_000 * MS,
    2_500 * MS,
    5_000 * MS,
    10_000 * MS,
    30_000 * MS,
    60_000 * MS,
    120_000 * MS,
    300_000 * MS,
    600_000 * MS,
];

/// Up to the most rows that a transaction has.
const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048];

impl Histogram {
    /// Bounds for how long commits take.
    pub fn of_commits() -> Histogram {
        Histogram::new(Unit::Seconds, COMMIT_NANOS)
    }

    /// Bounds for how long uploads take.
    pub fn of_uploads() -> Histogram {
        Histogram::new(Unit::Seconds, UPLOAD_NANOS)
    }

    /// Bounds for how long restores take.
    pub fn of_restores() -> Histogram {
        Histogram::new(Unit::Seconds, RESTORE_NANOS)
    }

    /// Bounds for how much a batch has.
    pub fn of_sizes() -> Histogram {
        Histogram::new(Unit::Number, SIZES)
    }

    fn new(unit: Unit, bounds: &'static [u64]) -> Histogram {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { unit, bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Takes a duration.
    pub fn took(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes a number.
    pub fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// What its values are.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Each bound and how many values were at most that; `None` is the bound of all.
    pub fn cumulative(&self) -> Vec<(Option<u64>, u64)> {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let counts = self.buckets.iter().scan(0, |below, bucket| {
            *below += bucket.load(Ordering::Relaxed);
            Some(*below)
        });
        bounds.zip(counts).collect()
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_holds_it() {
        let sizes = Histogram::of_sizes();
        for value in [0, 1, 2, 3, 2_048, 2_049] {
            sizes.observe(value);
        }
        let all = sizes.cumulative();
        assert_eq!(all.first(), Some(&(Some(1), 2)));
        assert_eq!(all.get(1), Some(&(Some(2), 3)));
        assert_eq!(all.get(2), Some(&(Some(4), 4)));
        assert_eq!(all.get(SIZES.len() - 1), Some(&(Some(2_048), 5)));
        assert_eq!(all.last(), Some(&(None, 6)));
        assert_eq!(sizes.sum(), 4_103);
        let rising = |bounds: &[u64]| bounds.windows(2).all(|pair| pair[0] < pair[1]);
        assert!([COMMIT_NANOS, UPLOAD_NANOS, RESTORE_NANOS, SIZES].into_iter().all(rising));
    }
}
