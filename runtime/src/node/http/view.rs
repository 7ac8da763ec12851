//! What the API shows beside a run, whose JSON `tidemill_model` has: results and events.

use serde::Serialize;
use tidemill_eventlog::Row;
use tidemill_model::{
    BlockReason, Failure, Json, OpId, RunId, RunState, RunStatus, Seq, Timestamp, WaitsFor,
};

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

    /// A run of which nothing but its reason is known.
    pub(crate) fn blocked(id: RunId, reason: BlockReason) -> ResultView {
        let end = End { output: None, error: None, blocked: Some(reason) };
        ResultView { id, status: RunStatus::Blocked, end, waits_for: None }
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
