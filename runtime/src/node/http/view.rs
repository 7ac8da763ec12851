//! The JSON of results. That of runs and events is in `tidemill_model`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tidemill_model::{
    ApiErrorKind, BlockReason, Failure, Json as Value, RunId, RunState, RunStatus, WaitsFor,
};

use super::error::status;

/// How a run ended, or why it is blocked.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Value>,
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

    /// 200 with the end of the run, 202 while it has none, 409 with the reason while it is blocked:
    /// a caller that takes 200 for done is right.
    pub(crate) fn into_response(self) -> Response {
        match &self.end.blocked {
            Some(reason) => {
                let kind = ApiErrorKind::Blocked;
                let message = format!("run `{}` is blocked: {reason}", self.id);
                (status(kind), Json(BlockedView { kind, message, result: self })).into_response()
            }
            None if self.status.is_final() => Json(self).into_response(),
            None => (StatusCode::ACCEPTED, Json(self)).into_response(),
        }
    }

    /// The answer for a run of which only the reason of its block is known.
    pub(crate) fn blocked(id: RunId, reason: BlockReason) -> ResultView {
        let end = End { output: None, error: None, blocked: Some(reason) };
        ResultView { id, status: RunStatus::Blocked, end, waits_for: None }
    }
}

/// The answer to `result` while the run is blocked: an error, and what a result has.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BlockedView {
    kind: ApiErrorKind,
    message: String,
    #[serde(flatten)]
    result: ResultView,
}
