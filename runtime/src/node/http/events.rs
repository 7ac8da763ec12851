//! A run's events: a page, or a stream that goes on until the run has ended.

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
use tidemill_model::{EventPage, EventView, RunId, Seq};
use tokio::sync::watch;

use super::Api;
use super::error::ApiError;
use super::query::Params;
use super::runs::no_such_run;
use crate::store::Stored;

/// Events in a page. At 1 MiB each the page would be large, but payloads are rarely near it.
const PAGE_DEFAULT: u32 = 1_000;
const PAGE_MAX: u32 = 10_000;

/// Events that a stream reads at a time.
const BATCH: u32 = 200;

/// Proxies cut a connection on which nothing moves, after a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/runs/{id}/events`.
pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let params = Params::read(&uri, &["after", "limit", "follow"])?;
    let limit = params.limit(PAGE_DEFAULT, PAGE_MAX)?;
    let after: Option<Seq> = params.get("after")?;
    let follow: bool = params.get("follow")?.unwrap_or_default();
    let run = RunId::new(&id)?;
    if follow {
        let after = after.or(last_event_id(&headers)?).unwrap_or(Seq::ZERO);
        return follow_run(api, run, after).await;
    }
    let after = after.unwrap_or(Seq::ZERO);
    let found = page(&api, &run, after, limit + 1).await?;
    let asked = usize::try_from(limit).expect("a limit fits in memory");
    let more = found.len() > asked;
    let events: Vec<EventView> = found.into_iter().take(asked).map(Row::into_view).collect();
    let next = events.last().map(|event| event.seq).filter(|_| more);
    Ok(Json(EventPage { events, next }).into_response())
}

/// Where a browser's event source goes on after its connection broke.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Seq>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let bad = || ApiError::invalid("the header Last-Event-ID is not the seq of an event");
    value.to_str().map_err(|_| bad())?.parse().map(Some).map_err(|_| bad())
}

/// Events of a run, which must exist.
async fn page(api: &Api, run: &RunId, after: Seq, limit: u32) -> Result<Vec<Row>, ApiError> {
    let found = api.reads.events(run, after, limit).await?;
    Ok(found.ok_or_else(|| no_such_run(run))?)
}

/// A stream of a run's events.
struct Follower {
    api: Arc<Api>,
    run: RunId,
    after: Seq,
    waiting: VecDeque<Row>,
    commits: watch::Receiver<Seq>,
    ended: bool,
}

async fn follow_run(api: Arc<Api>, run: RunId, after: Seq) -> Result<Response, ApiError> {
    // Subscribed before the first look, so that no commit in between is missed.
    let commits = api.node.committed();
    let waiting = page(&api, &run, after, BATCH).await?.into();
    let follower = Follower { api, run, after, waiting, commits, ended: false };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

impl Follower {
    /// The next event; none after the run's end, or when the node closes.
    async fn next(&mut self) -> Option<Event> {
        let mut over = false;
        loop {
            if let Some(row) = self.waiting.pop_front() {
                self.after = row.seq;
                self.ended = self.ended || matches!(&*row.kind, "run_completed" | "run_failed");
                return Some(sse(row));
            }
            if self.ended {
                return None;
            }
            // What is committed up to now is seen by the read that follows.
            self.commits.borrow_and_update();
            match page(&self.api, &self.run, self.after, BATCH).await {
                Ok(rows) if !rows.is_empty() => {
                    self.waiting = rows.into();
                    continue;
                }
                Ok(_) if over => return None,
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Event::default().event("error").data(error.to_json()));
                }
            }
            if self.is_over().await {
                // It may have ended since the page was read: what is left is in the next.
                over = true;
                continue;
            }
            tokio::select! {
                biased;
                () = self.api.closing.cancelled() => return None,
                changed = self.commits.changed() => changed.ok()?,
            }
        }
    }

    /// Whether the run ended before the position from which we follow it.
    async fn is_over(&self) -> bool {
        matches!(self.api.reads.find(&self.run).await, Ok(Some(Stored::Ended(..))))
    }
}

fn sse(row: Row) -> Event {
    let view = row.into_view();
    let data = serde_json::to_string(&view).expect("an event's row has a JSON form");
    Event::default().id(view.seq.to_string()).event(view.kind).data(data)
}
