//! The state file of a ready node, and how this process writes it. The owners share it; each change
//! is one method.
//!
//! Small writes are done in place: they must be on disk before the next effect anyway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{Epoch, LastGood, NodeState, Stage};

use crate::context::Context;
use crate::error::Error;
use crate::failpoint;
use crate::problems::Topic;
use crate::start::proof::later_good;
use crate::start::{pace, pacing};
use crate::supervise::Unfit;

/// The state file.
pub(crate) struct NodeRecord {
    context: Arc<Context>,
    epoch: Epoch,
    kept: Mutex<KeptState>,
}

struct KeptState {
    state: NodeState,
    /// Whether an app was let in since the last cure: its end without a goodbye counts as a
    /// failure.
    let_in: bool,
}

impl NodeRecord {
    /// The record of an epoch, as the state file has it now.
    pub(crate) fn new(context: &Arc<Context>, epoch: Epoch, state: NodeState) -> NodeRecord {
        let kept = Mutex::new(KeptState { state, let_in: false });
        NodeRecord { context: Arc::clone(context), epoch, kept }
    }

    fn kept(&self) -> MutexGuard<'_, KeptState> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the state file says.
    pub(crate) fn state(&self) -> NodeState {
        self.kept().state.clone()
    }

    /// The last barrier that counted.
    pub(crate) fn last_good(&self) -> Option<LastGood> {
        self.kept().state.last_good
    }

    /// Whether a cure was begun and not finished.
    pub(crate) fn is_in_cure(&self) -> bool {
        self.kept().state.stage == Stage::Cure
    }

    /// Notes that an app may open the file from now on.
    pub(crate) fn let_app_in(&self) {
        self.kept().let_in = true;
    }

    /// Writes the stage; returns whether the disk has it.
    pub(crate) fn save_stage(&self, stage: Stage, good: Option<LastGood>) -> bool {
        let mut kept = self.kept();
        let state = &mut kept.state;
        state.stage = stage;
        state.last_good = good.map(|good| later_good(state.last_good, good)).or(state.last_good);
        match (self.context.save(state), stage) {
            (Ok(()), _) => self.context.clear(Topic::Disk),
            // The node is lost either way: the next start learns it from the lease.
            (Err(error), Stage::Fenced) => tracing::error!(%error, "cannot record the fence"),
            (Err(error), Stage::Claimed | Stage::Restored | Stage::Shipping | Stage::Cure) => {
                self.say_disk(&error, "waiting until the state file can be written");
                return false;
            }
        }
        match stage {
            Stage::Cure => failpoint::reached("cure_begun"),
            Stage::Shipping => failpoint::reached("first_barrier"),
            Stage::Claimed | Stage::Restored | Stage::Fenced => {}
        }
        true
    }

    /// Writes a barrier that counted; returns whether the disk has it. During a cure the earlier
    /// barrier stays, because the break that begins there is not written yet.
    pub(crate) fn save_good(&self, good: LastGood) -> bool {
        if self.is_in_cure() {
            return true;
        }
        let mut kept = self.kept();
        let before = kept.state.last_good;
        kept.state.last_good = Some(later_good(before, good));
        match self.context.save(&kept.state) {
            Ok(()) => {
                self.context.clear(Topic::Disk);
                true
            }
            Err(error) => {
                self.say_disk(&error, "a barrier that is not recorded does not count");
                kept.state.last_good = before;
                false
            }
        }
    }

    /// Notes that nothing more may be shipped under this prefix. If Litestream is at fault, the
    /// file has everything that was ever committed; otherwise the bucket has what was covered.
    pub(crate) fn abandon(&self, why: Unfit) {
        let why = match why {
            Unfit::Litestream => {
                "litestream lost its own state: this epoch ends here, and the next start ships \
                 the file under the next one"
            }
            Unfit::Bucket => "the lease is gone: this epoch ends here",
            Unfit::File => {
                "the file lacks what was covered: this epoch ends here, and the next start begins \
                 the next one from what the bucket has"
            }
            Unfit::Answers => {
                "litestream's answers stay wrong after every restart: this epoch ends here, and the \
                 next start ships the file under the next one"
            }
        };
        tracing::error!(epoch = %self.epoch, "{why}");
        self.context.say(Topic::Litestream, why);
        let mut kept = self.kept();
        kept.state.abandoned = true;
        if let Err(error) = self.context.save(&kept.state) {
            tracing::error!(%error, "cannot record it: the next start will find the same");
        }
    }

    /// Counts the death of an app that this process let in as a failure, which the next write
    /// records. Returns how long the cure waits (not at all in a hurry); `None` if no app was let
    /// in since the last cure.
    pub(crate) fn count_cure(&self, hurry: bool) -> Option<Duration> {
        let mut kept = self.kept();
        if !std::mem::take(&mut kept.let_in) {
            return None;
        }
        let (before, now) = (kept.state.failures, host::boot_now());
        let wait = match hurry {
            true => Duration::ZERO,
            false => pace::wait(before, true, now, self.context.settings.pace_most),
        };
        if !wait.is_zero() {
            pacing::say(&self.context, before, wait, "the cure of its replica");
        }
        kept.state.failures = Some(pace::begun(before, now.saturating_add(wait)));
        Some(wait)
    }

    /// Whether earlier failures delay the next claim or cure.
    pub(crate) fn has_failures(&self) -> bool {
        self.kept().state.failures.is_some()
    }

    /// Forgets earlier failures, so that they delay nothing.
    pub(crate) fn forgive(&self) {
        let mut kept = self.kept();
        if kept.state.failures.take().is_some()
            && let Err(error) = self.context.save(&kept.state)
        {
            tracing::warn!(%error, "cannot record that this life ended well");
        }
    }

    /// Reports that the state file cannot be written.
    fn say_disk(&self, error: &Error, then: &str) {
        if self.context.say(Topic::Disk, format!("{error}: {then}")) {
            tracing::warn!(%error, "{then}");
        }
    }
}

#[cfg(test)]
impl NodeRecord {
    /// The record of a node in epoch 3 that ships a file in `dir`, with a changed state.
    pub(crate) async fn in_test(
        dir: &std::path::Path,
        change: impl FnOnce(&mut NodeState),
    ) -> (Arc<Context>, Arc<NodeRecord>) {
        let context = Context::in_test(dir).await;
        let mut state = crate::testing::state(Stage::Shipping);
        change(&mut state);
        let record = NodeRecord::new(&context, crate::testing::epoch(3), state);
        (context, Arc::new(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::state_file;
    use crate::testing::good;

    async fn record(stage: Stage) -> (tempfile::TempDir, Arc<Context>, Arc<NodeRecord>) {
        let dir = tempfile::tempdir().unwrap();
        let (context, record) = NodeRecord::in_test(dir.path(), |state| state.stage = stage).await;
        (dir, context, record)
    }

    fn on_disk(context: &Context) -> NodeState {
        state_file::read(context.beside()).unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_barrier_is_on_the_disk_before_it_counts_and_never_goes_back() {
        let (_dir, context, record) = record(Stage::Shipping).await;
        assert!(record.save_good(good(10, 60)));
        assert_eq!(on_disk(&context).last_good, Some(good(10, 60)));
        assert!(record.save_good(good(9, 55)), "an older one changes nothing");
        assert_eq!(on_disk(&context).last_good, Some(good(10, 60)));
    }

    #[tokio::test]
    async fn in_a_cure_the_barrier_at_which_its_break_begins_stays() {
        let (_dir, context, record) = record(Stage::Shipping).await;
        assert!(record.save_stage(Stage::Cure, None));
        assert!(record.is_in_cure() && record.save_good(good(10, 60)));
        assert_eq!(on_disk(&context).last_good, Some(good(9, 50)));
        assert!(record.save_stage(Stage::Shipping, Some(good(11, 70))));
        assert_eq!(on_disk(&context).last_good, Some(good(11, 70)));
    }

    #[tokio::test]
    async fn what_cannot_be_written_does_not_count_and_is_said_until_it_can() {
        let (dir, context, record) = record(Stage::Shipping).await;
        // A folder has the new file's name, so the write must fail.
        let new = dir.path().join("workflow.db.node.json.new");
        std::fs::create_dir(&new).unwrap();
        assert!(!record.save_good(good(10, 60)) && !record.save_stage(Stage::Cure, None));
        assert_eq!(record.last_good(), Some(good(9, 50)));
        assert!(context.status().problems.of(Topic::Disk).is_some());
        std::fs::remove_dir(&new).unwrap();
        assert!(record.save_stage(Stage::Cure, None));
        assert!(context.status().problems.of(Topic::Disk).is_none());
        assert_eq!(on_disk(&context).stage, Stage::Cure);
    }

    #[tokio::test]
    async fn an_app_that_was_let_in_is_counted_once_and_forgiven_on_the_disk() {
        let (_dir, context, record) = record(Stage::Shipping).await;
        assert_eq!(record.count_cure(false), None, "no app was let in");
        record.let_app_in();
        assert_eq!(record.count_cure(false), Some(Duration::ZERO), "the first is free");
        assert_eq!(record.count_cure(false), None);
        for _ in 0..3 {
            record.let_app_in();
            assert!(record.count_cure(false).is_some());
        }
        record.let_app_in();
        assert_eq!(record.count_cure(true), Some(Duration::ZERO), "in a hurry");
        record.save_stage(Stage::Cure, None);
        assert_eq!(on_disk(&context).failures.map(|failures| failures.count), Some(5));
        assert!(record.has_failures());
        record.forgive();
        assert_eq!(on_disk(&context).failures, None);
    }

    #[tokio::test]
    async fn an_epoch_that_is_abandoned_stays_so() {
        let (_dir, context, record) = record(Stage::Shipping).await;
        record.abandon(Unfit::Litestream);
        assert!(on_disk(&context).abandoned);
        assert!(record.save_stage(Stage::Cure, None));
        assert!(on_disk(&context).abandoned);
    }
}
