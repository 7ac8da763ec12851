//! Decides how long the writer waits for more messages before it commits. Pure.
//!
//! Runs that were answered together send their next messages within moments of each other. If the
//! first of them got a commit of its own, all others would wait for a whole sync. So the writer
//! waits for the runs that it has just answered: for less than half of the cheapest sync on this
//! disk, and more rarely after waits that were wasted. A run that is alone never waits, and an idle
//! writer has no timer.

use std::time::Duration;

/// The shortest useful wait: a shorter one would end late by as much as it lasts.
const PATIENCE_MIN: Duration = Duration::from_micros(100);

/// The longest wait on any disk; longer in tests, whose disks are slower and machines busier.
const PATIENCE_MAX: Duration = Duration::from_millis(if cfg!(test) { 1_000 } else { 20 });

/// The largest number of commits that do not wait after wasted waits.
const SKIPPED_MAX: u32 = 64;

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// The number of messages that the commit waits for.
    pub(super) messages: usize,
    /// The longest that it waits.
    pub(super) patience: Duration,
}

/// The memory of earlier commits and waits.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// How many messages the last commit answered.
    answered: usize,
    /// How many other messages waited then.
    others: usize,
    /// The cheapest sync, which rises slowly again if later syncs cost more.
    sync: Duration,
    /// How many commits skipped the wait after the last wasted one; doubled by the next wasted one.
    vain: u32,
    skip: u32,
}

impl Gather {
    /// What the next commit waits for; `None` if it does not wait.
    pub(super) fn wish(&mut self) -> Option<Wish> {
        let patience = (self.sync / 2).min(PATIENCE_MAX);
        if self.answered < 2 || patience < PATIENCE_MIN {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(Wish { messages: self.answered + self.others, patience })
    }

    /// The cost of the cheapest sync.
    pub(super) fn sync(&self) -> Duration {
        self.sync
    }

    /// Notes how many messages a transaction that waited had at its end.
    pub(super) fn came(&mut self, there: usize) {
        if there.saturating_sub(self.others) * 2 > self.answered {
            self.vain = 0;
        } else {
            self.vain = (self.vain * 2).clamp(1, SKIPPED_MAX);
            self.skip = self.vain;
        }
    }

    /// Notes a synced commit: how many messages it answers, how many others wait, what the sync
    /// cost.
    pub(super) fn committed(&mut self, answered: usize, others: usize, sync: Duration) {
        self.answered = answered;
        self.others = others;
        let forgetting = self.sync + self.sync / 16;
        self.sync = if self.sync.is_zero() { sync } else { sync.min(forgetting) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_run_that_is_alone_never_waits() {
        let mut gather = Gather::default();
        for _ in 0..10 {
            assert_eq!(gather.wish(), None);
            gather.committed(1, 0, 2 * MS);
        }
    }

    #[test]
    fn those_who_were_answered_are_waited_for_with_those_who_waited_then() {
        let mut gather = Gather::default();
        gather.committed(200, 56, 2 * MS);
        assert_eq!(gather.wish(), Some(Wish { messages: 256, patience: MS }));
        gather.came(206);
        gather.committed(206, 0, 9 * MS);
        let wish = gather.wish().unwrap();
        assert_eq!(wish.messages, 206);
        assert!(wish.patience < MS * 11 / 10, "what a large commit costs is no measure");
    }

    #[test]
    fn one_of_two_that_comes_back_alone_is_no_reason_to_wait_again() {
        let mut gather = Gather::default();
        gather.committed(2, 0, 2 * MS);
        assert!(gather.wish().is_some());
        gather.came(1);
        gather.committed(2, 0, 2 * MS);
        assert_eq!(gather.wish(), None);
    }

    #[test]
    fn a_disk_without_a_cost_is_not_waited_for() {
        let mut gather = Gather::default();
        gather.committed(256, 0, PATIENCE_MIN);
        assert_eq!(gather.wish(), None);
    }

    #[test]
    fn waits_in_vain_become_rare_and_one_that_paid_ends_that() {
        let mut gather = Gather::default();
        gather.committed(256, 20, 2 * MS);
        let mut waits = 0;
        for _ in 0..1_000 {
            if gather.wish().is_some() {
                waits += 1;
                gather.came(20 + 100);
            }
        }
        assert!(waits < 30, "{waits}");
        while gather.wish().is_none() {}
        gather.came(20 + 129);
        assert!(gather.wish().is_some() && gather.wish().is_some());
    }
}
