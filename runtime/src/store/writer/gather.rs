//! How long the writer waits for more before it commits. Pure.
//!
//! Runs that were answered together come back within moments of each other. If the first of them
//! got a commit of its own, all others would wait for a whole sync. So the writer waits for those
//! whom it has just answered: for less than half of what a sync costs on this disk at least, and
//! not when it did so in vain. A run that is alone never waits, and nothing ticks while none comes.

use std::time::Duration;

/// A wait that is shorter than this ends late by as much.
const PATIENCE_MIN: Duration = Duration::from_micros(100);

/// No disk makes anybody wait for longer; tests have slower disks, and busier machines.
const PATIENCE_MAX: Duration = Duration::from_millis(if cfg!(test) { 1_000 } else { 20 });

/// After waits in vain so many commits do without.
const SKIPPED_MAX: u32 = 64;

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// So many messages.
    pub(super) messages: usize,
    /// But no longer than this.
    pub(super) patience: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// How many messages the last commit answered.
    answered: usize,
    /// How many others waited then.
    others: usize,
    /// What a sync costs at least; it forgets a quick one slowly.
    sync: Duration,
    /// How many commits do without a wait after the next one in vain.
    vain: u32,
    skip: u32,
}

impl Gather {
    /// What the next commit waits for; `None` if for nothing.
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

    /// What a sync costs at least.
    pub(super) fn sync(&self) -> Duration {
        self.sync
    }

    /// So many were there when the transaction ended that had a wish.
    pub(super) fn came(&mut self, there: usize) {
        if there.saturating_sub(self.others) * 2 > self.answered {
            self.vain = 0;
        } else {
            self.vain = (self.vain * 2).clamp(1, SKIPPED_MAX);
            self.skip = self.vain;
        }
    }

    /// A commit was synced, and so many messages are about to be answered, while others wait.
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
