//! One run: what it is, what its operations did when, and what it waits for; now or after any of
//! its events.

mod asks;
mod bars;
mod chart;
mod events;
mod names;
mod operation;
mod params;
mod promises;
#[cfg(test)]
mod tests;
mod timescale;
mod tree;
mod view;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::{ErrorKind, Result, StoredEvent, query, waits};
use tidemill_model::{
    Epoch, Event, Failure, Op, OpId, OpStatus, PageRequest, Payloads, RunId, RunState, RunView,
    Seq, Timestamp, Word, took_ms,
};

pub use asks::ASKS;
pub use events::{EventsPage, EventsParams, followed};
pub use names::NameView;
pub use operation::{OperationShown, PayloadPart, payload};
pub use params::{Only, RunParams};
pub use promises::PromiseAsk;
pub use tree::{Tree, TreeRow};

use crate::waits::WaitView;
use bars::{Bar, Did};

/// Operations in a page: each is some 20 elements.
const ROWS: usize = 100;

/// Stretches of time that are drawn of one operation.
const BARS_MAX: usize = 5;

/// Processes that took a run up, which are drawn.
const TAKEN_UP_MAX: usize = 50;

/// A run's page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "RunShown"))]
pub struct RunPage {
    /// What was asked for.
    pub params: RunParams,
    /// The run, without its operations.
    pub run: RunView,
    /// What it waits for; `None` if it has ended or nothing is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitView>,
    /// The open promises that nobody has settled, the first ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promises: Vec<PromiseAsk>,
    /// Up to when it is drawn.
    pub upto: Timestamp,
    /// After how many of its events it is shown.
    pub event: u64,
    /// How many it has in all.
    pub events: u64,
    /// The newest event that counts.
    pub last: LastEvent,
    /// The processes that took it up, the first ones first.
    pub taken_up: Vec<TakenUp>,
    /// Its operations by name, the most frequent first.
    pub names: Vec<NameView>,
    /// The runs around it, as they are now; `None` where it is shown at an earlier event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
    /// The first operation that failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<OpRow>,
    /// How many operations fit the parameters.
    pub total: u64,
    /// The operations of this page.
    pub operations: Vec<OpRow>,
    /// The `after` of the next page; `None` at the end.
    pub next: Option<OpId>,
    /// When anything ran, for the scale of the chart: the stretches that are not idle.
    pub busy: Vec<(Timestamp, Timestamp)>,
}

/// The newest event of what is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LastEvent {
    /// Its place in the log.
    pub seq: Seq,
    /// When it was written.
    pub ts: Timestamp,
    /// Its kind.
    pub kind: String,
}

/// A process that took the run up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TakenUp {
    /// When.
    pub at: Timestamp,
    /// Its number among the processes of the run, from 1.
    pub attempt: u32,
    /// Its epoch; `None` without a sidecar.
    pub epoch: Option<Epoch>,
    /// Whether it was another epoch than before: the machine was lost and taken over.
    pub took_over: bool,
}

/// An operation in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpRow {
    /// Its number.
    pub op: OpId,
    /// `step`, `timer`, `child`, `spawn`, `signal` or `promise`.
    pub kind: Word,
    /// Its name.
    pub name: String,
    /// `open`, `completed`, `failed`, `cancelled` or `dropped`.
    pub status: Word,
    /// When it started.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds; `None` if it has not ended.
    pub duration_ms: Option<u64>,
    /// The number of its last attempt; 0 for what is no step.
    pub attempts: u32,
    /// How many checkpoints it recorded.
    pub checkpoints: u64,
    /// The run that it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<RunId>,
    /// The run that a spawn starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawned: Option<RunId>,
    /// Its error, or the newest of its attempts; of a long one the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What it did when.
    pub bars: Vec<BarView>,
}

/// A stretch of time of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BarView {
    /// `queued`, `running`, `completed`, `failed`, `backoff`, `cut`, `held`, `cancelled`, `dropped`,
    /// `waiting` or `child`.
    pub did: Word,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// The attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

impl RunPage {
    /// Reads a run's page; `None` if there is no such run, or none yet at that event. `now` is when
    /// what is open is drawn up to.
    ///
    /// # Errors
    /// `Corrupt` if its first event cannot be read; `Invalid` for an event that it has not;
    /// otherwise what SQLite says.
    pub fn read(
        connection: &Connection,
        run: &RunId,
        params: RunParams,
        now: Timestamp,
    ) -> Result<Option<RunPage>> {
        RunPage::read_rows(connection, run, params, now, ROWS)
    }

    /// As [`RunPage::read`], with this many operations at most.
    pub(crate) fn read_rows(
        connection: &Connection,
        run: &RunId,
        params: RunParams,
        now: Timestamp,
        rows: usize,
    ) -> Result<Option<RunPage>> {
        let until = until(connection, run, &params)?;
        let mut passed = Passed::default();
        let each = |stored: &StoredEvent<'_>| passed.note(stored);
        let Some(state) = query::run_state_with(connection, run, until, each)? else {
            return Ok(None);
        };
        let Passed { events: event, taken_up, last_kind } = passed;
        let last = LastEvent { seq: state.last_seq, ts: state.updated_at, kind: last_kind };
        let events = match until {
            Some(_) => query::event_number(connection, run, Seq::MAX)?,
            None => event,
        };
        let upto = match (state.ended_at, until) {
            (Some(ended), _) => ended,
            (None, Some(_)) if event < events => last.ts,
            (None, _) => now.max(last.ts),
        };
        let waits_for = match until {
            None => waits::waits_for(connection, run)?,
            Some(_) => None,
        };
        let tree = match until {
            None => Some(Tree::read(connection, run)?),
            Some(_) => None,
        };
        let shown = OfOperations::of(&params, &state, upto, rows);
        let OfOperations { names, failed, total, operations, next, busy } = shown;
        let waits = WaitView::of(&state);
        let promises = promises::open(&state);
        let request = PageRequest { after: None, limit: Some(0), payloads: Payloads::Heads };
        let run = RunView::of(state, waits_for, request);
        Ok(Some(RunPage {
            params,
            run,
            waits,
            promises,
            upto,
            event,
            events,
            last,
            taken_up,
            names,
            tree,
            failed,
            total,
            operations,
            next,
            busy,
        }))
    }
}

/// What the operations of a run give to its page.
struct OfOperations {
    names: Vec<NameView>,
    failed: Option<OpRow>,
    total: u64,
    operations: Vec<OpRow>,
    next: Option<OpId>,
    busy: Vec<(Timestamp, Timestamp)>,
}

impl OfOperations {
    fn of(params: &RunParams, state: &RunState, upto: Timestamp, rows: usize) -> OfOperations {
        let mut names = names::Names::default();
        let (mut busy, mut failed, mut total) = (Vec::new(), None, 0);
        let (mut operations, mut next) = (Vec::new(), None);
        for (id, op) in &state.ops {
            let bars = bars::bars(op, upto);
            busy.extend(bars.iter().filter(|bar| bar.did.is_work()).map(|bar| (bar.from, bar.to)));
            names.add(*id, op);
            if failed.is_none() && matches!(op.status, OpStatus::Failed(_)) {
                failed = Some(OpRow::of(*id, op, bars.clone()));
            }
            if !fits(params, op) {
                continue;
            }
            total += 1;
            if params.after.is_some_and(|after| *id <= after) {
                continue;
            }
            if operations.len() == rows {
                next = next.or(operations.last().map(|row: &OpRow| row.op));
                continue;
            }
            operations.push(OpRow::of(*id, op, bars));
        }
        let (names, busy) = (names.done(), merged(busy));
        OfOperations { names, failed, total, operations, next, busy }
    }
}

/// The event up to which the run is shown; `None` for all of them.
fn until(connection: &Connection, run: &RunId, params: &RunParams) -> Result<Option<Seq>> {
    let Some(number) = params.event else { return Ok(params.seq) };
    match query::nth_event(connection, run, number)? {
        Some(seq) => Ok(Some(seq)),
        None => {
            let events = query::event_number(connection, run, Seq::MAX)?;
            let message = format!("run `{run}` has {events} events here, and no event {number}");
            Err(tidemill_eventlog::Error::new(ErrorKind::NotFound, message))
        }
    }
}

/// What the fold passes and its state does not keep.
#[derive(Default)]
struct Passed {
    events: u64,
    taken_up: Vec<TakenUp>,
    last_kind: String,
}

impl Passed {
    fn note(&mut self, stored: &StoredEvent<'_>) {
        self.events += 1;
        self.last_kind.clear();
        self.last_kind.push_str(stored.kind);
        if stored.kind != "run_started" || self.taken_up.len() == TAKEN_UP_MAX {
            return;
        }
        if let Ok(Event::RunStarted { epoch, attempt }) = stored.event() {
            let before = self.taken_up.last();
            let took_over = before.is_some_and(|before| before.epoch != epoch);
            self.taken_up.push(TakenUp { at: stored.ts, attempt, epoch, took_over });
        }
    }
}

fn fits(params: &RunParams, op: &Op) -> bool {
    let named = params.name.as_ref().is_none_or(|name| op.name.as_str() == name);
    named
        && match params.only {
            None => true,
            Some(Only::Open) => op.status == OpStatus::Open,
            Some(Only::Failed) => {
                let bad = |it: &tidemill_model::Attempt| {
                    it.error.is_some() || it.state.cut_off_by().is_some()
                };
                matches!(op.status, OpStatus::Failed(_)) || op.attempts.iter().any(bad)
            }
        }
}

/// Stretches that overlap or touch are one: what is left says when anything ran.
fn merged(mut busy: Vec<(Timestamp, Timestamp)>) -> Vec<(Timestamp, Timestamp)> {
    /// More would be finer than the chart.
    const STRETCHES_MAX: usize = 400;
    busy.sort_unstable();
    let mut all: Vec<(Timestamp, Timestamp)> = Vec::new();
    for (from, to) in busy {
        match all.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => all.push((from, to)),
        }
    }
    while all.len() > STRETCHES_MAX {
        all = all.chunks(2).map(|pair| (pair[0].0, pair[pair.len() - 1].1)).collect();
    }
    all
}

impl OpRow {
    fn of(id: OpId, op: &Op, bars: Vec<Bar>) -> OpRow {
        let last = op.attempts.iter().rev().find_map(|attempt| attempt.error.clone());
        let error = match &op.status {
            OpStatus::Failed(error) => Some(error.clone()),
            OpStatus::Cancelled(error) => error.clone(),
            OpStatus::Open => last,
            OpStatus::Completed(_) | OpStatus::Dropped => None,
        };
        OpRow {
            op: id,
            kind: op.kind.as_str().into(),
            name: op.name.to_string(),
            status: op.status.as_str().into(),
            started_at: op.started_at,
            duration_ms: took_ms(op.started_at, op.ended_at),
            attempts: op.attempts.last().map_or(0, |attempt| attempt.number),
            checkpoints: u64::try_from(op.checkpoints.len()).unwrap_or(u64::MAX),
            child: match &op.kind {
                tidemill_model::OpKind::Child { child, .. } => Some(child.clone()),
                _ => None,
            },
            spawned: match &op.kind {
                tidemill_model::OpKind::Spawn { run, .. } => Some(run.clone()),
                _ => None,
            },
            error: error.map(Failure::listed),
            bars: bars::at_most(bars, BARS_MAX).iter().map(BarView::of).collect(),
        }
    }
}

impl BarView {
    fn of(bar: &Bar) -> BarView {
        let Bar { did, from, to, attempt } = *bar;
        BarView { did: Did::class(did).into(), from, to, attempt }
    }
}
