//! What the API shows: runs, operations and events as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use tidemill_eventlog::Row;
use tidemill_eventlog::query::RunSummary;
use tidemill_model::{
    Activity, Attempt, BlockReason, Durability, Epoch, Failure, Json, Op, OpId, OpKind, OpName,
    OpStatus, Parent, ProcessEnd, RunId, RunState, RunStatus, Seq, Timestamp, WaitsFor,
};

/// How many operations a run is shown with: the newest. The events have them all.
const OPERATIONS_MAX: usize = 1_000;

/// A run in a list.
#[derive(Debug, Serialize)]
pub(crate) struct ListedRun {
    id: RunId,
    workflow: OpName,
    status: RunStatus,
    created_at: Timestamp,
    updated_at: Timestamp,
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<WaitsFor>,
    seq: Seq,
    /// What its open steps do; left out if it has none, or too long a history for a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<Activity>,
}

impl From<RunSummary> for ListedRun {
    fn from(run: RunSummary) -> ListedRun {
        ListedRun {
            id: run.run,
            workflow: run.workflow,
            status: run.status,
            created_at: run.created_at,
            updated_at: run.updated_at,
            ended_at: run.ended_at,
            parent: run.parent,
            labels: run.labels,
            waits_for: run.waits_for,
            seq: run.seq,
            activity: run.activity,
        }
    }
}

/// A page of runs.
#[derive(Debug, Serialize)]
pub(crate) struct RunList {
    pub(crate) runs: Vec<ListedRun>,
    /// What `after` takes to go on; null at the end.
    pub(crate) next: Option<Seq>,
}

/// A run with its operations.
#[derive(Debug, Serialize)]
pub(crate) struct ShownRun {
    id: RunId,
    workflow: OpName,
    status: RunStatus,
    created_at: Timestamp,
    updated_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// How many processes have taken it up.
    attempt: u32,
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    labels: BTreeMap<String, String>,
    durability: Durability,
    app_version: String,
    input: Json,
    #[serde(flatten)]
    end: End,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<WaitsFor>,
    last_seq: Seq,
    /// What its open steps do; left out if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<Activity>,
    operations_total: usize,
    operations: Vec<Operation>,
}

impl ShownRun {
    pub(crate) fn of(state: RunState, waits_for: Option<WaitsFor>) -> ShownRun {
        let end = End::of(&state);
        let activity = Some(state.activity()).filter(|activity| activity.open() > 0);
        let total = state.ops.len();
        let newest = state.ops.iter().skip(total.saturating_sub(OPERATIONS_MAX));
        ShownRun {
            operations: newest.map(|(id, op)| Operation::of(*id, op)).collect(),
            operations_total: total,
            id: state.id,
            workflow: state.created.workflow,
            status: state.status,
            created_at: state.created_at,
            updated_at: state.updated_at,
            ended_at: state.ended_at,
            attempt: state.head.attempt,
            epoch: state.head.epoch,
            parent: state.created.parent,
            labels: state.created.labels,
            durability: state.created.durability,
            app_version: state.created.app_version,
            input: state.created.input,
            end,
            waits_for,
            last_seq: state.last_seq,
            activity,
        }
    }
}

/// How a run ended, or why it does not go on.
#[derive(Debug, Serialize)]
pub(crate) struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocked: Option<BlockReason>,
}

impl End {
    fn of(state: &RunState) -> End {
        End {
            output: state.output.clone(),
            error: state.error.clone(),
            blocked: state.block_reason(),
        }
    }
}

/// The answer to `result`.
#[derive(Debug, Serialize)]
pub(crate) struct ResultView {
    pub(crate) id: RunId,
    pub(crate) status: RunStatus,
    #[serde(flatten)]
    pub(crate) end: End,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<WaitsFor>,
}

impl ResultView {
    pub(crate) fn of(state: RunState, waits_for: Option<WaitsFor>) -> ResultView {
        ResultView { end: End::of(&state), id: state.id, status: state.status, waits_for }
    }
}

impl ResultView {
    /// A run of which nothing but its reason is known.
    pub(crate) fn blocked(id: RunId, reason: BlockReason) -> ResultView {
        let end = End { output: None, error: None, blocked: Some(reason) };
        ResultView { id, status: RunStatus::Blocked, end, waits_for: None }
    }
}

/// One operation of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Operation {
    op: OpId,
    kind: &'static str,
    name: OpName,
    status: &'static str,
    /// It ended, and its run has not observed that yet; left out if not so.
    #[serde(skip_serializing_if = "is_false")]
    held: bool,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fire_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    child: Option<RunId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptView>,
    #[serde(skip_serializing_if = "is_zero")]
    checkpoints: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_checkpoint: Option<Json>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Operation {
    fn of(id: OpId, op: &Op) -> Operation {
        let (output, error) = match &op.status {
            OpStatus::Completed(output) => (Some(output.clone()), None),
            OpStatus::Failed(error) => (None, Some(error.clone())),
            OpStatus::Open | OpStatus::Dropped => (None, None),
        };
        let status = match &op.status {
            OpStatus::Open => "open",
            OpStatus::Completed(_) => "completed",
            OpStatus::Failed(_) => "failed",
            OpStatus::Dropped => "dropped",
        };
        let (kind, input, fire_at, child) = match &op.kind {
            OpKind::Step { input } => ("step", Some(input.clone()), None, None),
            OpKind::Timer { fire_at } => ("timer", None, Some(*fire_at), None),
            OpKind::Child { child, input } => {
                ("child", Some(input.clone()), None, Some(child.clone()))
            }
        };
        Operation {
            op: id,
            kind,
            name: op.name.clone(),
            status,
            held: op.held.is_some(),
            started_at: op.started_at,
            ended_at: op.ended_at,
            input,
            output,
            error,
            fire_at,
            child,
            attempts: op.attempts.iter().map(AttemptView::from).collect(),
            checkpoints: op.checkpoints.len(),
            last_checkpoint: op.checkpoints.last().map(|checkpoint| checkpoint.value.clone()),
        }
    }
}

/// An attempt of a step. What is null or left out is not so, or the log does not know it.
#[derive(Debug, Serialize)]
struct AttemptView {
    number: u32,
    /// `waiting`, `queued`, `running`, `held`, `completed`, `failed`, `cut_off` or `dropped`.
    state: &'static str,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// When a waiting attempt begins at the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// The number of the last attempt that can follow a waiting one, counting itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<u32>,
    /// How the process ended that cut it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_off_by: Option<ProcessEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    /// How the process ended of the attempt that this one replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<ProcessEnd>,
    after_crash: bool,
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> AttemptView {
        AttemptView {
            number: attempt.number,
            state: attempt.state.as_str(),
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            until: attempt.state.until(),
            of: attempt.state.of(),
            cut_off_by: attempt.state.cut_off_by(),
            error: attempt.error.clone(),
            after: attempt.after,
            after_crash: attempt.after == Some(ProcessEnd::Crash),
        }
    }
}

/// A page of events.
#[derive(Debug, Serialize)]
pub(crate) struct EventList {
    pub(crate) events: Vec<EventView>,
    /// What `after` takes to go on; null at the end of what there is.
    pub(crate) next: Option<Seq>,
}

/// One event, whether or not this version knows its kind.
#[derive(Debug, Serialize)]
pub(crate) struct EventView {
    pub(crate) seq: Seq,
    ts: Timestamp,
    run: Option<RunId>,
    pub(crate) kind: String,
    op: Option<OpId>,
    name: Option<String>,
    /// What the kind carries; text that is no JSON is shown as a string.
    data: Option<Json>,
}

impl From<Row> for EventView {
    fn from(row: Row) -> EventView {
        let data = row.data_json();
        EventView {
            seq: row.seq,
            ts: row.ts,
            run: row.run,
            kind: row.kind,
            op: row.op,
            name: row.name,
            data,
        }
    }
}
