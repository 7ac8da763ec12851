//! Runs: start, list, show, wait for, resume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tidemill_eventlog::query::RunFilter;
use tidemill_model::limits::PAGE_BYTES_MAX;
use tidemill_model::{Payloads, RunId, RunPage, RunState, RunStatus, RunView, WaitsFor};

use super::error::ApiError;
use super::operations::{OPERATIONS_DEFAULT, page};
use super::query::{Params, duration};
use super::reference::Route;
use super::signals::SignalBody;
use super::view::ResultView;
use super::{Api, body};
use crate::engine::{Node, RunResult, StartRequest};
use crate::error::{Error, ErrorKind, closed};
use crate::store::{HeldBlocks, Reads};

/// The default number of runs in a page: a few hundred bytes each.
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1_000;

/// How long a caller may wait for a result in one request: proxies cut idle connections, and asking
/// again is cheap.
pub(in crate::node) const WAIT_MAX: Duration = Duration::from_secs(300);

/// A run to start.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct StartBody {
    /// The workflow's name.
    workflow: String,
    /// Its input; `null` if left out.
    #[serde(default = "tidemill_model::Json::null")]
    input: tidemill_model::Json,
    /// The run's id, which makes starting it again harmless; a new UUID if left out.
    #[serde(default)]
    id: Option<String>,
    /// Names and values to find the run by, at most 32.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Who starts it, in at most 200 bytes.
    #[serde(default)]
    by: Option<String>,
    /// How long it may take, such as `10m`; then it is cancelled.
    #[serde(default)]
    within: Option<String>,
    /// What the run is sent in the same commit, also if it exists.
    #[serde(default)]
    signal: Option<SignalBody>,
}

/// `POST /v1/runs`.
pub(crate) async fn start(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, ApiError> {
    let StartBody { workflow, input, id, labels, by, within, signal } =
        body::object(request, Route::StartRun).await?;
    let within = within.map(|text| within_of(&text)).transpose()?;
    let signal = signal.map(SignalBody::request);
    let request = StartRequest { workflow, input, id, labels, by, within, signal };
    let started = api.node.start_request(request).await?;
    let run = shown(&api, started.id).await?;
    let status = if started.existing { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(run)).into_response())
}

fn within_of(text: &str) -> Result<Duration, ApiError> {
    duration(text).ok_or_else(|| {
        ApiError::invalid(format!("`within` is `{text}`: use a time such as 30s, 10m or 7d"))
    })
}

/// `GET /v1/runs`.
pub(crate) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Result<Json<RunPage>, ApiError> {
    let params = Params::read(&uri, Route::ListRuns)?;
    let limit = params.limit(LIST_DEFAULT, LIST_MAX)?;
    // One run more than asked for shows whether there is a next page.
    let filter = RunFilter {
        status: params.get("status")?,
        workflow: params.get("workflow")?,
        id_part: None,
        after: params.get("after")?,
        limit: limit + 1,
        bytes_max: Some(PAGE_BYTES_MAX),
        labels: params.labels()?,
    };
    let held = HeldBlocks { runs: api.node.held_blocks() };
    let asked = usize::try_from(limit).expect("a limit fits in memory");
    Ok(Json(api.reads.runs(filter, held, asked).await?))
}

/// `GET /v1/runs/{id}`.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<RunView>, ApiError> {
    Params::read(&uri, Route::ShowRun)?;
    Ok(Json(shown(&api, RunId::new(&id)?).await?))
}

async fn shown(api: &Api, id: RunId) -> Result<RunView, ApiError> {
    Ok(view(&api.node, &api.reads, id).await?)
}

/// A run with its first operations, as this API and `run --json` show it.
pub(in crate::node) async fn view(node: &Node, reads: &Reads, id: RunId) -> Result<RunView, Error> {
    let (state, waits_for) = find(node, reads, id).await?;
    Ok(RunView::of(state, waits_for, page(None, OPERATIONS_DEFAULT, Payloads::Heads)))
}

/// A run, and the blocked run that it waits for.
pub(crate) async fn state(api: &Api, id: RunId) -> Result<(RunState, Option<WaitsFor>), ApiError> {
    Ok(find(&api.node, &api.reads, id).await?)
}

async fn find(
    node: &Node,
    reads: &Reads,
    id: RunId,
) -> Result<(RunState, Option<WaitsFor>), Error> {
    let held = node.held_block(&id);
    let found = reads.state(&id).await?;
    let (mut state, waits_for) = found.ok_or_else(|| no_such_run(&id))?;
    if let Some(reason) = held {
        state.status = RunStatus::Blocked;
        state.head.blocked = Some(reason);
    }
    Ok((state, waits_for))
}

/// The error for a run that does not exist.
pub(crate) fn no_such_run(id: &RunId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no run `{id}`: GET /v1/runs lists them"))
}

/// `GET /v1/runs/{id}/result`.
pub(crate) async fn result(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let params = Params::read(&uri, Route::Result)?;
    let wait = params.duration("wait", WAIT_MAX)?.unwrap_or_default();
    let id = RunId::new(&id)?;
    let ended = ended(&api, &id, wait).await?;
    let (state, waits_for) = match (state(&api, id.clone()).await, ended) {
        (Ok(shown), _) => shown,
        // Blocked because this version cannot read the run's log, so there is nothing more to show.
        (Err(_), Some(RunResult::Blocked(reason))) => {
            return Ok(ResultView::blocked(id, reason).into_response());
        }
        (Err(error), _) => return Err(error),
    };
    Ok(ResultView::of(state, waits_for).into_response())
}

/// Waits until a run has ended or is blocked; `None` if it is neither by then. The wait only finds
/// out when to answer: the answer itself is read from the file.
pub(super) async fn ended(
    api: &Api,
    id: &RunId,
    wait: Duration,
) -> Result<Option<RunResult>, ApiError> {
    let ended = tokio::select! {
        biased;
        ended = tokio::time::timeout(wait, api.node.result(id)) => ended,
        () = api.closing.cancelled() => return Err(closed().into()),
    };
    Ok(ended.ok().transpose()?)
}

/// `POST /v1/runs/{id}/resume`.
pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<ResultView>, ApiError> {
    let params = Params::read(request.uri(), Route::Resume)?;
    let wait = params.duration("wait", WAIT_MAX)?.unwrap_or_default();
    let id = RunId::new(&id)?;
    api.node.resume(&id).await?;
    let ended = ended(&api, &id, wait).await?;
    let (state, waits_for) = match (state(&api, id.clone()).await, ended) {
        (Ok(shown), _) => shown,
        (Err(_), Some(RunResult::Blocked(reason))) => {
            return Ok(Json(ResultView::blocked(id, reason)));
        }
        (Err(error), _) => return Err(error),
    };
    Ok(Json(ResultView::of(state, waits_for)))
}
