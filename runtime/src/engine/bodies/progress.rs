//! What a step's body does now, as far as its driver needs to know: which attempt it makes, and
//! whether it waits in a back-off, from which its run can leave memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidemill_model::Timestamp;

/// Where a body stands between its attempts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum BackOff {
    /// It is not in a long back-off.
    #[default]
    None,
    /// The next attempt begins then; the log says so.
    Until(Timestamp),
    /// Its run leaves memory: whoever loads the run begins the next attempt.
    Left,
}

/// Shared by a body and its driver.
#[derive(Debug, Default)]
pub(crate) struct BodyProgress {
    /// The attempt in hand; 0 before the first.
    attempt: AtomicU32,
    back_off: Mutex<BackOff>,
}

impl BodyProgress {
    /// The body makes this attempt next.
    pub(super) fn makes(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }

    /// The attempt that the body makes, or made last; `None` before the first.
    pub(super) fn attempt(&self) -> Option<u32> {
        Some(self.attempt.load(Ordering::Relaxed)).filter(|attempt| *attempt > 0)
    }

    /// The body waits for this moment, which is in the log.
    pub(super) fn back_off_until(&self, at: Timestamp) {
        *self.lock() = BackOff::Until(at);
    }

    /// The back-off is over; `false` if the run has left memory meanwhile, so that this body must
    /// not begin anything.
    pub(super) fn end_back_off(&self) -> bool {
        let mut back_off = self.lock();
        let stays = *back_off != BackOff::Left;
        if stays {
            *back_off = BackOff::None;
        }
        stays
    }

    /// When the back-off ends; `None` if the body is in none.
    pub(super) fn backs_off_until(&self) -> Option<Timestamp> {
        match *self.lock() {
            BackOff::Until(at) => Some(at),
            BackOff::None | BackOff::Left => None,
        }
    }

    /// Takes the next attempt away from the body, whose run leaves memory. Returns when that
    /// attempt begins; `None` if the back-off is over.
    pub(super) fn leave(&self) -> Option<Timestamp> {
        let mut back_off = self.lock();
        let BackOff::Until(at) = *back_off else { return None };
        *back_off = BackOff::Left;
        Some(at)
    }

    fn lock(&self) -> MutexGuard<'_, BackOff> {
        // Nothing that runs under this lock panics.
        self.back_off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_attempt_belongs_to_the_body_or_to_who_took_it_and_never_to_both() {
        let at = Timestamp::from_micros(7).unwrap();
        let progress = BodyProgress::default();
        assert_eq!((progress.attempt(), progress.leave()), (None, None), "it is in no back-off");
        progress.back_off_until(at);
        assert!(progress.end_back_off());
        assert_eq!(progress.leave(), None, "the body has begun");
        progress.back_off_until(at);
        assert_eq!((progress.backs_off_until(), progress.leave()), (Some(at), Some(at)));
        assert!(!progress.end_back_off(), "it was taken");
        assert_eq!((progress.backs_off_until(), progress.leave()), (None, None));
    }
}
