//! Reads both histories once, side by side.

use rusqlite::{Connection, Rows};
use serde::Deserialize;
use serde_json::Value;
use tidemill_eventlog::{Error, ErrorKind, Result, Row, query, sqlite, to_sql};
use tidemill_model::{RunId, RunStatus, RunSummary, Seq, Timestamp, took_ms};

use super::divergence::{Compared, What, compare};
use super::fields::{Fields, beginning};
use super::operations::{Ops, observe};
use super::{ComparePage, ComparedRun, EventPair, EventShown, Side, operations};

/// Characters that are shown of what an event carries.
const DATA_CHARS_MAX: usize = 500;

/// What is known of one side after its history was read.
#[derive(Default)]
struct Story {
    ops: Ops,
    events: u64,
    input: Option<Value>,
    output: Option<Value>,
    end: Option<(RunStatus, Timestamp)>,
}

/// The inputs and acts of a run in log order.
struct Walk<'a> {
    rows: Rows<'a>,
    story: Story,
}

#[derive(Deserialize)]
struct Given {
    input: Value,
}

#[derive(Deserialize)]
struct Brought {
    output: Option<Value>,
    error: Option<Value>,
}

pub(super) fn read(a: Side<'_>, b: Side<'_>) -> Result<ComparePage> {
    let summaries = (summary(a.0, a.1)?, summary(b.0, b.1)?);
    let (columns, failed) = (Row::COLUMNS, |e| sqlite("read events", e));
    let sql = format!("SELECT {columns} FROM events WHERE run = ?1 AND seq <= ?2 ORDER BY seq");
    let upto = |until: Option<Seq>| until.map_or(i64::MAX, to_sql);
    let mut of_a = a.0.prepare_cached(&sql).map_err(failed)?;
    let mut of_b = b.0.prepare_cached(&sql).map_err(failed)?;
    let rows_a = of_a.query((a.1.as_str(), upto(a.2))).map_err(failed)?;
    let rows_b = of_b.query((b.1.as_str(), upto(b.2))).map_err(failed)?;
    let mut first = Walk { rows: rows_a, story: Story::default() };
    let mut second = Walk { rows: rows_b, story: Story::default() };
    let (mut same_events, mut payload, mut divergence) = (0, None, None);
    loop {
        let events = (first.advance()?, second.advance()?);
        let pair = |what| EventPair {
            what,
            position: same_events + 1,
            a: events.0.as_ref().map(shown),
            b: events.1.as_ref().map(shown),
        };
        let compared = match (&events.0, &events.1) {
            (None, None) => break,
            (Some(x), Some(y)) => compare(x, y, (a.1, b.1)),
            (Some(_), None) | (None, Some(_)) => Compared::Diverged(What::End),
        };
        match compared {
            Compared::Same => {}
            Compared::OtherPayload if payload.is_some() => {}
            Compared::OtherPayload => payload = Some(pair(What::Payload)),
            Compared::Diverged(what) => {
                divergence = Some(pair(what));
                break;
            }
        }
        same_events += 1;
    }
    let (first, second) = (first.rest()?, second.rest()?);
    Ok(ComparePage {
        same_events,
        divergence,
        payload,
        input: Fields::of(first.input.as_ref(), second.input.as_ref()),
        output: Fields::of(first.output.as_ref(), second.output.as_ref()),
        operations: operations::compare(&first.ops, &second.ops),
        a: head(summaries.0, a.2, &first),
        b: head(summaries.1, b.2, &second),
    })
}

fn summary(connection: &Connection, run: &RunId) -> Result<RunSummary> {
    let missing = || Error::new(ErrorKind::NotFound, format!("there is no run {run}"));
    query::run(connection, run)?.ok_or_else(missing)
}

fn head(run: RunSummary, seq: Option<Seq>, story: &Story) -> ComparedRun {
    let ended = story.end.map(|end| end.1);
    ComparedRun {
        run: run.id,
        seq,
        workflow: run.workflow,
        // A status that is no end is the newest one.
        status: match story.end {
            Some((status, _)) => status,
            None if run.status.is_final() => RunStatus::Running,
            None => run.status,
        },
        started: run.created_at,
        duration_ms: took_ms(run.created_at, ended),
        events: story.events,
    }
}

fn shown(row: &Row) -> EventShown {
    EventShown {
        seq: row.seq,
        ts: row.ts,
        kind: beginning(&row.kind, DATA_CHARS_MAX),
        op: row.op.map(tidemill_model::OpId::get),
        name: row.name.as_deref().map(|name| beginning(name, DATA_CHARS_MAX)),
        data: row.data.as_deref().map(|data| beginning(data, DATA_CHARS_MAX)),
        bytes: row.data.as_deref().map_or(0, str::len),
    }
}

impl Walk<'_> {
    /// The next input or act.
    fn advance(&mut self) -> Result<Option<Row>> {
        let failed = |e| sqlite("read events", e);
        while let Some(row) = self.rows.next().map_err(failed)? {
            // Most of a long history may be checkpoints.
            let kind = row.get_ref(3).map_err(failed)?.as_str().unwrap_or_default();
            if query::is_observed(kind) {
                let row = Row::read(row)?;
                self.story.observe(&row);
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    fn rest(mut self) -> Result<Story> {
        while self.advance()?.is_some() {}
        Ok(self.story)
    }
}

impl Story {
    fn observe(&mut self, row: &Row) {
        self.events += 1;
        observe(&mut self.ops, row);
        let data = row.data.as_deref().unwrap_or_default();
        let status = match row.kind.as_str() {
            "run_created" => {
                self.input = serde_json::from_str::<Given>(data).ok().map(|given| given.input);
                return;
            }
            "run_completed" => RunStatus::Completed,
            "run_failed" => RunStatus::Failed,
            _ => return,
        };
        let brought = serde_json::from_str::<Brought>(data).ok();
        self.output = brought.and_then(|brought| brought.output.or(brought.error));
        self.end = Some((status, row.ts));
    }
}
