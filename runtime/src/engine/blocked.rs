//! Runs that take nothing in, because they are blocked or paused: how the driver records and reports
//! a block, and what ends it.
//!
//! Meanwhile the driver holds whatever arrives (`held.rs`). `resume` lets the run go on, and so does
//! the next process if it is blocked; it can be asked to end (`asks.rs`).

use std::future::poll_fn;
use std::time::Duration;

use tidemill_model::{BlockReason, BlockReasonKind, Event, OpId, RunStatus, Seq};

use super::bodies::RunningBody;
use super::driver::{Driver, Next};
use super::handle::RunResult;
use super::held::Holding;
use super::inbox::{Control, Mail};
use super::journal::Journal;
use super::turn::Pending;
use crate::error::{Error, ErrorKind, closed};
use crate::store::Stored;

/// How long the driver waits for a better reason before it blocks a run for a foreign wait. The run
/// makes no progress anyway, and a task that was just spawned runs within milliseconds.
const MISUSE_WAIT: Duration = Duration::from_millis(300);

impl Driver {
    /// Improves the reason for a foreign wait. A workflow that awaits a task which it has spawned
    /// is in a foreign wait at once; the task often then makes a call that names the mistake
    /// better, so this waits a moment for it.
    pub(crate) async fn with_its_misuse(&self, reason: BlockReason) -> BlockReason {
        if reason.kind != BlockReasonKind::ForeignWait {
            return reason;
        }
        tokio::select! {
            biased;
            () = self.engine.closing.cancelled() => reason,
            misuse = poll_fn(|cx| self.run.inbox.poll_misuse(cx)) => misuse,
            () = self.engine.timers.sleep_really(MISUSE_WAIT) => reason,
        }
    }

    /// Drops the life and records that the run is blocked.
    pub(crate) async fn block(
        &mut self,
        logged: Option<&BlockReason>,
        last: Seq,
        reason: BlockReason,
    ) -> Next {
        self.record_blocked(logged, last, reason).await.err().unwrap_or(Next::Halted)
    }

    /// Records why the run is blocked, unless the log's last reason, `logged`, is the same.
    async fn record_blocked(
        &mut self,
        logged: Option<&BlockReason>,
        last: Seq,
        reason: BlockReason,
    ) -> Result<(), Next> {
        if logged != Some(&reason) {
            let mut pending = Pending::default();
            pending.block(reason.clone());
            pending.status = Some(RunStatus::Blocked);
            match self.commit(last, &mut pending).await {
                Ok(_) => {}
                Err(Next::Rebuild(_)) if self.unwritable.take().is_some() => {
                    self.engine.refusals.hold(&self.run.id, reason.clone());
                }
                Err(next) => return Err(next),
            }
        }
        self.tell_blocked(reason);
        Ok(())
    }

    pub(crate) fn tell_blocked(&self, reason: BlockReason) {
        tracing::error!(
            run = %self.run.id, kind = reason.kind.as_str(), op = reason.op.map(OpId::get),
            logged = reason.logged, asked = reason.asked, advice = reason.advice,
            "a run is blocked"
        );
        self.run.outcome.send_replace(Some(RunResult::Blocked(reason)));
    }

    /// Waits until the run is tried again, is asked to end, or leaves memory.
    pub(crate) async fn wait_halted(&mut self) -> Next {
        let mut holding = Holding::default();
        self.tell_why_blocked().await;
        loop {
            let may_leave = self.may_leave(&holding);
            let Some(Mail { inputs, controls, .. }) = self.mail(may_leave).await else {
                if self.unload(&Journal::default()) {
                    return Next::Gone;
                }
                continue;
            };
            self.hold(&mut holding, inputs).await;
            let mut controls = controls.into_iter();
            while let Some(control) = controls.next() {
                match control {
                    Control::Stop => {
                        // Ends that only memory has are delivered again.
                        self.run.inbox.put_back(holding.into_unrecorded());
                        return Next::Gone;
                    }
                    // Its next life finds them in the log.
                    Control::BackOff | Control::News => {}
                    Control::Ask(ask) => {
                        let Some(next) = self.answer_halted(ask).await else { continue };
                        self.run.outcome.send_if_modified(clear_block);
                        self.run.inbox.put_back(holding.into_unrecorded());
                        self.run.inbox.put_back_controls(controls.collect());
                        return next;
                    }
                    Control::Resume(reply) => {
                        let resumed = self.record_resumed().await;
                        let go = resumed.is_ok();
                        if go {
                            // Before the answer, so that a caller who has it does not see the old
                            // reason again.
                            self.run.outcome.send_replace(None);
                        }
                        // The caller may have gone.
                        let _ = reply.send(resumed);
                        if go {
                            self.run.inbox.put_back(holding.into_unrecorded());
                            // A cancel in the same mail is for the resumed run.
                            self.run.inbox.put_back_controls(controls.collect());
                            return Next::Rebuild(None);
                        }
                    }
                }
            }
        }
    }

    /// Whether the run can leave memory, because the file has everything about it.
    fn may_leave(&self, holding: &Holding) -> bool {
        holding.is_empty()
            && self.bodies.values().all(RunningBody::is_finished)
            && self.engine.refusals.held(&self.run.id).is_none()
    }

    /// Publishes why the run is blocked, if this process has not done so yet.
    async fn tell_why_blocked(&self) {
        if self.run.outcome.borrow().is_some() {
            return;
        }
        if let Ok(Some(Stored::Blocked(_, reason))) =
            self.engine.store.reads().find(&self.run.id).await
        {
            self.run.outcome.send_replace(Some(RunResult::Blocked(reason)));
        }
    }

    async fn record_resumed(&mut self) -> Result<(), Error> {
        self.no_refusal();
        let Ok(mut journal) = self.journal().await? else {
            // It would be blocked for the same reason. A file that was repaired is read again.
            return Ok(());
        };
        if !journal.head.is_halted() {
            // Only this process knows that the run is blocked.
            return Ok(());
        }
        let mut pending = Pending::default();
        pending.push(Event::RunResumed {});
        (journal.head.blocked, journal.head.paused) = (None, None);
        pending.status = Some(journal.head.status());
        match self.commit(journal.head.last, &mut pending).await {
            Ok(_) => {
                if let Some(run) = journal.mark(&self.run.id) {
                    self.engine.polls.forgive(run);
                }
                Ok(())
            }
            Err(Next::Gone) => Err(closed()),
            Err(_) => {
                Err(Error::new(ErrorKind::Unavailable, "it could not be recorded: try again"))
            }
        }
    }
}

/// Forgets that the run was blocked, if its end is not known.
fn clear_block(outcome: &mut Option<RunResult>) -> bool {
    outcome.take_if(|outcome| matches!(outcome, RunResult::Blocked(_))).is_some()
}
