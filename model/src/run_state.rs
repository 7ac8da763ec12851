//! What a run is: for a view of now or of the past, and for the rebuild of projections.
//!
//! The state of a run at any event is the fold of the events up to it, so looking at an earlier
//! moment needs no other machinery.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::event_data::{BlockReason, BlockReasonKind, RunCreated};
use crate::failure::{Failure, FailureKind};
use crate::fold::{Operations, RunHead};
use crate::json::Json;
use crate::log_order::Standing;
use crate::name::RunId;
use crate::operation::Op;
use crate::position::{OpId, Seq};
use crate::run_status::RunStatus;
use crate::time::Timestamp;

/// A run, folded from its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    /// The run's id.
    pub id: RunId,
    /// What it was started with.
    pub created: RunCreated,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its last event was written.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Where its log has brought it.
    pub head: RunHead,
    /// Its operations, by id.
    pub ops: BTreeMap<OpId, Op>,
    /// Its output, once completed.
    pub output: Option<Json>,
    /// Its error, once failed.
    pub error: Option<Failure>,
    /// The first event that cannot be read or does not fit those before it, where the state was
    /// folded past it to be shown.
    pub unreadable: Option<String>,
    /// The position of its last event.
    pub last_seq: Seq,
}

/// Every operation, also with its end.
impl Operations for BTreeMap<OpId, Op> {
    fn standing(&self, id: OpId) -> Standing {
        self.get(&id).map_or(Standing::Unknown, Op::standing)
    }

    fn start(&mut self, id: OpId, op: Op) {
        self.insert(id, op);
    }

    fn open(&mut self, id: OpId) -> Option<&mut Op> {
        self.get_mut(&id)
    }

    fn changed(&mut self, _: OpId) {}
}

/// An event that does not fit the events before it: the log is not of this run, or was damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} of run {run}: {what}")]
pub struct FoldError {
    /// The run.
    pub run: RunId,
    /// The event's position.
    pub seq: Seq,
    /// What does not fit.
    pub what: String,
}

impl RunState {
    /// The state after a run's first event, which must be `run_created`.
    ///
    /// # Errors
    /// [`FoldError`] if it is not.
    pub fn create(
        id: &RunId,
        seq: Seq,
        at: Timestamp,
        event: &Event,
    ) -> Result<RunState, FoldError> {
        let (mut head, mut ops) = (RunHead::default(), BTreeMap::new());
        head.apply(&mut ops, event, (seq, at)).map_err(misfit_at(id, seq))?;
        let Event::RunCreated(created) = event else {
            let what = format!("{} as the first event", event.kind());
            return Err(FoldError { run: id.clone(), seq, what });
        };
        Ok(RunState {
            id: id.clone(),
            created: (**created).clone(),
            status: RunStatus::Pending,
            created_at: at,
            updated_at: at,
            ended_at: None,
            head,
            ops,
            output: None,
            error: None,
            unreadable: None,
            last_seq: seq,
        })
    }

    /// The state after one more event.
    ///
    /// # Errors
    /// [`FoldError`] if the event does not fit; the state is then unchanged.
    pub fn apply(&mut self, seq: Seq, at: Timestamp, event: &Event) -> Result<(), FoldError> {
        let applied = self.head.apply(&mut self.ops, event, (seq, at));
        applied.map_err(misfit_at(&self.id, seq))?;
        match event {
            Event::RunCompleted { output } => self.output = Some(output.clone()),
            Event::RunFailed { error, .. } => self.error = Some(error.clone()),
            _ => {}
        }
        if self.head.is_ended() {
            self.ended_at = Some(at);
        }
        self.last_seq = seq;
        self.updated_at = at;
        self.status = self.status_now();
        Ok(())
    }

    /// Takes note of an event that cannot be read or does not fit, so that the rest can be shown.
    /// The run is then blocked, unless its end is known.
    pub fn pass_over(&mut self, seq: Seq, at: Timestamp, why: &str) {
        self.unreadable.get_or_insert_with(|| why.to_owned());
        self.last_seq = seq;
        self.updated_at = at;
        self.status = self.status_now();
    }

    /// Why it is blocked, as it is shown: a log that cannot be read comes before what the log says.
    pub fn block_reason(&self) -> Option<BlockReason> {
        if self.status != RunStatus::Blocked {
            return self.head.blocked.clone();
        }
        let logged = self.head.blocked.clone();
        match &self.unreadable {
            None => logged,
            Some(what) => logged
                .filter(|logged| logged.kind == BlockReasonKind::UnreadableLog)
                .or_else(|| Some(BlockReason::unreadable(what))),
        }
    }

    fn status_now(&self) -> RunStatus {
        if self.output.is_some() {
            return RunStatus::Completed;
        }
        if let Some(error) = &self.error {
            return match error.kind {
                FailureKind::Cancelled => RunStatus::Cancelled,
                FailureKind::Failed
                | FailureKind::TimedOut
                | FailureKind::Interrupted
                | FailureKind::Rejected => RunStatus::Failed,
            };
        }
        if self.unreadable.is_some() { RunStatus::Blocked } else { self.head.status() }
    }
}

fn misfit_at(run: &RunId, seq: Seq) -> impl Fn(String) -> FoldError {
    let run = run.clone();
    move |what| FoldError { run: run.clone(), seq, what }
}

#[cfg(test)]
mod tests;
