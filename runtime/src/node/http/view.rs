//! The JSON of results. That of runs and events is in `tidemill_model`.

use serde::Serialize;
use tidemill_model::{BlockReason, Failure, Json, RunId, RunState, RunStatus, WaitsFor};

/// How a run ended, or why it is blocked.
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

    /// The answer for a run of which only the reason of its block is known.
    pub(crate) fn blocked(id: RunId, reason: BlockReason) -> ResultView {
        let end = End { output: None, error: None, blocked: Some(reason) };
        ResultView { id, status: RunStatus::Blocked, end, waits_for: None }
    }
}
