//! Sends a run a signal.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tidemill_model::RunId;

use super::Api;
use super::body;
use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use crate::engine::{SignalRequest, Signalled};
use crate::error::ErrorKind;

/// A signal that is sent with the start of a run.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct SignalBody {
    /// The name by which the code waits for it.
    name: String,
    /// What is sent; `null` if left out.
    #[serde(default = "tidemill_model::Json::null")]
    value: tidemill_model::Json,
    /// The sender's word for this one signal: a run takes one of each key.
    #[serde(default)]
    key: Option<String>,
    /// Who sends it.
    #[serde(default)]
    by: Option<String>,
}

impl SignalBody {
    pub(super) fn request(self) -> SignalRequest {
        let SignalBody { name, value, key, by } = self;
        SignalRequest { name, value, key, by }
    }
}

/// A signal that the run has.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct SignalledView {
    /// The run.
    id: RunId,
    /// Which of the run's signals it is, from 1 in the order in which they arrived.
    number: u32,
    /// Whether the run had one of this key before.
    existing: bool,
    /// The position of its event.
    seq: tidemill_model::Seq,
}

/// `POST /v1/runs/{id}/signals/{name}`.
pub(crate) async fn send(
    State(api): State<Arc<Api>>,
    Path((id, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::read(request.uri(), Route::Signal)?;
    let (key, by) = (params.get("key")?, params.get("by")?);
    let id = RunId::new(&id)?;
    let value = body::optional_value(request).await?;
    let signal = SignalRequest { name, value, key, by };
    signal.clone().checked()?;
    // What is well formed can only be unfit for the code that waits for it.
    let sent = api.node.signal(&id, signal).await.map_err(|error| match error.kind() {
        ErrorKind::Invalid => ApiError::unfit(error.to_string()),
        _ => ApiError::from(error),
    })?;
    let Signalled { number, existing, seq } = sent;
    let status = if existing { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(SignalledView { id, number, existing, seq })).into_response())
}
