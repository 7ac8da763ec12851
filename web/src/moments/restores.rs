//! Counts restores and how they end, for `GET /metrics`.

use std::sync::Arc;

use tidemill_eventlog::host::boot_now;
use tidemill_model::BootTime;
use tidemill_telemetry::metrics::{Counter, Histogram};

/// How many restores began, and how they ended. Opening a moment from the cache is not a restore.
#[derive(Debug)]
pub(crate) struct Restores {
    begun: Counter,
    /// Ended with a file that was restored and verified.
    pub(crate) done: Counter,
    /// Ended with an error.
    pub(crate) failed: Counter,
    /// Ended early, because nobody waited for them any more or the service stopped.
    pub(crate) abandoned: Counter,
    /// How long each restore in `done` took.
    pub(crate) took: Histogram,
}

/// A restore under way. Dropping it counts it as abandoned.
#[derive(Debug)]
pub(super) struct Restore {
    all: Arc<Restores>,
    began_at: BootTime,
    has_ended: bool,
}

impl Restores {
    pub(super) fn new() -> Arc<Restores> {
        Arc::new(Restores {
            begun: Counter::default(),
            done: Counter::default(),
            failed: Counter::default(),
            abandoned: Counter::default(),
            took: Histogram::of_restores(),
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> Restore {
        self.begun.add_one();
        Restore { all: Arc::clone(self), began_at: boot_now(), has_ended: false }
    }

    /// How many are under way.
    pub(crate) fn running(&self) -> u64 {
        let ended = self.done.get() + self.failed.get() + self.abandoned.get();
        self.begun.get().saturating_sub(ended)
    }
}

impl Restore {
    /// Counts how it ended.
    pub(super) fn ended(mut self, is_done: bool) {
        self.has_ended = true;
        if is_done {
            self.all.done.add_one();
            self.all.took.took(boot_now().since(self.began_at));
        } else {
            self.all.failed.add_one();
        }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if !self.has_ended {
            self.all.abandoned.add_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_ends_in_one_way() {
        let all = Restores::new();
        let (one, two, three) = (all.begin(), all.begin(), all.begin());
        assert_eq!(all.running(), 3);
        one.ended(true);
        two.ended(false);
        assert_eq!(all.running(), 1);
        drop(three);
        assert_eq!(all.running(), 0);
        assert_eq!((all.done.get(), all.failed.get(), all.abandoned.get()), (1, 1, 1));
        assert_eq!(all.took.cumulative().last(), Some(&(None, 1)));
    }
}
