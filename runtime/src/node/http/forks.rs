//! Forks a run.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tidemill_model::{ForkOutlook, RunId, Seq};

use super::Api;
use super::body;
use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use crate::engine::{ForkRequest, ForkedRun};

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
        let outlook = api.node.fork_outlook(&id, request).await?;
        let view = ForkView { id: None, existing: false, seq: None, outlook };
        return Ok(Json(view).into_response());
    }
    let ForkedRun { id, existing, seq, outlook } = api.node.fork(&id, request).await?;
    let status = if existing { StatusCode::OK } else { StatusCode::CREATED };
    let view = ForkView { id: Some(id), existing, seq: Some(seq), outlook };
    Ok((status, Json(view)).into_response())
}
