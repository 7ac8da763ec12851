//! A run's events: a page, or a stream until the run has ended.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tidemill_eventlog::Row;
use tidemill_model::limits::PAGE_BYTES_MAX;
use tidemill_model::{EventPage, EventView, RunId, Seq};
use tokio_util::sync::CancellationToken;

use super::Api;
use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use super::runs::no_such_run;
use crate::store::{EventRows, Following, Reads, Stored};

/// The default number of events in a page, which is also bounded by bytes.
const PAGE_DEFAULT: u32 = 1_000;
const PAGE_MAX: u32 = 10_000;

/// How many events and bytes a stream reads at a time, and holds until its client has taken them.
const BATCH: (u32, usize) = (200, 1024 * 1024);

/// How often an idle stream sends a comment: proxies cut an idle connection after a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/runs/{id}/events`.
pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let params = Params::read(&uri, Route::ListEvents)?;
    let limit = params.limit(PAGE_DEFAULT, PAGE_MAX)?;
    let after: Option<Seq> = params.get("after")?;
    let follow: bool = params.get("follow")?.unwrap_or_default();
    let run = RunId::new(&id)?;
    if follow {
        let after = after.or(last_event_id(&headers)?).unwrap_or(Seq::ZERO);
        return follow_run(api, run, after, Named::ByKind).await;
    }
    let after = after.unwrap_or(Seq::ZERO);
    let EventRows { rows, more } = page(&api.reads, &run, after, (limit, PAGE_BYTES_MAX)).await?;
    let events: Vec<EventView> = rows.into_iter().map(Row::into_view).collect();
    let next = events.last().map(|event| event.seq).filter(|_| more);
    Ok(Json(EventPage { events, next }).into_response())
}

/// The event after which a browser's event source continues when its connection broke.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Seq>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let bad = || ApiError::invalid("the header Last-Event-ID is not the seq of an event");
    value.to_str().map_err(|_| bad())?.parse().map(Some).map_err(|_| bad())
}

/// Reads events of a run; an error if the run does not exist.
async fn page(
    reads: &Reads,
    run: &RunId,
    after: Seq,
    bounds: (u32, usize),
) -> Result<EventRows, ApiError> {
    let found = reads.events(run, after, bounds).await?;
    Ok(found.ok_or_else(|| no_such_run(run))?)
}

/// A stream of a run's events. It reads when the run has news, and when its client has taken
/// everything that it read before.
struct Follower {
    reads: Reads,
    closing: CancellationToken,
    run: RunId,
    following: Following,
    after: Seq,
    waiting: VecDeque<Row>,
    /// Whether the file has more than the events that wait here.
    more: bool,
    ended: bool,
}

/// What the events of a stream are called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named {
    /// By their kind: a program listens to some.
    ByKind,
    /// Not at all: a page listens to whatever comes, which a browser does only for those.
    No,
}

/// A stream of a run's events behind `after`.
pub(super) async fn follow_run(
    api: Arc<Api>,
    run: RunId,
    after: Seq,
    named: Named,
) -> Result<Response, ApiError> {
    // Before the first look, so that no commit in between is missed.
    let following = api.node.follow(&run);
    let (reads, closing) = (api.reads.clone(), api.closing.clone());
    let follower = Follower::new(reads, closing, following, run, after).await?;
    let events = stream::unfold(follower, move |mut follower| async move {
        let event = match follower.next().await? {
            Ok(row) => sse(row, named),
            Err(error) => Event::default().event("error").data(error.to_json()),
        };
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

impl Follower {
    async fn new(
        reads: Reads,
        closing: CancellationToken,
        following: Following,
        run: RunId,
        after: Seq,
    ) -> Result<Follower, ApiError> {
        let EventRows { rows, more } = page(&reads, &run, after, BATCH).await?;
        // A run without further events may have ended before.
        let ended = rows.is_empty() && has_ended(&reads, &run).await?;
        let waiting = rows.into();
        let mut follower =
            Follower { reads, closing, run, following, after, waiting, more, ended: false };
        if ended {
            // The run may also have ended after that read; this read then has its end.
            follower.read().await?;
            follower.ended = follower.waiting.is_empty();
        }
        Ok(follower)
    }

    /// The next event; `None` after the run's end, or when the node closes.
    async fn next(&mut self) -> Option<Result<Row, ApiError>> {
        loop {
            if let Some(row) = self.waiting.pop_front() {
                self.after = row.seq;
                self.ended = self.ended || matches!(&*row.kind, "run_completed" | "run_failed");
                return Some(Ok(row));
            }
            if self.ended {
                return None;
            }
            if !self.more {
                tokio::select! {
                    biased;
                    () = self.closing.cancelled() => return None,
                    () = self.following.news() => {}
                }
            }
            if let Err(error) = self.read().await {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    async fn read(&mut self) -> Result<(), ApiError> {
        // The following read sees everything that is committed by now.
        self.following.up_to_date();
        let EventRows { rows, more } = page(&self.reads, &self.run, self.after, BATCH).await?;
        (self.waiting, self.more) = (rows.into(), more);
        Ok(())
    }
}

async fn has_ended(reads: &Reads, run: &RunId) -> Result<bool, ApiError> {
    Ok(matches!(reads.find(run).await?, Some(Stored::Ended(..))))
}

fn sse(row: Row, named: Named) -> Event {
    let view = row.into_view();
    let data = serde_json::to_string(&view).expect("an event's row has a JSON form");
    let event = Event::default().id(view.seq.to_string()).data(data);
    match named {
        Named::ByKind => event.event(view.kind),
        Named::No => event,
    }
}

#[cfg(test)]
mod tests;
