//! Promises: which wait for an answer, and answers to them.
//!
//! Who has the node's token may answer every promise and says who answers. Who has a promise's own
//! token, in the query or as the bearer, may look at that promise and answer it, and nothing else; such
//! a request passes without the node's token ([`carries_token`]), and the token is checked here.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tidemill_eventlog::promises::PromiseFilter;
use tidemill_model::{AnswerNote, PromiseId, PromisePage, PromiseView, Seq, Timestamp, Verdict};
use tidemill_page::guard::Sender;

use super::Api;
use super::body;
use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use crate::engine::{AnswerRequest, Answered, PromiseToken};
use crate::error::{Error, ErrorKind};

const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1000;

/// A token lives a week, unless the request says otherwise.
const TOKEN_LIFE: Duration = Duration::from_secs(7 * 86_400);
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// The answer that was accepted, now or before.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct AnsweredView {
    /// The promise.
    id: PromiseId,
    /// The answer.
    answer: AnswerNote,
    /// Whether it had this answer before, by its key.
    existing: bool,
    /// How many have approved so far.
    approvals: usize,
}

/// A token for one promise. It is kept nowhere: whoever loses it needs another.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct TokenView {
    /// The promise.
    id: PromiseId,
    /// The token: `?token=` of what its holder asks.
    token: String,
    /// Who holds it, and is who answers with it.
    holder: Option<String>,
    /// From this moment on it opens nothing.
    expires_at: Timestamp,
}

/// `GET /v1/promises`.
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    uri: Uri,
) -> Result<Json<PromisePage>, ApiError> {
    let params = Params::read(&uri, Route::ListPromises)?;
    let limit = params.limit(LIST_DEFAULT, LIST_MAX)?;
    let filter = PromiseFilter {
        run: params.get("run")?,
        op: None,
        workflow: params.get("workflow")?,
        name: params.get("name")?,
        labels: params.labels()?.into_iter().collect(),
        all: params.get("all")?.unwrap_or(false),
        after: params.get::<Seq>("after")?.unwrap_or(Seq::ZERO),
    };
    // One more than asked for shows whether there is a next page.
    let mut promises = api.reads.promises(filter, limit.saturating_add(1)).await?;
    let listed = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = promises.len() > listed;
    promises.truncate(listed);
    let next = promises.last().filter(|_| more).map(|last| last.seq);
    Ok(Json(PromisePage { promises, next }))
}

/// `GET /v1/promises/{id}`.
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<PromiseView>, ApiError> {
    let id: PromiseId = id.parse()?;
    let token = given(&api, &request, Route::ShowPromise)?.1;
    if let Some(token) = token {
        api.node.check_promise_token(&id, &token).await?;
    }
    let found = api.reads.promise_view(&id).await?;
    let missing = || Error::new(ErrorKind::NotFound, format!("there is no promise `{id}`"));
    Ok(Json(found.ok_or_else(missing)?))
}

/// `POST /v1/promises/{id}/resolve`.
pub(crate) async fn resolve(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<AnsweredView>, ApiError> {
    answer(&api, &id, request, (Route::Resolve, Verdict::Resolved)).await
}

/// `POST /v1/promises/{id}/reject`.
pub(crate) async fn reject(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<AnsweredView>, ApiError> {
    answer(&api, &id, request, (Route::Reject, Verdict::Rejected)).await
}

async fn answer(
    api: &Api,
    id: &str,
    request: Request,
    (route, verdict): (Route, Verdict),
) -> Result<Json<AnsweredView>, ApiError> {
    let id: PromiseId = id.parse()?;
    let (params, token) = given(api, &request, route)?;
    let (by, key) = (params.get::<String>("by")?, params.get::<String>("key")?);
    // Before anything is read or said of the promise: the request came without the node's token.
    if let Some(token) = &token {
        api.node.check_promise_token(&id, token).await?;
    }
    let mut answer = AnswerRequest::new(verdict, body::optional_value(request).await?)?;
    if let Some(by) = by {
        answer = answer.by(&by);
    }
    if let Some(key) = key {
        answer = answer.key(&key);
    }
    if let Some(token) = token {
        answer = answer.token(&token);
    }
    answer.clone().checked()?;
    // What is well formed can only be unfit for the code that waits for it.
    let answered = api.node.answer(&id, answer).await.map_err(|error| match error.kind() {
        ErrorKind::Invalid => ApiError::unfit(error.to_string()),
        _ => ApiError::from(error),
    })?;
    let Answered { answer, existing, approvals } = answered;
    Ok(Json(AnsweredView { id, answer, existing, approvals }))
}

/// `POST /v1/promises/{id}/tokens`.
pub(crate) async fn token(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let id: PromiseId = id.parse()?;
    let params = Params::read(request.uri(), Route::PromiseToken)?;
    let holder = params.get::<String>("for")?;
    let life = params.duration("life", TOKEN_LIFE_MAX)?.unwrap_or(TOKEN_LIFE);
    let made = api.node.promise_token(&id, holder.as_deref(), life).await?;
    let PromiseToken { promise, token, holder, expires_at } = made;
    let view = TokenView { id: promise, token, holder, expires_at };
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

/// The parameters of a request, and the token of a promise that it carries: a bearer that is not the
/// node's is one.
fn given(api: &Api, request: &Request, route: Route) -> Result<(Params, Option<String>), ApiError> {
    let params = Params::read(request.uri(), route)?;
    let sender = Sender::of(request.uri(), request.headers());
    let bearer = sender.bearer().filter(|bearer| api.guard.tokens().role_of(bearer).is_none());
    let token = params.get::<String>("token")?.or_else(|| bearer.map(str::to_owned));
    Ok((params, token))
}

/// Whether a request of a promise carries a token, which is checked where it is answered.
pub(super) fn carries_token(request: &Request) -> bool {
    let path = request.uri().path().strip_prefix("/v1/promises/");
    let Some((_, what)) = path.map(|path| path.split_once('/').unwrap_or((path, ""))) else {
        return false;
    };
    let query = request.uri().query().unwrap_or_default();
    let in_query = form_urlencoded_pairs(query).any(|(name, value)| name == "token" && value);
    let sender = Sender::of(request.uri(), request.headers());
    matches!(what, "" | "resolve" | "reject") && (in_query || sender.bearer().is_some())
}

/// The names in a query, each with whether it has a value.
fn form_urlencoded_pairs(query: &str) -> impl Iterator<Item = (&str, bool)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name, !value.is_empty()))
}
