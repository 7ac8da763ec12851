//! The second stage of a round: it reads the lease once more, records the round, and answers the
//! callers whose event it covers.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill_model::{BootTime, LastGood};

use super::{Barriers, Effect, LeaseShows, Waiter};

/// How long a poke's result may wait for its confirmation, which costs a GET and an fsync.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The state of an upload's confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmation {
    /// None is under way.
    Idle,
    /// The lease is being read.
    Reading(LastGood),
    /// The store did not answer: the lease is read again at this moment.
    ReadAgainAt(LastGood, BootTime),
    /// The state file is being written.
    Saving(LastGood),
    /// It was abandoned, and its answer is still under way.
    Stale,
}

impl Confirmation {
    pub(super) fn is_current(self) -> bool {
        match self {
            Confirmation::Reading(_) | Confirmation::ReadAgainAt(..) | Confirmation::Saving(_) => {
                true
            }
            Confirmation::Idle | Confirmation::Stale => false,
        }
    }

    pub(super) fn given_up(self) -> Confirmation {
        match self {
            Confirmation::Idle | Confirmation::ReadAgainAt(..) => Confirmation::Idle,
            Confirmation::Reading(_) | Confirmation::Saving(_) | Confirmation::Stale => {
                Confirmation::Stale
            }
        }
    }

    pub(super) fn again_at(self) -> Option<BootTime> {
        match self {
            Confirmation::ReadAgainAt(_, at) => Some(at),
            Confirmation::Idle
            | Confirmation::Reading(_)
            | Confirmation::Saving(_)
            | Confirmation::Stale => None,
        }
    }
}

impl Barriers {
    /// Whether an answer belongs to the confirmation under way; the answer of an abandoned
    /// confirmation ends here.
    fn is_of_confirmation(&mut self) -> bool {
        let stale = self.confirmation == Confirmation::Stale;
        if stale {
            self.confirmation = Confirmation::Idle;
        }
        !stale
    }

    /// Begins to confirm an upload, if a caller waits for it or a confirmation is due.
    pub(super) fn confirm(
        &mut self,
        good: LastGood,
        moved: bool,
        now: BootTime,
        effects: &mut Vec<Effect>,
    ) {
        let waited_for = self.waiters.iter().any(|waiter| waiter.is_covered_by(good.seq));
        let uncounted = moved || self.last_good != Some(good);
        let count_due = self.counted_at.is_none_or(|at| now.since(at) >= COUNT_EVERY);
        if waited_for || (uncounted && count_due) {
            self.confirmation = Confirmation::Reading(good);
            effects.push(Effect::ReadLease);
        }
    }

    pub(super) fn read_again(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        if let Confirmation::ReadAgainAt(good, at) = self.confirmation
            && now >= at
        {
            self.confirmation = Confirmation::Reading(good);
            effects.push(Effect::ReadLease);
        }
    }

    pub(super) fn lease(&mut self, shows: LeaseShows, now: BootTime, effects: &mut Vec<Effect>) {
        if !self.is_of_confirmation() {
            return;
        }
        let Confirmation::Reading(good) = self.confirmation else { return };
        match shows {
            LeaseShows::Ours => {
                self.confirmation = Confirmation::Saving(good);
                effects.push(Effect::Save(good));
            }
            LeaseShows::Foreign => {
                effects.push(Effect::Foreign);
                self.fence(effects);
            }
            LeaseShows::Unknown => {
                self.failures = self.failures.saturating_add(1);
                let at = now.saturating_add(self.retry_after());
                self.confirmation = Confirmation::ReadAgainAt(good, at);
            }
        }
    }

    pub(super) fn saved(&mut self, done: bool, now: BootTime, effects: &mut Vec<Effect>) {
        if !self.is_of_confirmation() {
            return;
        }
        let Confirmation::Saving(good) = self.confirmation else { return };
        if !done {
            return self.fail(now);
        }
        self.confirmation = Confirmation::Idle;
        self.failures = 0;
        self.last_good = Some(good);
        self.counted_at = Some(now);
        effects.push(Effect::Counted(good));
        let waiters = std::mem::take(&mut self.waiters).into_iter();
        let (covered, rest): (VecDeque<Waiter>, VecDeque<Waiter>) =
            waiters.partition(|waiter| waiter.is_covered_by(good.seq));
        self.waiters = rest;
        effects.extend(covered.into_iter().map(|waiter| Effect::Accept(waiter.id, good)));
    }
}
