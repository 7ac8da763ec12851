//! The tables that follow from the events: `tidemill_runs`, `tidemill_timers` and, in
//! [`crate::signals`] and [`crate::promises`], `tidemill_signals` and `tidemill_promises`.
//!
//! The writer calls [`project`] for each event that it appends, and [`set_status`] when a run's
//! status has changed at the end of a transaction, all in that transaction. [`rebuild`] makes
//! the same rows from the events alone, and [`compare`] says where they differ.
//!
//! A step's events touch nothing here. A status that only held between two events of one
//! transaction is never stored, because no reader could have seen it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use tidemill_model::{
    Event, OpId, OpKind, OpStatus, Parent, RunCreated, RunId, RunState, RunStatus, Seq, Timestamp,
};

use crate::append::Appended;
use crate::codec::{Row, from_sql, to_sql};
use crate::error::{Error, Result, sqlite};
use crate::promises::{self, PromiseRows};
use crate::signals::{self, SignalFold, SignalRows};

/// Writes what the event, just appended, changes: a run's row at its creation, timers.
///
/// # Errors
/// What SQLite says.
pub fn project(
    connection: &Connection,
    at: Appended,
    run: Option<&RunId>,
    event: &Event,
) -> Result<()> {
    let Some(run) = run else { return Ok(()) };
    signals::project(connection, at.seq, run, event)?;
    promises::project(connection, at, run, event)?;
    match event {
        Event::RunCreated(created) => create_run(connection, at, run, created),
        Event::TimerStarted { op, fire_at, .. } => {
            write_timer(connection, run.as_str(), op.get(), &fire_at.to_string())
        }
        Event::PromiseStarted { op, terms, .. } => match terms.deadline {
            Some(deadline) => {
                write_timer(connection, run.as_str(), op.get(), &deadline.to_string())
            }
            None => Ok(()),
        },
        Event::TimerFired { op, .. } => end_timer(connection, run, *op),
        Event::PromiseAnswered { op, answer, .. } if answer.settles => {
            end_timer(connection, run, *op)
        }
        Event::CancelRequested { resolves, .. } => {
            for op in resolves.keys() {
                end_timer(connection, run, *op)?;
                await_no_more(connection, run, Some(*op))?;
            }
            let sql = "UPDATE tidemill_runs SET cancel_seq = ?2 WHERE run = ?1";
            execute_one(connection, sql, (run.as_str(), to_sql(at.seq)))
        }
        Event::CancelHeld { .. } => {
            let sql =
                "UPDATE tidemill_runs SET cancel_seq = coalesce(cancel_seq, ?2) WHERE run = ?1";
            execute_one(connection, sql, (run.as_str(), to_sql(at.seq)))
        }
        Event::ChildCompleted { op, .. } | Event::ChildFailed { op, .. } => {
            await_no_more(connection, run, Some(*op))
        }
        Event::OpDropped { op } => {
            end_timer(connection, run, *op)?;
            await_no_more(connection, run, Some(*op))
        }
        Event::RunCompleted { .. } | Event::RunFailed { .. } => {
            let sql = "DELETE FROM tidemill_timers WHERE run = ?1";
            execute(connection, sql, [run.as_str()])?;
            await_no_more(connection, run, None)
        }
        Event::StatusSet { .. } => {
            let sql = "UPDATE tidemill_runs SET custom_status_seq = ?2 WHERE run = ?1";
            execute_one(connection, sql, (run.as_str(), to_sql(at.seq)))
        }
        // Most events change no projection, or only the status, which `set_status` writes.
        _ => Ok(()),
    }
}

/// The run no longer waits for the child that this operation started, or for any of its children:
/// it has observed the child's end, has dropped it, or has ended itself. A child that outlives its
/// parent goes on by itself.
///
/// # Errors
/// What SQLite says.
pub fn await_no_more(connection: &Connection, run: &RunId, op: Option<OpId>) -> Result<()> {
    // The event is read only of a child that has not ended, which is rare.
    let sql = "UPDATE tidemill_runs SET awaited = iif(ended_seq IS NULL AND EXISTS (\
                 SELECT 1 FROM events e WHERE e.seq = tidemill_runs.seq \
                 AND e.data ->> '$.outlives_parent'), 2, 0) \
               WHERE parent = ?1 AND awaited = 1";
    match op {
        Some(op) => {
            let sql = format!("{sql} AND parent_op = ?2");
            execute(connection, &sql, (run.as_str(), op.get())).map(drop)
        }
        None => execute(connection, sql, [run.as_str()]).map(drop),
    }
}

fn end_timer(connection: &Connection, run: &RunId, op: OpId) -> Result<()> {
    let sql = "DELETE FROM tidemill_timers WHERE run = ?1 AND op = ?2";
    execute(connection, sql, (run.as_str(), op.get())).map(drop)
}

/// Writes a run's status. `because` is the event that ended or blocked it, for those statuses; a
/// run that is blocked again for another reason is written again.
///
/// # Errors
/// What SQLite says.
pub fn set_status(
    connection: &Connection,
    run: &RunId,
    status: RunStatus,
    because: Option<Seq>,
) -> Result<()> {
    let because = because.map(to_sql);
    let ended = because.filter(|_| status.is_final());
    let blocked = because.filter(|_| status == RunStatus::Blocked);
    let sql = "UPDATE tidemill_runs SET status = ?2, ended_seq = ?3, blocked_seq = ?4, \
               awaited = iif(awaited = 2 AND ?3 IS NOT NULL, 0, awaited) WHERE run = ?1";
    execute_one(connection, sql, (run.as_str(), status.as_str(), ended, blocked))
}

fn create_run(
    connection: &Connection,
    at: Appended,
    run: &RunId,
    created: &RunCreated,
) -> Result<()> {
    let sql = "INSERT INTO tidemill_runs \
               (seq, run, workflow, status, created_at, parent, parent_op, labels, awaited, \
                deadline) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?6 IS NOT NULL, ?9)";
    let params = (
        to_sql(at.seq),
        run.as_str(),
        created.workflow.as_str(),
        RunStatus::Pending.as_str(),
        at.ts.to_string(),
        created.parent.as_ref().map(|parent| parent.run.as_str()),
        created.parent.as_ref().map(|parent| parent.op.get()),
        labels_json(&created.labels),
        created.deadline(at.ts).map(|at| at.to_string()),
    );
    execute_one(connection, sql, params)
}

pub(crate) fn labels_json(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).expect("a map of strings has a JSON form")
}

fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
    let failed = |e| sqlite("write a projection", e);
    connection.prepare_cached(sql).map_err(failed)?.execute(params).map_err(failed)
}

/// As [`execute`], for what has to change one row.
fn execute_one(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<()> {
    match execute(connection, sql, params)? {
        1 => Ok(()),
        changed => Err(Error::corrupt(format!(
            "write a projection: rows changed={changed}, not one: the file was changed by \
             something else, or a trigger on a table of ours leaves rows out: run `tidemill fsck`"
        ))),
    }
}

/// Writes a whole row of `tidemill_runs`, which has none for this run yet.
pub(crate) fn write_run(connection: &Connection, run: &str, row: &RunRow) -> Result<()> {
    let sql = "INSERT INTO tidemill_runs (seq, run, workflow, status, created_at, ended_seq, \
               blocked_seq, parent, parent_op, labels, awaited, custom_status_seq, \
               cancel_seq, deadline) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let params = (
        to_sql(row.seq),
        run,
        &row.workflow,
        &row.status,
        &row.created_at,
        row.ended_seq.map(to_sql),
        row.blocked_seq.map(to_sql),
        row.parent.as_ref().map(|parent| parent.run.as_str()),
        row.parent.as_ref().map(|parent| parent.op.get()),
        &row.labels,
        row.awaited.unwrap_or(Awaited::No).number(),
        row.custom_status_seq.map(to_sql),
        row.cancel_seq.map(to_sql),
        &row.deadline,
    );
    execute_one(connection, sql, params)
}

/// Writes a row of `tidemill_timers`.
pub(crate) fn write_timer(
    connection: &Connection,
    run: &str,
    op: u32,
    fire_at: &str,
) -> Result<()> {
    let sql = "INSERT INTO tidemill_timers (run, op, fire_at) VALUES (?1, ?2, ?3)";
    execute_one(connection, sql, (run, op, fire_at))
}

/// Whether a run is a child that its parent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Nobody waits for it. A child that has not ended is cancelled.
    No,
    /// Its parent waits for its end.
    Yes,
    /// Nobody waits for it, and it goes on by itself.
    GoesOn,
}

impl Awaited {
    fn number(self) -> u8 {
        match self {
            Awaited::No => 0,
            Awaited::Yes => 1,
            Awaited::GoesOn => 2,
        }
    }

    fn of(number: u8) -> Awaited {
        match number {
            0 => Awaited::No,
            2 => Awaited::GoesOn,
            _ => Awaited::Yes,
        }
    }
}

/// A row of `tidemill_runs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// The position of `run_created`: the order of starts.
    pub seq: Seq,
    /// The workflow's name.
    pub workflow: String,
    /// The status's text.
    pub status: String,
    /// When it was created, as text.
    pub created_at: String,
    /// The event that ended it.
    pub ended_seq: Option<Seq>,
    /// The event that blocked it, while it is blocked.
    pub blocked_seq: Option<Seq>,
    /// The event with which its code last said what it is doing.
    pub custom_status_seq: Option<Seq>,
    /// The event that says who asked it to end: `cancel_requested`, or else `cancel_held`.
    pub cancel_seq: Option<Seq>,
    /// When it is cancelled if it has not ended, as text.
    pub deadline: Option<String>,
    /// Who started it as a child.
    pub parent: Option<Parent>,
    /// Its labels as JSON text.
    pub labels: String,
    /// Whether the run that started it waits for its end; `None` where that is not known: in a file
    /// of schema version 1, and where the events of the parent cannot be read.
    pub awaited: Option<Awaited>,
}

impl RunRow {
    /// Whether both say the same, as far as both know.
    fn agrees(&self, other: &RunRow) -> bool {
        let awaited = self.awaited.zip(other.awaited);
        awaited.is_none_or(|(this, other)| this == other)
            && RunRow { awaited: None, ..self.clone() } == RunRow { awaited: None, ..other.clone() }
    }
}

/// The projections as plain values: what is stored, or what the events say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Projections {
    /// `tidemill_runs` by run.
    pub runs: BTreeMap<String, RunRow>,
    /// `tidemill_timers`: when each fires, as text, by run and operation.
    pub timers: BTreeMap<(String, u32), String>,
    /// `tidemill_signals`, by run and number.
    pub signals: SignalRows,
    /// `tidemill_promises`, by run and operation.
    pub promises: PromiseRows,
    /// Runs with an event that this version cannot read or that does not fit, and why; their rows
    /// were not rebuilt.
    pub unreadable: BTreeMap<String, String>,
}

/// Reads what is stored.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn stored(connection: &Connection) -> Result<Projections> {
    let failed = |e| sqlite("read the projections", e);
    let mut found = Projections::default();
    let sql = "SELECT run, seq, workflow, status, created_at, ended_seq, blocked_seq, parent, \
               parent_op, labels, awaited, custom_status_seq, cancel_seq, deadline FROM tidemill_runs";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let run: String = row.get(0).map_err(failed)?;
        let stored = run_row(row).map_err(|e| sqlite(format_args!("read run {run}"), e))?;
        found.runs.insert(run, stored);
    }
    let mut statement =
        connection.prepare("SELECT run, op, fire_at FROM tidemill_timers").map_err(failed)?;
    let timers = statement
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))
        .map_err(failed)?;
    found.timers = timers.collect::<rusqlite::Result<_>>().map_err(failed)?;
    found.signals = signals::stored(connection)?;
    found.promises = promises::stored(connection)?;
    Ok(found)
}

fn run_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RunRow> {
    let seq =
        |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.and_then(from_sql));
    let parent = row.get::<_, Option<String>>(7)?.and_then(|run| RunId::new(&run).ok());
    let op = row.get::<_, Option<u32>>(8)?.and_then(|op| OpId::new(op).ok());
    Ok(RunRow {
        seq: seq(1)?.unwrap_or(Seq::ZERO),
        workflow: row.get(2)?,
        status: row.get(3)?,
        created_at: row.get(4)?,
        ended_seq: seq(5)?,
        blocked_seq: seq(6)?,
        parent: parent.zip(op).map(|(run, op)| Parent { run, op }),
        labels: row.get(9)?,
        awaited: row.get::<_, Option<u8>>(10)?.map(Awaited::of),
        custom_status_seq: seq(11)?,
        cancel_seq: seq(12)?,
        deadline: row.get(13)?,
    })
}

/// Folds all events into the rows that have to be there.
///
/// # Errors
/// `Corrupt` if a row of `events` is not what its columns say; otherwise what SQLite says. An
/// event of a newer version makes its run unreadable and is no error.
pub fn rebuild(connection: &Connection) -> Result<Projections> {
    let failed = |e| sqlite("read the events", e);
    let sql = format!("SELECT {} FROM events ORDER BY seq", Row::COLUMNS);
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut rebuild = Rebuild::default();
    while let Some(row) = rows.next().map_err(failed)? {
        rebuild.row(&Row::read(row)?);
    }
    Ok(rebuild.finish())
}

/// The fold over all runs at once. A run that ended is reduced to its row.
#[derive(Default)]
struct Rebuild {
    live: BTreeMap<RunId, OpenRun>,
    ended: BTreeSet<String>,
    signals: SignalFold,
    done: Projections,
}

struct OpenRun {
    state: RunState,
    created_seq: Seq,
    blocked_seq: Option<Seq>,
    custom_status_seq: Option<Seq>,
    cancel_seq: Option<Seq>,
}

impl Rebuild {
    fn row(&mut self, row: &Row) {
        let Some(run) = &row.run else { return };
        if self.done.unreadable.contains_key(run.as_str()) {
            return;
        }
        if let Err(why) = self.apply(run, row) {
            self.live.remove(run);
            self.done.runs.remove(run.as_str());
            self.done.unreadable.insert(run.as_str().to_owned(), why);
        }
    }

    fn apply(&mut self, run: &RunId, row: &Row) -> std::result::Result<(), String> {
        let event = row.event().map_err(|e| format!("event {}: {e}", row.seq))?;
        if self.ended.contains(run.as_str()) {
            return Err(format!("event {} of a run that has ended", row.seq));
        }
        let Some(live) = self.live.get_mut(run) else {
            let state =
                RunState::create(run, row.seq, row.ts, &event).map_err(|e| e.to_string())?;
            let live = OpenRun {
                state,
                created_seq: row.seq,
                blocked_seq: None,
                custom_status_seq: None,
                cancel_seq: None,
            };
            self.live.insert(run.clone(), live);
            return Ok(());
        };
        live.state.apply(row.seq, row.ts, &event).map_err(|e| e.to_string())?;
        self.signals.apply(row.seq, run, &event);
        promises::apply(&mut self.done.promises, run, &event, (row.seq, row.ts));
        match event {
            Event::RunBlocked { .. } => live.blocked_seq = Some(row.seq),
            Event::StatusSet { .. } => live.custom_status_seq = Some(row.seq),
            Event::CancelRequested { .. } => live.cancel_seq = Some(row.seq),
            Event::CancelHeld { .. } => live.cancel_seq = live.cancel_seq.or(Some(row.seq)),
            _ => {}
        }
        if live.state.status.is_final()
            && let Some(live) = self.live.remove(run)
        {
            self.ended.insert(run.as_str().to_owned());
            self.done.runs.insert(run.as_str().to_owned(), live.row());
        }
        Ok(())
    }

    fn finish(mut self) -> Projections {
        self.done.signals = std::mem::take(&mut self.signals.rows);
        let awaited = self.awaited();
        for (run, live) in &self.live {
            self.done.runs.insert(run.as_str().to_owned(), live.row());
            for (op, fire_at) in live.timers() {
                self.done.timers.insert((run.as_str().to_owned(), op.get()), fire_at.to_string());
            }
        }
        let unreadable = &self.done.unreadable;
        for (run, row) in &mut self.done.runs {
            let Some(parent) = &row.parent else { continue };
            row.awaited = match unreadable.contains_key(parent.run.as_str()) {
                true => None,
                false => {
                    let child = (run.clone(), parent.run.as_str().to_owned(), parent.op);
                    if awaited.contains(&child) { Some(Awaited::Yes) } else { row.awaited }
                }
            };
        }
        self.done
    }

    /// The awaited children: each child, its parent, and the parent's operation.
    fn awaited(&self) -> BTreeSet<(String, String, OpId)> {
        let mut awaited = BTreeSet::new();
        for (run, live) in &self.live {
            for (id, op) in live.state.ops.iter().filter(|(_, op)| op.is_open()) {
                if let OpKind::Child { child, .. } = &op.kind {
                    awaited.insert((child.as_str().to_owned(), run.as_str().to_owned(), *id));
                }
            }
        }
        awaited
    }
}

impl OpenRun {
    fn row(&self) -> RunRow {
        let state = &self.state;
        let goes_on = state.created.outlives_parent && !state.status.is_final();
        RunRow {
            seq: self.created_seq,
            workflow: state.created.workflow.as_str().to_owned(),
            status: state.status.as_str().to_owned(),
            created_at: state.created_at.to_string(),
            ended_seq: Some(state.last_seq).filter(|_| state.status.is_final()),
            blocked_seq: self.blocked_seq.filter(|_| state.status == RunStatus::Blocked),
            parent: state.created.parent.clone(),
            labels: labels_json(&state.created.labels),
            awaited: Some(if goes_on { Awaited::GoesOn } else { Awaited::No }),
            custom_status_seq: self.custom_status_seq,
            cancel_seq: self.cancel_seq,
            deadline: state.created.deadline(state.created_at).map(|at| at.to_string()),
        }
    }

    fn timers(&self) -> impl Iterator<Item = (OpId, Timestamp)> {
        self.state.ops.iter().filter_map(|(id, op)| match (&op.kind, &op.status) {
            (OpKind::Timer { fire_at }, OpStatus::Open) => Some((*id, *fire_at)),
            (OpKind::Promise { terms, .. }, OpStatus::Open) if op.held.is_none() => {
                Some((*id, terms.deadline?))
            }
            (_, _) => None,
        })
    }
}

/// Where the stored projections differ from what the events say, one line each. Runs that could
/// not be rebuilt are left out.
pub fn compare(stored: &Projections, from_events: &Projections) -> Vec<String> {
    let readable = |run: &str| !from_events.unreadable.contains_key(run);
    let mut differences = Vec::new();
    let runs: BTreeSet<_> = stored.runs.keys().chain(from_events.runs.keys()).collect();
    for run in runs.into_iter().filter(|run| readable(run)) {
        match (stored.runs.get(run), from_events.runs.get(run)) {
            (Some(stored), Some(events)) if stored.agrees(events) => {}
            (Some(stored), Some(events)) => differences
                .push(format!("run {run} is stored as {stored:?}, its events say {events:?}")),
            (Some(_), None) => differences.push(format!("run {run} is stored, it has no events")),
            (None, _) => differences.push(format!("run {run} has events and is not stored")),
        }
    }
    let timers: BTreeSet<_> = stored.timers.keys().chain(from_events.timers.keys()).collect();
    for timer in timers.into_iter().filter(|(run, _)| readable(run)) {
        let (kept, said) = (stored.timers.get(timer), from_events.timers.get(timer));
        if kept != said {
            let (run, op) = timer;
            differences.push(format!(
                "timer {op} of run {run} is stored as {kept:?}, its events say {said:?}"
            ));
        }
    }
    let promises: BTreeSet<_> = stored.promises.keys().chain(from_events.promises.keys()).collect();
    for promise in promises.into_iter().filter(|(run, _)| readable(run)) {
        let (kept, said) = (stored.promises.get(promise), from_events.promises.get(promise));
        if kept != said {
            let (run, op) = promise;
            differences
                .push(format!("promise {run}:{op} is stored as {kept:?}, its events say {said:?}"));
        }
    }
    let signals: BTreeSet<_> = stored.signals.keys().chain(from_events.signals.keys()).collect();
    for signal in signals.into_iter().filter(|(run, _)| readable(run)) {
        let (kept, said) = (stored.signals.get(signal), from_events.signals.get(signal));
        if kept != said {
            let (run, number) = signal;
            differences.push(format!(
                "signal {number} of run {run} is stored as {kept:?}, its events say {said:?}"
            ));
        }
    }
    differences
}
