//! Forks a run: of this node, or one whose history is sent.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tidemill_model::{ApiErrorKind, ForkFromRequest, ForkOutlook, ForkRequest, RunId, Seq};

use super::Api;
use super::body;
use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use crate::engine::ForkedRun;

/// How long a history may take to arrive: others wait for it.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);

/// Allows one history at a time, because each takes some hundred megabytes of memory.
static ONE_AT_A_TIME: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);

/// A fork, or what it would be.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ForkView {
    /// The fork's id; left out by a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<RunId>,
    /// Whether it existed before this request.
    existing: bool,
    /// The position of its `run_created`; left out by a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
    /// What it has of the other run, and what it does again.
    outlook: ForkOutlook,
}

/// `POST /v1/runs/{id}/fork`.
pub(crate) async fn fork(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let is_dry = Params::read(request.uri(), Route::Fork)?.get("dry_run")?.unwrap_or(false);
    let id = RunId::new(&id)?;
    let request: ForkRequest = body::optional_object(request, Route::Fork).await?;
    if is_dry {
        return Ok(would_be(api.node.fork_outlook(&id, request).await?));
    }
    Ok(made(api.node.fork(&id, request).await?))
}

/// `POST /v1/forks`.
pub(crate) async fn fork_from(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    let is_dry = Params::read(request.uri(), Route::ForkFrom)?.get("dry_run")?.unwrap_or(false);
    let one = tokio::time::timeout(ARRIVAL_MAX, ONE_AT_A_TIME.acquire()).await;
    let Ok(Ok(_one)) = one else {
        let message = "other histories are being read: try again when their forks are made";
        return Err(ApiError::new(ApiErrorKind::Unavailable, message));
    };
    let body = body::large_object::<ForkFromRequest>(request, Route::ForkFrom);
    let Ok(asked) = tokio::time::timeout(ARRIVAL_MAX, body).await else {
        let seconds = ARRIVAL_MAX.as_secs();
        return Err(ApiError::invalid(format!("the history did not arrive within {seconds} s")));
    };
    let asked = asked?;
    if is_dry {
        return Ok(would_be(api.node.fork_from_outlook(asked).await?));
    }
    Ok(made(api.node.fork_from(asked).await?))
}

fn would_be(outlook: ForkOutlook) -> Response {
    Json(ForkView { id: None, existing: false, seq: None, outlook }).into_response()
}

fn made(ForkedRun { id, existing, seq, outlook }: ForkedRun) -> Response {
    let status = if existing { StatusCode::OK } else { StatusCode::CREATED };
    let view = ForkView { id: Some(id), existing, seq: Some(seq), outlook };
    (status, Json(view)).into_response()
}
