//! Time as the cores get it: both clocks read together, and the back-off between attempts.

use std::time::Duration;

use tidemill_model::{BootTime, Timestamp};

/// Both clocks, read together. Deadlines use the boot clock; the wall clock only shows whether the
/// boot clock stood still, as it does in a machine that was paused from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// `CLOCK_BOOTTIME`.
    pub(crate) boot: BootTime,
    /// The wall clock.
    pub(crate) wall: Timestamp,
}

impl Clocks {
    /// How much the wall clock gained on the boot clock since `earlier`.
    pub(crate) fn wall_ran_ahead(self, earlier: Clocks) -> Duration {
        self.wall.since(earlier.wall).saturating_sub(self.boot.since(earlier.boot))
    }
}

/// The wait before the next of several attempts: `first`, doubled by each failure, up to `most`.
pub(crate) fn backoff(failures: u32, first: Duration, most: Duration) -> Duration {
    let factor = 1u32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let wait = |n| backoff(n, Duration::from_millis(100), Duration::from_secs(1)).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 5, 1000].map(wait), [100, 100, 200, 400, 800, 1000, 1000]);
    }
}
