//! A node's own JSON of a moment, at the addresses that the node's API has, behind the base of the
//! source: `…@MOMENT/v1/runs`. What only a living node can do is not there.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tidemill_eventlog::query::{self, RunFilter};
use tidemill_eventlog::{run_list, waits};
use tidemill_model::limits::PAGE_BYTES_MAX;
use tidemill_model::{
    Error, ErrorKind, EventPage, OpId, OperationPage, OperationView, PageRequest, Payloads, RunId,
    RunPage, RunView, Seq,
};
use tidemill_observer::{EventRange, Snapshot, for_each_event};
use tidemill_page::Params;

use crate::answer;
use crate::moments::OpenMoment;

const RUNS_DEFAULT: u32 = 100;
const RUNS_MAX: u32 = 1_000;
const OPERATIONS_DEFAULT: u32 = 1_000;
const EVENTS_DEFAULT: u32 = 1_000;
const PAGE_MAX: u32 = 10_000;

/// Answers a request of the node's API; `None` if it is none.
pub(crate) async fn answer(
    open: &Arc<OpenMoment>,
    segments: &[&str],
    query: &str,
) -> Result<Option<Response>, Error> {
    let run = |id: &str| RunId::new(id).map_err(Error::from);
    let answer = match segments {
        ["v1", "runs"] => value(open, runs_request(query)?).await?,
        ["v1", "runs", id] => {
            let (id, seq) = (run(id)?, Params::read(query, &["seq"])?.get::<Seq>("seq")?);
            value(open, move |snapshot| show(snapshot, &id, seq)).await?
        }
        ["v1", "runs", id, "operations"] => {
            let (id, request) = (run(id)?, operations_request(query)?);
            value(open, move |snapshot| {
                Ok(OperationPage::of(&state(snapshot, &id, None)?, request))
            })
            .await?
        }
        ["v1", "runs", id, "operations", op] => {
            let (id, op) = (run(id)?, op.parse::<OpId>()?);
            value(open, move |snapshot| operation(snapshot, &id, op)).await?
        }
        ["v1", "runs", id, "events"] => {
            let (id, params) = (run(id)?, Params::read(query, &["after", "limit"])?);
            let after = params.get("after")?.unwrap_or(Seq::ZERO);
            let limit = limit(&params, EVENTS_DEFAULT, PAGE_MAX)?;
            value(open, move |snapshot| events(snapshot, &id, after, limit)).await?
        }
        ["v1", "snapshot"] => snapshot(open).await?,
        ["runs", id, "events.jsonl"] => json_lines(open, run(id)?).await?,
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

async fn value<T: Serialize + Send + 'static>(
    open: &Arc<OpenMoment>,
    read: impl FnOnce(&mut Snapshot) -> Result<T, Error> + Send + 'static,
) -> Result<Response, Error> {
    Ok(answer::value(StatusCode::OK, &open.read(read).await?))
}

fn limit(params: &Params, default: u32, max: u32) -> Result<u32, Error> {
    let limit = params.get::<u32>("limit")?.unwrap_or(default);
    if !(1..=max).contains(&limit) {
        let message = format!("limit `{limit}`: use 1 to {max}");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(limit)
}

fn runs_request(
    query: &str,
) -> Result<impl FnOnce(&mut Snapshot) -> Result<RunPage, Error> + Send + use<>, Error> {
    let params = Params::read(query, &["status", "workflow", "label", "limit", "after"])?;
    let limit = limit(&params, RUNS_DEFAULT, RUNS_MAX)?;
    let mut labels = Vec::new();
    for label in params.all("label") {
        let pair = label.split_once('=').ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("label `{label}`: use NAME=VALUE"))
        })?;
        labels.push((pair.0.to_owned(), pair.1.to_owned()));
    }
    let filter = RunFilter {
        status: params.get("status")?,
        workflow: params.get("workflow")?,
        id_part: None,
        labels,
        after: params.get("after")?,
        limit: limit + 1,
        bytes_max: Some(PAGE_BYTES_MAX),
    };
    Ok(move |snapshot: &mut Snapshot| {
        let connection = snapshot.connection();
        let mut runs = query::runs(connection, &filter)?;
        let asked = usize::try_from(limit).unwrap_or(usize::MAX);
        let fits = run_list::fitting(&runs, asked, filter.bytes_max);
        let more = runs.len() > fits;
        runs.truncate(fits);
        waits::say(connection, &mut runs)?;
        query::add_activity(connection, &mut runs)?;
        let counts = filter.after.is_none().then(|| query::counts(connection)).transpose()?;
        let next = runs.last().map(|run| run.seq).filter(|_| more);
        Ok(RunPage { runs, next, counts })
    })
}

fn operations_request(query: &str) -> Result<PageRequest, Error> {
    let params = Params::read(query, &["after", "limit", "whole"])?;
    let limit = limit(&params, OPERATIONS_DEFAULT, PAGE_MAX)?;
    let after =
        params.get::<u32>("after")?.filter(|after| *after > 0).map(OpId::new).transpose()?;
    let whole = params.one_of("whole", &[("true", true), ("false", false)])?.unwrap_or(false);
    Ok(PageRequest {
        after,
        limit: usize::try_from(limit).ok(),
        payloads: if whole { Payloads::Whole } else { Payloads::Heads },
    })
}

fn state(
    snapshot: &Snapshot,
    run: &RunId,
    until: Option<Seq>,
) -> Result<tidemill_model::RunState, Error> {
    query::run_state(snapshot.connection(), run, until)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no run `{run}` at this moment"))
    })
}

fn show(snapshot: &Snapshot, run: &RunId, until: Option<Seq>) -> Result<RunView, Error> {
    let state = state(snapshot, run, until)?;
    let waits_for = match until {
        None => waits::waits_for(snapshot.connection(), run)?,
        Some(_) => None,
    };
    let limit = usize::try_from(OPERATIONS_DEFAULT).ok();
    Ok(RunView::of(state, waits_for, PageRequest { after: None, limit, payloads: Payloads::Heads }))
}

fn operation(snapshot: &Snapshot, run: &RunId, op: OpId) -> Result<OperationView, Error> {
    let state = state(snapshot, run, None)?;
    let found = state.ops.get(&op).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("run `{run}` has no operation {op} at this moment"))
    })?;
    Ok(OperationView::whole(op, found))
}

fn events(snapshot: &Snapshot, run: &RunId, after: Seq, limit: u32) -> Result<EventPage, Error> {
    let connection = snapshot.connection();
    if query::run(connection, run)?.is_none() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no run `{run}` at this moment"),
        ));
    }
    let (rows, more) = query::events_page(connection, run, after, limit, PAGE_BYTES_MAX)?;
    let next = rows.last().filter(|_| more).map(|row| row.seq);
    Ok(EventPage {
        events: rows.into_iter().map(tidemill_eventlog::Row::into_view).collect(),
        next,
    })
}

/// The snapshot as a file.
async fn snapshot(open: &Arc<OpenMoment>) -> Result<Response, Error> {
    let file = open.file()?;
    let stream = tokio_util::io::ReaderStream::new(tokio::fs::File::from_std(file));
    Ok(answer::download("application/vnd.sqlite3", "workflow.db", Body::from_stream(stream)))
}

/// Every event of a run, one JSON a line, as it is read.
async fn json_lines(open: &Arc<OpenMoment>, run: RunId) -> Result<Response, Error> {
    /// Pieces that wait for a slow reader.
    const PIECES: usize = 8;
    /// A piece ends with the line that reaches this.
    const PIECE_BYTES: usize = 64 * 1024;
    let known = run.clone();
    open.read(move |snapshot| events(snapshot, &known, Seq::ZERO, 1)).await?;
    let (send, pieces) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(PIECES);
    let (name, open) = (format!("{run}.jsonl"), Arc::clone(open));
    tokio::spawn(async move {
        let sender = send.clone();
        let sent = open.read(move |snapshot| {
            let mut piece = Vec::new();
            let gone = || Error::new(ErrorKind::Unavailable, "the reader went away");
            let range = EventRange { after: Seq::ZERO, until: None, limit: u32::MAX };
            for_each_event(snapshot.connection(), Some(&run), range, |event| {
                serde_json::to_writer(&mut piece, &event)
                    .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
                piece.push(b'\n');
                if piece.len() >= PIECE_BYTES {
                    let full = std::mem::take(&mut piece);
                    sender.blocking_send(Ok(full.into())).map_err(|_| gone())?;
                }
                Ok::<(), Error>(())
            })?;
            sender.blocking_send(Ok(piece.into())).map_err(|_| gone())
        });
        if let Err(error) = sent.await {
            // The answer has begun: breaking it off is the only way to say that it is not whole.
            let _gone = send.send(Err(std::io::Error::other(error.to_string()))).await;
        }
    });
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    Ok(answer::download("application/x-ndjson", &name, Body::from_stream(stream)))
}
