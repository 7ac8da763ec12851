//! The fold from a run's events to what the run is: one function for live views, for the past,
//! and for the rebuild of projections.
//!
//! The state of a run at any event is the fold of the events up to it, so looking at an earlier
//! moment needs no other machinery.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::attempts::{Attempt, AttemptState, Attempts};
use crate::event::Event;
use crate::event_data::{BlockReason, BlockReasonKind, ProcessEnd, RunCreated};
use crate::failure::{Failure, FailureKind};
use crate::json::Json;
use crate::log_order::{self, OpClass, Phase, Standing};
use crate::name::{Invalid, OpName, RunId};
use crate::position::{Epoch, OpId, Seq};
use crate::time::Timestamp;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Created; no process has taken it up yet.
    Pending,
    /// At least one step is open, or the workflow itself is about to be polled.
    Running,
    /// Everything that is open waits for time, a signal or a child.
    Suspended,
    /// Somebody asked it to start nothing new.
    Paused,
    /// It cannot go on until somebody mends the reason.
    Blocked,
    /// It ended with an output.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [RunStatus; 8] = [
        RunStatus::Pending,
        RunStatus::Running,
        RunStatus::Suspended,
        RunStatus::Paused,
        RunStatus::Blocked,
        RunStatus::Completed,
        RunStatus::Failed,
        RunStatus::Cancelled,
    ];

    /// The status of a run that was taken up and has not ended, from what it has open: a run that
    /// only waits is suspended. The engine and the fold share this rule.
    pub fn active(steps_open: usize, waits_open: usize) -> RunStatus {
        if steps_open == 0 && waits_open > 0 { RunStatus::Suspended } else { RunStatus::Running }
    }

    /// The text of the `status` column.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Pending => "pending",
            RunStatus::Running => "running",
            RunStatus::Suspended => "suspended",
            RunStatus::Paused => "paused",
            RunStatus::Blocked => "blocked",
            RunStatus::Completed => "completed",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        }
    }

    /// Whether the run has ended for good.
    pub fn is_final(self) -> bool {
        match self {
            RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled => true,
            RunStatus::Pending
            | RunStatus::Running
            | RunStatus::Suspended
            | RunStatus::Paused
            | RunStatus::Blocked => false,
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RunStatus {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<RunStatus, Invalid> {
        let rule =
            "use pending, running, suspended, paused, blocked, completed, failed or cancelled";
        let found = RunStatus::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| Invalid::new("run status", text, rule))
    }
}

/// What kind of operation it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpKind {
    /// A step with its input.
    Step {
        /// The input.
        input: Json,
    },
    /// A timer.
    Timer {
        /// When it fires.
        fire_at: Timestamp,
    },
    /// A child run.
    Child {
        /// The child's id.
        child: RunId,
        /// The child's input.
        input: Json,
    },
}

/// How an operation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpStatus {
    /// Started; its end is not known.
    Open,
    /// Ended with an output (`null` for a timer).
    Completed(Json),
    /// Failed for good.
    Failed(Failure),
    /// The run dropped it before its end.
    Dropped,
}

/// A value that a step's body recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// Where it stands in the log.
    pub seq: Seq,
    /// When it was recorded.
    pub at: Timestamp,
    /// Which attempt recorded it.
    pub attempt: u32,
    /// The value.
    pub value: Json,
}

/// An end that the run has not observed yet: it was blocked, or its process was stopping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// When it was recorded.
    pub at: Timestamp,
    /// The input that it becomes.
    pub end: Event,
}

/// One operation of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The step's, timer's or child workflow's name.
    pub name: OpName,
    /// What kind of operation it is, with what it was given.
    pub kind: OpKind,
    /// How it stands.
    pub status: OpStatus,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The attempts of a step; empty for a timer or child.
    pub attempts: Vec<Attempt>,
    /// The checkpoints of a step.
    pub checkpoints: Vec<CheckpointRecord>,
    /// The end of an operation that is still open for its run.
    pub held: Option<Held>,
}

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
    /// How many processes have taken it up.
    pub attempt: u32,
    /// The epoch of the last process that took it up.
    pub epoch: Option<Epoch>,
    /// Its operations, by id.
    pub ops: BTreeMap<OpId, Op>,
    /// Its output, once completed.
    pub output: Option<Json>,
    /// Its error, once failed.
    pub error: Option<Failure>,
    /// Why it is blocked, while it is.
    pub blocked: Option<BlockReason>,
    /// The first event that cannot be read or does not fit those before it, where the state was
    /// folded past it to be shown.
    pub unreadable: Option<String>,
    /// The position of its last event.
    pub last_seq: Seq,
    /// How many steps, and how many other operations, are open: counted, because looking for them
    /// after each event would make a long history take the square of its length.
    steps_open: usize,
    waits_open: usize,
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
        let fits = log_order::check(event, Phase::Empty, |_| Standing::Unknown);
        fits.map_err(misfit_at(id, seq))?;
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
            attempt: 0,
            epoch: None,
            ops: BTreeMap::new(),
            output: None,
            error: None,
            blocked: None,
            unreadable: None,
            last_seq: seq,
            steps_open: 0,
            waits_open: 0,
        })
    }

    /// The state after one more event.
    ///
    /// # Errors
    /// [`FoldError`] if the event does not fit; the state is then unchanged.
    pub fn apply(&mut self, seq: Seq, at: Timestamp, event: &Event) -> Result<(), FoldError> {
        let phase = if self.status.is_final() { Phase::Ended } else { Phase::Going };
        let fits = log_order::check(event, phase, |op| self.standing(op));
        fits.map_err(misfit_at(&self.id, seq))?;
        match event {
            // Neither fits inside a run.
            Event::NodeStarted(_) | Event::RunCreated(_) => {}
            Event::RunStarted { epoch, attempt } => {
                self.epoch = *epoch;
                self.attempt = *attempt;
                self.blocked = None;
            }
            Event::RunResumed {} => self.blocked = None,
            Event::RunBlocked { reason } => self.blocked = Some(reason.clone()),
            Event::RunCompleted { output } => {
                self.output = Some(output.clone());
                self.ended_at = Some(at);
            }
            Event::RunFailed { error } => {
                self.error = Some(error.clone());
                self.ended_at = Some(at);
            }
            Event::StepStarted { op, name, input, queued } => {
                let kind = OpKind::Step { input: input.clone() };
                let attempts = Attempts::first(*queued, seq, at);
                self.open(*op, name, kind, attempts, at);
            }
            Event::TimerStarted { op, name, fire_at } => {
                let kind = OpKind::Timer { fire_at: *fire_at };
                self.open(*op, name, kind, Vec::new(), at);
            }
            Event::ChildStarted { op, name, child, input } => {
                let kind = OpKind::Child { child: child.clone(), input: input.clone() };
                self.open(*op, name, kind, Vec::new(), at);
            }
            Event::Now { .. } => {}
            Event::StepAttemptStarted { .. }
            | Event::StepAttemptFailed { .. }
            | Event::StepRestarted { .. }
            | Event::StepCompleted { .. }
            | Event::StepFailed { .. }
            | Event::Checkpoint { .. }
            | Event::TimerFired { .. }
            | Event::ChildCompleted { .. }
            | Event::ChildFailed { .. }
            | Event::OpDropped { .. }
            | Event::OpHeld { .. } => {
                self.progress(seq, at, event).map_err(misfit_at(&self.id, seq))?;
            }
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
            return self.blocked.clone();
        }
        let logged = self.blocked.clone();
        match &self.unreadable {
            None => logged,
            Some(what) => logged
                .filter(|logged| logged.kind == BlockReasonKind::UnreadableLog)
                .or_else(|| Some(BlockReason::unreadable(what))),
        }
    }

    fn standing(&self, op: OpId) -> Standing {
        let Some(op) = self.ops.get(&op) else { return Standing::Unknown };
        match (&op.status, &op.kind) {
            (OpStatus::Open, OpKind::Step { .. }) => Standing::Open(OpClass::Step),
            (OpStatus::Open, OpKind::Timer { .. }) => Standing::Open(OpClass::Timer),
            (OpStatus::Open, OpKind::Child { .. }) => Standing::Open(OpClass::Child),
            (OpStatus::Completed(_) | OpStatus::Failed(_) | OpStatus::Dropped, _) => {
                Standing::Ended
            }
        }
    }

    fn open(
        &mut self,
        id: OpId,
        name: &OpName,
        kind: OpKind,
        attempts: Vec<Attempt>,
        at: Timestamp,
    ) {
        match &kind {
            OpKind::Step { .. } => self.steps_open += 1,
            OpKind::Timer { .. } | OpKind::Child { .. } => self.waits_open += 1,
        }
        let op = Op {
            name: name.clone(),
            kind,
            status: OpStatus::Open,
            started_at: at,
            ended_at: None,
            attempts,
            checkpoints: Vec::new(),
            held: None,
        };
        self.ops.insert(id, op);
    }

    /// Applies an event of an operation that must be open.
    fn progress(&mut self, seq: Seq, at: Timestamp, event: &Event) -> Result<(), String> {
        let id = event.op().ok_or_else(|| format!("{} names no operation", event.kind()))?;
        let op = self.ops.get_mut(&id);
        let op = op.ok_or_else(|| format!("{} of operation {id}, unknown", event.kind()))?;
        let mut attempts = Attempts(&mut op.attempts);
        match event {
            Event::StepAttemptStarted { attempt, .. } => attempts.begun(*attempt, seq, at),
            Event::StepAttemptFailed { attempt, error, next_at, of, .. } => {
                attempts.failed((*attempt, error), (*next_at, *of), (seq, at));
            }
            Event::StepRestarted { attempt, after, queued, .. } => {
                let after = after.unwrap_or(ProcessEnd::Crash);
                attempts.restarted(*attempt, (after, *queued), (seq, at));
            }
            Event::Checkpoint { attempt, value, .. } => {
                attempts.seen(*attempt, seq, at);
                let (attempt, value) = (*attempt, value.clone());
                op.checkpoints.push(CheckpointRecord { seq, at, attempt, value });
            }
            Event::StepCompleted { output, .. } | Event::ChildCompleted { output, .. } => {
                attempts.end(AttemptState::Completed, None, seq, at);
                op.end(at, OpStatus::Completed(output.clone()));
            }
            Event::StepFailed { error, .. } | Event::ChildFailed { error, .. } => {
                attempts.end(AttemptState::Failed, Some(error), seq, at);
                op.end(at, OpStatus::Failed(error.clone()));
            }
            Event::TimerFired { .. } => op.end(at, OpStatus::Completed(Json::null())),
            Event::OpDropped { .. } => {
                attempts.dropped(at);
                op.end(at, OpStatus::Dropped);
            }
            Event::OpHeld { end, .. } => op.hold(seq, at, end),
            Event::NodeStarted(_)
            | Event::RunCreated(_)
            | Event::RunStarted { .. }
            | Event::StepStarted { .. }
            | Event::TimerStarted { .. }
            | Event::ChildStarted { .. }
            | Event::Now { .. }
            | Event::RunCompleted { .. }
            | Event::RunFailed { .. }
            | Event::RunBlocked { .. }
            | Event::RunResumed {} => return Err(format!("{} is not progress", event.kind())),
        }
        if op.status != OpStatus::Open {
            match &op.kind {
                OpKind::Step { .. } => self.steps_open -= 1,
                OpKind::Timer { .. } | OpKind::Child { .. } => self.waits_open -= 1,
            }
        }
        Ok(())
    }

    fn status_now(&self) -> RunStatus {
        if self.output.is_some() {
            return RunStatus::Completed;
        }
        if let Some(error) = &self.error {
            return match error.kind {
                FailureKind::Cancelled => RunStatus::Cancelled,
                FailureKind::Failed | FailureKind::TimedOut | FailureKind::Interrupted => {
                    RunStatus::Failed
                }
            };
        }
        if self.blocked.is_some() || self.unreadable.is_some() {
            return RunStatus::Blocked;
        }
        if self.attempt == 0 {
            return RunStatus::Pending;
        }
        RunStatus::active(self.steps_open, self.waits_open)
    }
}

fn misfit_at(run: &RunId, seq: Seq) -> impl Fn(String) -> FoldError {
    let run = run.clone();
    move |what| FoldError { run: run.clone(), seq, what }
}

impl Op {
    /// The attempt is over, the operation stays open until its run observes that. What was held
    /// first counts.
    fn hold(&mut self, seq: Seq, at: Timestamp, end: &Event) {
        if self.held.is_none() {
            Attempts(&mut self.attempts).end(AttemptState::Held, end.error(), seq, at);
            self.held = Some(Held { at, end: end.clone() });
        }
    }

    fn end(&mut self, at: Timestamp, status: OpStatus) {
        self.held = None;
        self.ended_at = Some(at);
        self.status = status;
    }
}

#[cfg(test)]
mod tests;
