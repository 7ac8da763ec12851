//! The keeper of the epoch's records: its stage on the disk, its breaks in the bucket, its lease.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{Stage, Txid};
use tokio::sync::Notify;
use tracing::field::display;

use crate::context::Context;
use crate::error::Error;
use crate::failpoint;
use crate::lease::renew::{LeaseFound, LeaseGate};
use crate::lease::thread::{HeldLease, LeaseView};
use crate::node_record::NodeRecord;
use crate::problems::Topic;
use crate::ship::breaks;
use crate::supervise::{EpochEffect, Input, Post};
use crate::tasks::Tasks;

/// How long a release may take beyond the end of the lease, which then expires anyway.
const RELEASE_BOUND: Duration = Duration::from_secs(2);

/// The epoch's records.
pub(super) struct EpochKeeper {
    context: Arc<Context>,
    record: Arc<NodeRecord>,
    lease: HeldLease,
    view: LeaseView,
    /// How long the cure under way waits before it begins to ship.
    cure_wait: Duration,
    /// Ends the cure's wait when a signal asks this process to end.
    hurry: Arc<Notify>,
    tasks: Tasks<EpochDone>,
}

/// What happened to the epoch's records.
pub(super) enum EpochDone {
    /// The lease changed, or its thread ended.
    Lease(Result<LeaseView, Error>),
    /// A break was written to the bucket, or the reason why not.
    Break(Result<(), String>),
    /// Whether the release reached the store in time.
    Released(bool),
}

impl EpochKeeper {
    pub(super) fn new(
        context: &Arc<Context>,
        record: &Arc<NodeRecord>,
        lease: HeldLease,
    ) -> EpochKeeper {
        EpochKeeper {
            context: Arc::clone(context),
            record: Arc::clone(record),
            view: lease.view(),
            lease,
            cure_wait: Duration::ZERO,
            hurry: Arc::new(Notify::new()),
            tasks: Tasks::new(),
        }
    }

    /// What happens next.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> EpochDone {
        tokio::select! {
            biased;
            view = self.lease.changed() => EpochDone::Lease(view),
            done = self.tasks.next() => done,
        }
    }

    /// The lease, as of the last change that was taken.
    pub(super) fn lease(&self) -> &LeaseView {
        &self.view
    }

    /// Ends a cure's wait, because a signal asks this process to end.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    pub(super) fn perform(&mut self, effect: EpochEffect, post: &mut Post) {
        match effect {
            EpochEffect::SaveStage { stage, good, hurry } => {
                if stage == Stage::Cure
                    && let Some(wait) = self.record.count_cure(hurry)
                {
                    self.cure_wait = wait;
                }
                post.tell(match self.record.save_stage(stage, good) {
                    true => Input::StageSaved,
                    false => Input::StageNotSaved,
                });
            }
            EpochEffect::Abandon(why) => self.record.abandon(why),
            EpochEffect::WriteBreak { after, until } => self.write_break(after, until),
            EpochEffect::Release { until } => {
                let release = self.lease.release();
                let most = self.context.settings.ttl.get() + RELEASE_BOUND;
                let bound = until.since(host::boot_now()).min(most);
                self.tasks.spawn(async move {
                    let released = tokio::time::timeout(bound, release).await;
                    EpochDone::Released(released.unwrap_or(false))
                });
            }
        }
    }

    pub(super) fn finished(&mut self, done: EpochDone, post: &mut Post) -> Result<(), Error> {
        match done {
            EpochDone::Lease(view) => {
                self.view = view?;
                self.tell_if_lost(post);
            }
            EpochDone::Break(result) => {
                self.break_tried(result.as_ref().err());
                post.tell(Input::BreakWritten(result.is_ok()));
            }
            EpochDone::Released(done) => post.tell(Input::Released(done)),
        }
        Ok(())
    }

    /// Tells the supervisor if the lease is lost.
    pub(super) fn tell_if_lost(&self, post: &mut Post) {
        match &self.view.gate {
            LeaseGate::Fenced { by: LeaseFound::Absent } => post.tell(Input::LeaseGone),
            LeaseGate::Fenced { .. } => post.tell(Input::Fenced),
            LeaseGate::Open { .. } | LeaseGate::Closed | LeaseGate::Released => {}
        }
    }

    fn write_break(&mut self, after: Option<Txid>, until: Option<Txid>) {
        if until.is_some() {
            failpoint::reached("cure_copied");
        }
        let (context, epoch) = (Arc::clone(&self.context), self.record.epoch());
        let (wait, hurry) = (std::mem::take(&mut self.cure_wait), Arc::clone(&self.hurry));
        self.tasks.spawn(async move {
            if !wait.is_zero() {
                drop(tokio::time::timeout(wait, hurry.notified()).await);
                context.clear(Topic::Pace);
            }
            let open = breaks::open(after);
            let doc = until.map_or_else(|| open.clone(), |until| breaks::closed(&open, until));
            let written = breaks::write(&context, epoch, &doc).await;
            if written.is_ok() {
                say_marked(after, until);
            }
            EpochDone::Break(written.map_err(|e| e.to_string()))
        });
    }

    /// Notes whether a break could be written. A cure waits for its breaks: without them the bucket
    /// would offer a moment that never existed.
    fn break_tried(&mut self, failure: Option<&String>) {
        let Some(why) = failure else { return self.context.clear(Topic::Break) };
        let text = "the cure waits, and no app may attach: cannot mark what may not be restored";
        if self.context.say(Topic::Break, format!("{text}: {why}")) {
            tracing::warn!(%why, "{text}");
        }
    }

    /// Aborts the running tasks and ends the lease's thread.
    pub(super) async fn close(mut self) {
        self.tasks.close().await;
    }
}

fn say_marked(after: Option<Txid>, until: Option<Txid>) {
    match until {
        None => {
            tracing::info!(
                after = after.map(display),
                "nothing that is shipped after this is offered until the cure ends"
            );
            failpoint::reached("cure_marked");
        }
        Some(until) => {
            let after = after.map(display);
            tracing::info!(after, %until, "what was shipped in between is marked as not restorable");
            failpoint::reached("cure_closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::BootTime;
    use tokio::sync::watch;

    use super::*;
    use crate::testing::{good, ms};

    struct Fixture {
        _dir: tempfile::TempDir,
        record: Arc<NodeRecord>,
        keeper: EpochKeeper,
        lease: watch::Sender<LeaseView>,
        post: Post,
    }

    fn open() -> LeaseGate {
        LeaseGate::Open { until: BootTime::from_nanos(u64::MAX) }
    }

    impl Fixture {
        async fn new(gate: LeaseGate) -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            let (context, record) = NodeRecord::in_test(dir.path(), |_| {}).await;
            let (held, lease) = HeldLease::in_test(gate);
            let keeper = EpochKeeper::new(&context, &record, held);
            Fixture { _dir: dir, record, keeper, lease, post: Post::default() }
        }

        /// Takes the next result and returns the supervisor's input for it.
        async fn next(&mut self) -> Option<Input> {
            let done = self.keeper.next().await;
            self.keeper.finished(done, &mut self.post).unwrap();
            self.post.take()
        }
    }

    #[tokio::test]
    async fn a_lease_that_is_lost_is_told_and_one_that_is_merely_late_is_not() {
        let mut fixture = Fixture::new(open()).await;
        fixture.keeper.tell_if_lost(&mut fixture.post);
        assert_eq!(fixture.post.take(), None);
        for (gate, told) in [
            (LeaseGate::Closed, None),
            (open(), None),
            (LeaseGate::Fenced { by: LeaseFound::Newer(2) }, Some(Input::Fenced)),
            (LeaseGate::Fenced { by: LeaseFound::Absent }, Some(Input::LeaseGone)),
        ] {
            fixture.lease.send_replace(LeaseView {
                gate: gate.clone(),
                last_write: ms(1),
                covered: None,
            });
            assert_eq!(fixture.next().await, told, "{gate:?}");
            assert_eq!(fixture.keeper.lease().gate, gate);
        }
    }

    #[tokio::test]
    async fn the_end_of_the_leases_thread_is_the_end_of_the_node() {
        let mut fixture = Fixture::new(open()).await;
        let (_, other) = HeldLease::in_test(open());
        drop(std::mem::replace(&mut fixture.lease, other));
        let done = fixture.keeper.next().await;
        let failed = fixture.keeper.finished(done, &mut fixture.post);
        assert!(failed.unwrap_err().to_string().contains("the lease's thread has ended"));
    }

    #[tokio::test]
    async fn a_stage_is_answered_when_it_is_on_the_disk_and_a_break_when_the_bucket_has_it() {
        let mut fixture = Fixture::new(open()).await;
        let good = Some(good(11, 70));
        let save = EpochEffect::SaveStage { stage: Stage::Shipping, good, hurry: false };
        fixture.keeper.perform(save, &mut fixture.post);
        assert_eq!(fixture.post.take(), Some(Input::StageSaved));
        assert_eq!(fixture.record.last_good(), good);
        let open_break = EpochEffect::WriteBreak { after: good.map(|good| good.txid), until: None };
        fixture.keeper.perform(open_break, &mut fixture.post);
        assert_eq!(fixture.post.take(), None, "the store was asked");
        assert_eq!(fixture.next().await, Some(Input::BreakWritten(false)), "it does not answer");
        // Its thread has ended, and with it the way to the store.
        fixture
            .keeper
            .perform(EpochEffect::Release { until: ms(u64::MAX / 1_000_000) }, &mut fixture.post);
        assert_eq!(fixture.next().await, Some(Input::Released(false)));
    }
}
