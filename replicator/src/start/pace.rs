//! The pace: how long a life waits after others that ended badly.
//!
//! Each claim costs the bucket a full copy of the file, and so does each cure: a command that fails
//! at once and is restarted without a pause would fill the bucket. So the sidecar counts lives in a
//! row that end badly. The life after the first failure begins at once; each later one begins at
//! least 1 s, 2 s, 4 s and so on, up to a minute, after the one before. The time runs from
//! beginning to beginning, so a node that worked in between waits that much less.
//!
//! A life is counted when it begins and forgiven when it ends well (CMD ended with 0, or a signal
//! asked for the end and everything was covered), so a killed life counts without further action. A
//! life that was ready for as long as the longest wait is forgiven, too, because it costs the
//! bucket no more than the slowest pace does. Time before it was ready does not count: otherwise a
//! large file would hide a command that fails at once.
//!
//! The sidecar never waits before a release, nor while a running app waits for its sidecar.

use std::time::Duration;

use tidemill_model::{BootTime, Failures};

use crate::clocks::backoff;

/// The wait after the second failure in a row; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// How much longer the next life must wait, at most `most`. `same_boot` says whether `before` is of
/// this boot; a reboot counts as a wait.
pub(crate) fn wait(
    before: Option<Failures>,
    same_boot: bool,
    now: BootTime,
    most: Duration,
) -> Duration {
    let Some(Failures { count, began_boottime_ns: began }) = before else { return Duration::ZERO };
    if count < 2 || !same_boot {
        return Duration::ZERO;
    }
    backoff(count - 1, FIRST, most).saturating_sub(now.since(began))
}

/// The count once another life has begun.
pub(crate) fn begun(before: Option<Failures>, now: BootTime) -> Failures {
    let count = before.map_or(0, |before| before.count).saturating_add(1);
    Failures { count, began_boottime_ns: now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ms;

    const MINUTE: Duration = Duration::from_secs(60);

    fn failed(count: u32, began: u64) -> Option<Failures> {
        Some(Failures { count, began_boottime_ns: ms(began) })
    }

    #[test]
    fn one_failure_is_free_and_those_that_follow_wait_up_to_a_minute() {
        let waits = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1000];
        let waits = waits.map(|count| wait(failed(count, 0), true, ms(0), MINUTE).as_secs());
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait(None, true, ms(0), MINUTE), Duration::ZERO);
    }

    #[test]
    fn the_time_runs_from_beginning_to_beginning_within_one_boot() {
        let wait = |now, same_boot| wait(failed(5, 1_000), same_boot, ms(now), MINUTE).as_millis();
        assert_eq!([wait(1_000, true), wait(4_000, true), wait(9_000, true)], [8_000, 5_000, 0]);
        assert_eq!(wait(1_000, false), 0);
    }

    #[test]
    fn twenty_lives_that_fail_at_once_take_a_quarter_of_an_hour() {
        let (mut before, mut now) = (None, ms(0));
        for _ in 0..20 {
            now = now.saturating_add(wait(before, true, now, MINUTE));
            before = Some(begun(before, now));
        }
        assert_eq!(now.since(ms(0)), Duration::from_secs(1 + 2 + 4 + 8 + 16 + 32 + 12 * 60));
    }
}
