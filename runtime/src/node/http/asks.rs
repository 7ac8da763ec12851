//! What is asked of a run: to end, to pause, to be ended without its code.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use serde::Deserialize;
use tidemill_model::{Requester, RunId, RunStatus};

use super::Api;
use super::body;
use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use super::runs::{WAIT_MAX, ended, state};
use super::view::ResultView;
use crate::error::Error;

/// The body of these requests.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct AskBody {
    /// Who asks.
    #[serde(default)]
    by: Option<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// `POST /v1/runs/{id}/cancel`.
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<ResultView>, ApiError> {
    ask(&api, &id, request, Route::Cancel, |api: Arc<Api>, run, by| async move {
        api.node.cancel(&run, by).await
    })
    .await
}

/// `POST /v1/runs/{id}/terminate`.
pub(crate) async fn terminate(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<ResultView>, ApiError> {
    ask(&api, &id, request, Route::Terminate, |api: Arc<Api>, run, by| async move {
        api.node.terminate(&run, by).await
    })
    .await
}

/// `POST /v1/runs/{id}/pause`.
pub(crate) async fn pause(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<ResultView>, ApiError> {
    ask(&api, &id, request, Route::Pause, |api: Arc<Api>, run, by| async move {
        api.node.pause(&run, by).await
    })
    .await
}

/// Asks, waits for the end of the run if the caller wants to, and answers with what the run is then.
async fn ask<Asked>(
    api: &Arc<Api>,
    id: &str,
    request: Request,
    route: Route,
    asked: impl FnOnce(Arc<Api>, RunId, Requester) -> Asked,
) -> Result<Json<ResultView>, ApiError>
where
    Asked: Future<Output = Result<RunStatus, Error>>,
{
    let params = Params::read(request.uri(), route)?;
    let wait = params.duration("wait", WAIT_MAX)?.unwrap_or_default();
    let id = RunId::new(id)?;
    let AskBody { by, reason } = body::optional_object(request, route).await?;
    asked(Arc::clone(api), id.clone(), Requester { by, reason, ..Requester::default() }).await?;
    ended(api, &id, wait).await?;
    let (state, waits_for) = state(api, id).await?;
    Ok(Json(ResultView::of(state, waits_for)))
}
