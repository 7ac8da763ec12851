//! One run as a tree: its operations with attempts, checkpoints and outputs, and its children.
//!
//! All of it is the fold of the run's events, so the run can be shown at any event of its past.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;
use tidemill_eventlog::query;
use tidemill_model::{
    Activity, Attempt, BlockReason, CheckpointRecord, Durability, Epoch, Failure, Json, Op, OpId,
    OpKind, OpName, OpStatus, Parent, ProcessEnd, RunId, RunState, RunStatus, Seq, Timestamp,
    WaitsFor, unix_ms,
};

use crate::error::Result;
use crate::events::require_run;

/// Children of children are followed this deep; a tree that is deeper is shown run by run.
const DEPTH_MAX: u32 = 20;

/// A run with its operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunView {
    /// Its id.
    pub run: RunId,
    /// Its workflow.
    pub workflow: OpName,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its last event was written.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long it took, in milliseconds, once ended.
    pub duration_ms: Option<u64>,
    /// How many processes took it up.
    pub attempt: u32,
    /// The epoch of the last of them.
    pub epoch: Option<Epoch>,
    /// The version of the author's program that started it.
    pub app_version: String,
    /// When its effects may be released.
    pub durability: Durability,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who started it as a child.
    pub parent: Option<Parent>,
    /// Its input.
    pub input: Json,
    /// Its output, once completed.
    pub output: Option<Json>,
    /// Its error, once failed.
    pub error: Option<Failure>,
    /// Why it is blocked.
    pub blocked: Option<BlockReason>,
    /// The blocked run that it waits for, directly or through its children.
    pub waits_for: Option<WaitsFor>,
    /// The event up to which it is shown.
    pub last_seq: Seq,
    /// What its open steps do; none if it has none.
    pub activity: Option<Activity>,
    /// Its operations in the order of their ids.
    pub ops: Vec<OpView>,
}

/// An operation of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpView {
    /// Its id.
    pub op: OpId,
    /// `step`, `timer` or `child`.
    pub kind: &'static str,
    /// Its name.
    pub name: OpName,
    /// `open`, `completed`, `failed` or `dropped`.
    pub status: &'static str,
    /// Whether it ended and its run has not observed that yet.
    pub held: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long it took, in milliseconds, once ended.
    pub duration_ms: Option<u64>,
    /// What it was given; none for a timer.
    pub input: Option<Json>,
    /// When a timer fires.
    pub fire_at: Option<Timestamp>,
    /// Its output, once completed.
    pub output: Option<Json>,
    /// Its error, once failed.
    pub error: Option<Failure>,
    /// The attempts of a step.
    pub attempts: Vec<AttemptView>,
    /// What a step recorded on its way.
    pub checkpoints: Vec<CheckpointView>,
    /// The run that a child is.
    pub child: Option<RunId>,
    /// That run, if it is in the file.
    pub child_run: Option<Box<RunView>>,
}

/// An attempt of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptView {
    /// Its number, from 1.
    pub number: u32,
    /// How it stands: `waiting`, `queued`, `running`, `held`, `completed`, `failed`, `cut_off` or
    /// `dropped`.
    pub state: &'static str,
    /// When a waiting attempt begins at the earliest.
    pub until: Option<Timestamp>,
    /// The number of the last attempt that can follow a waiting one, counting itself.
    pub of: Option<u32>,
    /// When its body began. None before that, and if the log does not know.
    pub started_at: Option<Timestamp>,
    /// When it was last heard of: it began or recorded a checkpoint.
    pub seen_at: Option<Timestamp>,
    /// When it ended. None before that, and for one that was cut off: the log does not know.
    pub ended_at: Option<Timestamp>,
    /// How long it took, in milliseconds, if the log knows.
    pub duration_ms: Option<u64>,
    /// Its error.
    pub error: Option<Failure>,
    /// How the process ended that cut it off.
    pub cut_off_by: Option<ProcessEnd>,
    /// How the process ended of the attempt that this one replaces.
    pub after: Option<ProcessEnd>,
    /// Whether that was a crash.
    pub after_crash: bool,
}

/// A value that a step recorded on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointView {
    /// Its event.
    pub seq: Seq,
    /// When it was recorded.
    pub at: Timestamp,
    /// By which attempt.
    pub attempt: u32,
    /// The value.
    pub value: Json,
}

/// A run as it was up to an event, or as it is.
///
/// # Errors
/// `NotFound` if there is no such run (or none yet at that event), `Corrupt` if its first event
/// cannot be read. A run whose later events cannot be read, or do not fit together, is blocked.
pub fn show(connection: &Connection, run: &RunId, until: Option<Seq>) -> Result<RunView> {
    require_run(connection, run)?;
    view(connection, run, until, 0)?.ok_or_else(|| {
        let at = until.map_or_else(String::new, |seq| format!(" at event {seq}"));
        let message = format!("run `{run}` was not yet started{at}");
        crate::Error::new(crate::ErrorKind::NotFound, message)
    })
}

fn view(
    connection: &Connection,
    run: &RunId,
    until: Option<Seq>,
    depth: u32,
) -> Result<Option<RunView>> {
    let Some(state) = query::run_state(connection, run, until)? else { return Ok(None) };
    let mut ops = Vec::with_capacity(state.ops.len());
    for (&id, op) in &state.ops {
        let mut shown = OpView::of(id, op);
        if let (Some(child), true) = (&shown.child, depth < DEPTH_MAX) {
            shown.child_run = view(connection, child, until, depth + 1)?.map(Box::new);
        }
        ops.push(shown);
    }
    Ok(Some(RunView::of(state, ops)))
}

fn took(from: Timestamp, to: Option<Timestamp>) -> Option<u64> {
    to.map(|to| unix_ms(to.since(from)))
}

impl RunView {
    fn of(state: RunState, ops: Vec<OpView>) -> RunView {
        let duration_ms = took(state.created_at, state.ended_at);
        let activity = Some(state.activity()).filter(|activity| activity.open() > 0);
        let blocked = state.block_reason();
        RunView {
            run: state.id,
            workflow: state.created.workflow,
            status: state.status,
            created_at: state.created_at,
            updated_at: state.updated_at,
            ended_at: state.ended_at,
            duration_ms,
            attempt: state.head.attempt,
            epoch: state.head.epoch,
            app_version: state.created.app_version,
            durability: state.created.durability,
            labels: state.created.labels,
            parent: state.created.parent,
            input: state.created.input,
            output: state.output,
            error: state.error,
            waits_for: ops.iter().find_map(OpView::waits_for),
            blocked,
            last_seq: state.last_seq,
            activity,
            ops,
        }
    }

    /// How long it took, once ended.
    pub fn duration(&self) -> Option<Duration> {
        self.duration_ms.map(Duration::from_millis)
    }
}

impl OpView {
    /// The blocked run that keeps an open child from its end.
    fn waits_for(&self) -> Option<WaitsFor> {
        let child = self.child_run.as_ref().filter(|_| self.status == "open")?;
        match &child.blocked {
            Some(reason) => Some(WaitsFor { run: child.run.clone(), reason: reason.clone() }),
            None => child.waits_for.clone(),
        }
    }

    fn of(id: OpId, op: &Op) -> OpView {
        let (kind, input, fire_at, child) = match &op.kind {
            OpKind::Step { input } => ("step", Some(input.clone()), None, None),
            OpKind::Timer { fire_at } => ("timer", None, Some(*fire_at), None),
            OpKind::Child { child, input } => {
                ("child", Some(input.clone()), None, Some(child.clone()))
            }
        };
        let (status, output, error) = match &op.status {
            OpStatus::Open => ("open", None, None),
            OpStatus::Completed(output) => ("completed", Some(output.clone()), None),
            OpStatus::Failed(error) => ("failed", None, Some(error.clone())),
            OpStatus::Dropped => ("dropped", None, None),
        };
        OpView {
            op: id,
            kind,
            name: op.name.clone(),
            status,
            held: op.held.is_some(),
            started_at: op.started_at,
            ended_at: op.ended_at,
            duration_ms: took(op.started_at, op.ended_at),
            input,
            fire_at,
            output,
            error,
            attempts: op.attempts.iter().map(AttemptView::of).collect(),
            checkpoints: op.checkpoints.iter().map(CheckpointView::of).collect(),
            child,
            child_run: None,
        }
    }
}

impl AttemptView {
    fn of(attempt: &Attempt) -> AttemptView {
        AttemptView {
            number: attempt.number,
            state: attempt.state.as_str(),
            until: attempt.state.until(),
            of: attempt.state.of(),
            started_at: attempt.started_at,
            seen_at: attempt.seen_at,
            ended_at: attempt.ended_at,
            duration_ms: attempt.started_at.and_then(|from| took(from, attempt.ended_at)),
            error: attempt.error.clone(),
            cut_off_by: attempt.state.cut_off_by(),
            after: attempt.after,
            after_crash: attempt.after == Some(ProcessEnd::Crash),
        }
    }
}

impl CheckpointView {
    fn of(record: &CheckpointRecord) -> CheckpointView {
        CheckpointView {
            seq: record.seq,
            at: record.at,
            attempt: record.attempt,
            value: record.value.clone(),
        }
    }
}
