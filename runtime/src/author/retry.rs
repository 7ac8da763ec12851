//! How often a step is attempted, and how long it waits between attempts.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type Predicate = Arc<dyn Fn(&(dyn StdError + 'static)) -> bool + Send + Sync>;

/// When a failed step is attempted again.
///
/// The default is one attempt: an error goes straight to the workflow. Only failures count: after a
/// crash cuts an attempt off, the step always runs again, under the next attempt number. The log
/// records when the next attempt is due, so a restart in between does not change the delay.
///
/// ```
/// use std::time::Duration;
/// use tidemill::Retry;
///
/// let retry = Retry::attempts(5)
///     .initial_delay(Duration::from_millis(200))
///     .max_delay(Duration::from_secs(30))
///     .total(Duration::from_secs(300))
///     .never_on::<std::num::ParseIntError>();
/// # let _ = retry;
/// ```
#[derive(Clone)]
pub struct Retry {
    attempts: u32,
    initial_delay: Duration,
    factor: f64,
    max_delay: Duration,
    total: Option<Duration>,
    jitter: bool,
    final_on: Vec<Predicate>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry::attempts(1)
    }
}

impl Retry {
    /// Lets a step fail up to `attempts` times (at least once) before its error goes to the
    /// workflow. An attempt that a crash or a stop of the process cuts off does not count. The
    /// first delay is 1 s, doubled each time up to 60 s, with jitter, without a bound on the total
    /// time.
    pub fn attempts(attempts: u32) -> Retry {
        Retry {
            attempts: attempts.max(1),
            initial_delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(60),
            total: None,
            jitter: true,
            final_on: Vec::new(),
        }
    }

    /// The delay after the first failure. Default 1 s.
    #[must_use]
    pub fn initial_delay(mut self, delay: Duration) -> Retry {
        self.initial_delay = delay;
        self
    }

    /// The factor by which the delay grows after each failure, at least 1. Default 2.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Retry {
        self.factor = if factor.is_finite() { factor.max(1.0) } else { 1.0 };
        self
    }

    /// The longest delay. Default 60 s.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Retry {
        self.max_delay = delay;
        self
    }

    /// How long after the step's start an attempt may still begin. Default: no bound.
    #[must_use]
    pub fn total(mut self, total: Duration) -> Retry {
        self.total = Some(total);
        self
    }

    /// Waits for the whole delay each time, instead of a random part (half to all) of it. Jitter
    /// keeps steps that failed together from retrying together.
    #[must_use]
    pub fn no_jitter(mut self) -> Retry {
        self.jitter = false;
        self
    }

    /// Makes an error of this type final: the step is not attempted again.
    #[must_use]
    pub fn never_on<E: StdError + 'static>(self) -> Retry {
        self.never_if(<dyn StdError>::is::<E>)
    }

    /// Makes an error final if `is_final` returns true for it.
    #[must_use]
    pub fn never_if(
        mut self,
        is_final: impl Fn(&(dyn StdError + 'static)) -> bool + Send + Sync + 'static,
    ) -> Retry {
        self.final_on.push(Arc::new(is_final));
        self
    }

    /// How many attempts may fail in all.
    pub(crate) fn attempts_max(&self) -> u32 {
        self.attempts
    }

    /// How long to wait before the next attempt; `None` if there is no next attempt. `failures`
    /// counts this failure too; `elapsed` is the time since the step's start; `random` is from 0
    /// to 1.
    pub(crate) fn delay(&self, failures: u32, elapsed: Duration, random: f64) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doublings = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let max = self.max_delay.as_secs_f64();
        let full = (self.initial_delay.as_secs_f64() * self.factor.powi(doublings)).min(max);
        let part = if self.jitter { full * (0.5 + random.clamp(0.0, 1.0) / 2.0) } else { full };
        let delay = Duration::try_from_secs_f64(part).unwrap_or(self.max_delay);
        let in_time = self.total.is_none_or(|total| elapsed.saturating_add(delay) <= total);
        in_time.then_some(delay)
    }

    pub(crate) fn is_final(&self, error: &(dyn StdError + 'static)) -> bool {
        self.final_on.iter().any(|is_final| is_final(error))
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("initial_delay", &self.initial_delay)
            .field("factor", &self.factor)
            .field("max_delay", &self.max_delay)
            .field("total", &self.total)
            .field("jitter", &self.jitter)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_longest_and_end_with_the_attempts() {
        let retry = Retry::attempts(5).no_jitter().max_delay(SECOND * 3);
        let delays: Vec<_> = (1..=5).map(|n| retry.delay(n, Duration::ZERO, 0.0)).collect();
        let expected = [Some(SECOND), Some(SECOND * 2), Some(SECOND * 3), Some(SECOND * 3), None];
        assert_eq!(delays, expected);
    }

    #[test]
    fn jitter_takes_half_to_all_of_a_delay_and_the_total_time_bounds_it() {
        let retry = Retry::attempts(9).total(SECOND);
        assert_eq!(retry.delay(1, Duration::ZERO, 0.0), Some(SECOND / 2));
        assert_eq!(retry.delay(1, Duration::ZERO, 1.0), Some(SECOND));
        assert_eq!(retry.delay(1, SECOND / 2 + Duration::from_millis(1), 0.0), None);
        assert_eq!(Retry::default().delay(1, Duration::ZERO, 0.5), None);
        let never = Retry::attempts(u32::MAX).factor(f64::INFINITY);
        assert!(never.delay(1_000_000, Duration::ZERO, 1.0).is_some());
    }

    #[test]
    fn final_errors_are_known_by_type() {
        let retry = Retry::attempts(2).never_on::<std::num::ParseIntError>();
        assert!(retry.is_final(&"x".parse::<i32>().unwrap_err()));
        assert!(!retry.is_final(&std::io::Error::other("x")));
    }
}
