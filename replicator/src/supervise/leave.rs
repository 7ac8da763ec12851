//! Shares the time to leave out among the parts of a drain.
//!
//! ```text
//!   told to end                                                              the process is gone
//!   │◄────────────────────────────── leave_within ──────────────────────────────────────►│
//!   │  the app leaves, or is killed │  a cure, the final barrier │  Litestream, release  │
//!   0 ──────────────────────────── app ── app_gone ─────────── covered ── litestream ── ended
//! ```
//!
//! Each part ends at a moment that is fixed when the drain begins. A part that ends early leaves
//! its time to the next one: an app without work is gone at once, and the final barrier then has
//! nearly everything. What waits for S3 ends at its moment whatever S3 does, so the process ends by
//! itself before a supervisor kills it.

use std::time::Duration;

use tidemill_model::BootTime;

/// The most that is kept for a cure and the final barrier, however long the whole may take: the
/// rest belongs to the app's bodies.
const SHIP_MOST: Duration = Duration::from_secs(60);
/// The most that is kept for Litestream's end and the release: a few requests.
const RELEASE_MOST: Duration = Duration::from_secs(3);
/// The most that is kept for the end of the process itself.
const EXIT_MOST: Duration = Duration::from_millis(500);
/// The longest wait for a killed app to be gone.
const GONE_MOST: Duration = Duration::from_secs(5);

/// The parts of the time to leave, as durations. They add up to the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    app: Duration,
    ship: Duration,
    release: Duration,
    exit: Duration,
}

impl Shares {
    fn of(whole: Duration) -> Shares {
        let ship = (whole / 4).min(SHIP_MOST);
        let release = (whole / 8).min(RELEASE_MOST);
        let exit = (whole / 10).min(EXIT_MOST);
        Shares { app: whole - ship - release - exit, ship, release, exit }
    }
}

/// How much of the time to leave belongs to the app: after that it is killed.
pub(crate) fn apps_share(leave_within: Duration) -> Duration {
    Shares::of(leave_within).app
}

/// The moments at which the parts of a drain end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaveTimes {
    /// An app that still runs is killed.
    pub(super) app: BootTime,
    /// An app that cannot be killed is left behind.
    pub(super) app_gone: BootTime,
    /// The final barrier, and a cure before it, has counted or is given up.
    pub(super) covered: BootTime,
    /// A Litestream that still runs is killed.
    pub(super) litestream: BootTime,
    /// The supervisor ends, whatever is still under way.
    pub(super) ended: BootTime,
}

impl LeaveTimes {
    /// The moments of a drain that begins now.
    pub(super) fn new(now: BootTime, leave_within: Duration) -> LeaveTimes {
        let shares = Shares::of(leave_within);
        let after = |time| now.saturating_add(time);
        let covered = shares.app + shares.ship;
        LeaveTimes {
            app: after(shares.app),
            app_gone: after(shares.app + (shares.ship / 2).min(GONE_MOST)),
            covered: after(covered),
            litestream: after(covered + shares.release / 2),
            ended: after(covered + shares.release),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ms;

    fn shares(whole_ms: u64) -> [u128; 4] {
        let whole = Duration::from_millis(whole_ms);
        let Shares { app, ship, release, exit } = Shares::of(whole);
        assert_eq!(app + ship + release + exit, whole);
        [app, ship, release, exit].map(|share| share.as_millis())
    }

    #[test]
    fn the_app_gets_most_of_it_and_the_last_upload_enough() {
        assert_eq!(shares(1_000), [525, 250, 125, 100]);
        assert_eq!(shares(8_000), [4_500, 2_000, 1_000, 500]);
        assert_eq!(shares(25_000), [15_250, 6_250, 3_000, 500]);
        assert_eq!(shares(90_000), [64_000, 22_500, 3_000, 500]);
        assert_eq!(shares(3_600_000), [3_536_500, 60_000, 3_000, 500]);
    }

    #[test]
    fn the_moments_come_in_their_order_and_before_the_end() {
        for whole in [1_000, 1_001, 2_000, 8_000, 25_000, 600_000, 3_600_000] {
            let times = LeaveTimes::new(ms(7), Duration::from_millis(whole));
            let order =
                [ms(7), times.app, times.app_gone, times.covered, times.litestream, times.ended];
            assert!(order.is_sorted_by(|a, b| a < b), "{whole}: {times:?}");
            assert!(times.ended < ms(7 + whole), "{whole}: {times:?}");
        }
    }
}
