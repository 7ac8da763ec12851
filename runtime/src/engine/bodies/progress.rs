//! What a step's body does now, as far as its driver needs to know: which attempt it makes, and
//! whether the driver can still take that attempt away, because the run leaves memory or is
//! cancelled.
//!
//! Body and driver decide under one lock who has the next attempt, so it never both begins and is
//! taken away.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidemill_model::Timestamp;
use tokio::sync::Notify;

use crate::engine::journal::StepFacts;

/// Where a body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its next attempt has not begun: it waits for the gate, for a thread, or for a short back-off.
    Waits,
    /// The next attempt begins then; the log says so.
    BacksOff(Timestamp),
    /// The author's code runs, or has returned.
    Begun,
    /// The attempt was taken away: this body begins nothing more.
    Left,
}

#[derive(Debug)]
struct BodyState {
    stage: Stage,
    /// The attempt in hand, once the body makes it; 0 before the first.
    attempt: u32,
    /// The last attempt that began, in this process or an earlier one; 0 if none did.
    begun: u32,
    /// Whether the attempt in hand follows one that was cut off, so that nobody knows what that one
    /// did.
    finishes: bool,
    /// Whether the log says, or is about to say, that the attempt in hand begins.
    told: bool,
    /// Whether nobody waits for the step any more.
    given_up: bool,
}

/// Shared by a body and its driver.
#[derive(Debug)]
pub(crate) struct BodyProgress {
    state: Mutex<BodyState>,
    /// Notified when an attempt begins, if somebody waits for that.
    began: Option<Box<Notify>>,
}

impl BodyProgress {
    /// The progress of a body that begins with the attempt of these facts. `tells`: somebody waits until
    /// it begins.
    pub(super) fn of(facts: &StepFacts, tells: bool) -> BodyProgress {
        let state = BodyState {
            stage: Stage::Waits,
            attempt: 0,
            begun: facts.attempt.saturating_sub(1),
            finishes: facts.follows_cut_off,
            told: facts.begun,
            given_up: false,
        };
        BodyProgress { state: Mutex::new(state), began: tells.then(Box::default) }
    }

    /// The body makes this attempt next.
    pub(super) fn makes(&self, attempt: u32) {
        self.lock().attempt = attempt;
    }

    /// The attempt that the body makes, or made last; `None` before the first.
    pub(super) fn attempt(&self) -> Option<u32> {
        Some(self.lock().attempt).filter(|attempt| *attempt > 0)
    }

    /// The log is about to say that the attempt begins; `false` if it was taken away.
    pub(super) fn tells(&self) -> bool {
        let mut state = self.lock();
        state.told = true;
        state.stage != Stage::Left
    }

    /// The attempt begins now; `false` if it was taken away.
    pub(super) fn begins(&self, attempt: u32) -> bool {
        let mut state = self.lock();
        if state.stage == Stage::Left {
            return false;
        }
        (state.stage, state.begun) = (Stage::Begun, attempt);
        if let Some(began) = &self.began {
            began.notify_one();
        }
        true
    }

    /// Waits until an attempt begins; for ever if nobody said that somebody would.
    pub(super) async fn began(&self) {
        match &self.began {
            Some(began) => began.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The attempt failed, and another one follows.
    pub(super) fn failed(&self) {
        let mut state = self.lock();
        (state.stage, state.finishes, state.told) = (Stage::Waits, false, false);
    }

    /// The body waits for this moment, which is in the log.
    pub(super) fn back_off_until(&self, at: Timestamp) {
        let mut state = self.lock();
        if state.stage == Stage::Waits {
            state.stage = Stage::BacksOff(at);
        }
    }

    /// The back-off is over; `false` if the attempt was taken away meanwhile.
    pub(super) fn end_back_off(&self) -> bool {
        let mut state = self.lock();
        if let Stage::BacksOff(_) = state.stage {
            state.stage = Stage::Waits;
        }
        state.stage != Stage::Left
    }

    /// When the back-off ends; `None` if the body is in none.
    pub(super) fn backs_off_until(&self) -> Option<Timestamp> {
        match self.lock().stage {
            Stage::BacksOff(at) => Some(at),
            Stage::Waits | Stage::Begun | Stage::Left => None,
        }
    }

    /// Takes the next attempt away from the body, whose run leaves memory. Returns when that
    /// attempt begins; `None` if the back-off is over.
    pub(super) fn leave(&self) -> Option<Timestamp> {
        let mut state = self.lock();
        let Stage::BacksOff(at) = state.stage else { return None };
        state.stage = Stage::Left;
        Some(at)
    }

    /// Takes the next attempt away from a body that has not begun it, because its run is paused or
    /// because it is too late; `false` if it stays. An
    /// attempt whose beginning the log tells stays: taken away, it would look like one that a crash
    /// cut off.
    pub(super) fn take_untold(&self) -> bool {
        let mut state = self.lock();
        let takes = !state.told && matches!(state.stage, Stage::Waits | Stage::BacksOff(_));
        if takes {
            state.stage = Stage::Left;
        }
        takes
    }

    /// Takes the next attempt away from a body that has not begun it, because its run is cancelled.
    /// Returns how many attempts began before; `None` if it has begun, and if it follows
    /// one that was cut off: the step is then brought to an end that is known.
    pub(super) fn take(&self) -> Option<u32> {
        let mut state = self.lock();
        match state.stage {
            Stage::Waits | Stage::BacksOff(_) if !state.finishes => {
                state.stage = Stage::Left;
                Some(state.begun)
            }
            Stage::Waits | Stage::BacksOff(_) | Stage::Begun | Stage::Left => None,
        }
    }

    /// Whether the attempt in hand follows one that was cut off.
    pub(super) fn finishes(&self) -> bool {
        self.lock().finishes
    }

    /// How many attempts have begun.
    pub(super) fn begun(&self) -> u32 {
        self.lock().begun
    }

    /// Nobody waits for the step any more.
    pub(super) fn give_up(&self) {
        self.lock().given_up = true;
    }

    /// Whether nobody waits for the step any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.lock().given_up
    }

    /// Whether the attempt in hand was taken away.
    pub(super) fn has_left(&self) -> bool {
        self.lock().stage == Stage::Left
    }

    fn lock(&self) -> MutexGuard<'_, BodyState> {
        // Nothing that runs under this lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::Json;

    use super::*;

    fn progress(attempt: u32, follows_cut_off: bool) -> BodyProgress {
        BodyProgress::of(
            &StepFacts {
                input: Json::null(),
                started_at: Timestamp::from_micros(0).unwrap(),
                attempt,
                begun: false,
                failures: 0,
                next_at: None,
                follows_cut_off,
                last_checkpoint: None,
            },
            false,
        )
    }

    #[test]
    fn the_next_attempt_belongs_to_the_body_or_to_who_took_it_and_never_to_both() {
        let at = Timestamp::from_micros(7).unwrap();
        let back_off = progress(1, false);
        assert_eq!((back_off.attempt(), back_off.leave()), (None, None), "it is in no back-off");
        back_off.back_off_until(at);
        assert!(back_off.end_back_off() && back_off.begins(1));
        assert_eq!((back_off.leave(), back_off.take()), (None, None), "the body has begun");
        back_off.failed();
        back_off.back_off_until(at);
        assert_eq!((back_off.backs_off_until(), back_off.leave()), (Some(at), Some(at)));
        assert!(!back_off.end_back_off() && !back_off.begins(2), "it was taken");
        assert_eq!((back_off.backs_off_until(), back_off.take()), (None, None));
    }

    #[test]
    fn a_pause_takes_no_attempt_whose_beginning_the_log_tells() {
        let told = progress(1, false);
        assert!(told.tells());
        assert!(!told.take_untold());
        assert!(told.begins(1));
        told.failed();
        assert!(told.take_untold());
        assert!(told.has_left() && !told.tells() && !told.begins(2));
    }

    #[test]
    fn what_a_cancel_takes_away_says_how_often_the_body_had_begun() {
        let queued = progress(1, false);
        assert_eq!(queued.take(), Some(0));
        assert!(!queued.begins(1) && queued.has_left());

        let failed = progress(1, false);
        assert!(failed.begins(1));
        failed.failed();
        failed.back_off_until(Timestamp::from_micros(7).unwrap());
        assert_eq!(failed.take(), Some(1));

        let cut_off = progress(2, true);
        assert_eq!(cut_off.take(), None, "nobody knows what the first attempt did");
        assert!(cut_off.finishes() && cut_off.begins(2));
        cut_off.failed();
        assert_eq!((cut_off.finishes(), cut_off.take()), (false, Some(2)));
    }
}
