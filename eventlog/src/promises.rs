//! The table `tidemill_promises`: what each promise of a run waits for, and what became of it.
//!
//! It follows from the events, as every projection does ([`crate::projection`]): one function changes a
//! row by an event, whether the row is stored or rebuilt. The writer asks it whether an answer counts;
//! a process that opens the file, which runs have to be told of one.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_model::{
    Event, OpId, OpName, PromiseId, PromiseRecord, PromiseTerms, PromiseView, RunId, Seq, Timestamp,
};

use crate::append::Appended;
use crate::codec::{Row, from_sql, to_sql};
use crate::due::{self, DueRun};
use crate::error::{Error, Result, sqlite};

/// A row of `tidemill_promises`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromiseRow {
    /// The promise's name.
    pub name: String,
    /// Its `promise_started`.
    pub seq: Seq,
    /// `open`, what it was answered (`resolved`, `rejected`, `expired`), or how it ended without an
    /// answer (`cancelled`, `dropped`).
    pub status: &'static str,
    /// The event with which its run stopped waiting.
    pub closed_seq: Option<Seq>,
    /// What decides about an answer.
    pub record: PromiseRecord,
}

const OPEN: &str = "open";
const STATUSES: [&str; 6] = [OPEN, "resolved", "rejected", "expired", "cancelled", "dropped"];

/// The rows, by run and operation.
pub type PromiseRows = BTreeMap<(String, u32), PromiseRow>;

impl PromiseRow {
    fn of(name: &OpName, terms: &PromiseTerms, seq: Seq) -> PromiseRow {
        PromiseRow {
            name: name.as_str().to_owned(),
            seq,
            status: OPEN,
            closed_seq: None,
            record: PromiseRecord::of(terms),
        }
    }

    /// Whether it takes answers.
    pub fn is_open(&self) -> bool {
        self.status == OPEN
    }

    /// Changes the row by an event of its operation, or one that ends the operation.
    fn apply(&mut self, event: &Event, (seq, ts): (Seq, Timestamp)) {
        if self.closed_seq.is_some() {
            return;
        }
        match event {
            Event::PromiseToken { grant, .. } => self.record.granted(grant),
            Event::PromiseAnswered { answer, .. } => {
                self.record.answered(answer, (seq, ts));
                if answer.settles {
                    self.status = answer.verdict.as_str();
                }
            }
            Event::CancelRequested { .. } => self.close("cancelled", seq),
            _ => self.close("dropped", seq),
        }
    }

    fn close(&mut self, status: &'static str, seq: Seq) {
        self.closed_seq = Some(seq);
        if self.is_open() {
            self.status = status;
        }
    }
}

/// Which promises of its run an event changes.
enum Concerned {
    None,
    One(OpId),
    Some(Vec<OpId>),
    All,
}

fn concerned(event: &Event) -> Concerned {
    match event {
        Event::PromiseToken { op, .. }
        | Event::PromiseAnswered { op, .. }
        | Event::PromiseResolved { op, .. }
        | Event::PromiseRejected { op, .. }
        | Event::OpDropped { op } => Concerned::One(*op),
        Event::CancelRequested { resolves, .. } => {
            Concerned::Some(resolves.keys().copied().collect())
        }
        Event::RunCompleted { .. } | Event::RunFailed { .. } => Concerned::All,
        _ => Concerned::None,
    }
}

/// Writes what the event, just appended, changes.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub(crate) fn project(
    connection: &Connection,
    at: Appended,
    run: &RunId,
    event: &Event,
) -> Result<()> {
    let change = |op: OpId| match find(connection, run, op)? {
        Some(mut row) => {
            row.apply(event, (at.seq, at.ts));
            write(connection, run.as_str(), op.get(), &row)
        }
        None => Ok(()),
    };
    match (event, concerned(event)) {
        (Event::PromiseStarted { op, name, terms }, _) => {
            write(connection, run.as_str(), op.get(), &PromiseRow::of(name, terms, at.seq))
        }
        (_, Concerned::None) => Ok(()),
        (_, Concerned::One(op)) => change(op),
        (_, Concerned::Some(ops)) => ops.into_iter().try_for_each(change),
        (_, Concerned::All) => unclosed(connection, run)?.into_iter().try_for_each(change),
    }
}

/// Changes rows in memory as [`project`] changes stored ones.
pub(crate) fn apply(rows: &mut PromiseRows, run: &RunId, event: &Event, at: (Seq, Timestamp)) {
    let key = |op: u32| (run.as_str().to_owned(), op);
    let ops: Vec<u32> = match (event, concerned(event)) {
        (Event::PromiseStarted { op, name, terms }, _) => {
            rows.insert(key(op.get()), PromiseRow::of(name, terms, at.0));
            return;
        }
        (_, Concerned::None) => return,
        (_, Concerned::One(op)) => vec![op.get()],
        (_, Concerned::Some(ops)) => ops.into_iter().map(OpId::get).collect(),
        (_, Concerned::All) => rows.range(key(0)..=key(u32::MAX)).map(|((_, op), _)| *op).collect(),
    };
    for op in ops {
        if let Some(row) = rows.get_mut(&key(op)) {
            row.apply(event, at);
        }
    }
}

/// Writes a row.
pub(crate) fn write(connection: &Connection, run: &str, op: u32, row: &PromiseRow) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO tidemill_promises \
               (run, op, name, seq, status, closed_seq, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let record = serde_json::to_string(&row.record).expect("a record has string keys only");
    let (seq, closed) = (to_sql(row.seq), row.closed_seq.map(to_sql));
    execute(connection, sql, (run, op, &row.name, seq, row.status, closed, record))
}

/// Removes the rows of a run that leaves the file.
pub(crate) fn forget(connection: &Connection, run: &RunId) -> Result<()> {
    execute(connection, "DELETE FROM tidemill_promises WHERE run = ?1", [run.as_str()])
}

fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<()> {
    let failed = |e| sqlite("write a projection", e);
    connection.prepare_cached(sql).map_err(failed)?.execute(params).map_err(failed).map(drop)
}

const COLUMNS: &str = "run, op, name, seq, status, closed_seq, record";

fn read(row: &rusqlite::Row<'_>) -> Result<((String, u32), PromiseRow)> {
    let failed = |e| sqlite("read a promise", e);
    let key: (String, u32) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
    let corrupt = |what: &dyn std::fmt::Display| {
        Error::corrupt(format!("promise {}:{} in tidemill_promises: {what}", key.0, key.1))
    };
    let status: String = row.get(4).map_err(failed)?;
    let status = STATUSES.into_iter().find(|known| *known == status);
    let record: String = row.get(6).map_err(failed)?;
    let promise = PromiseRow {
        name: row.get(2).map_err(failed)?,
        seq: from_sql(row.get(3).map_err(failed)?).ok_or_else(|| corrupt(&"a negative seq"))?,
        status: status.ok_or_else(|| corrupt(&"an unknown status"))?,
        closed_seq: row.get::<_, Option<i64>>(5).map_err(failed)?.and_then(from_sql),
        record: serde_json::from_str(&record).map_err(|e| corrupt(&e))?,
    };
    Ok((key, promise))
}

fn list(
    connection: &Connection,
    condition: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<((String, u32), PromiseRow)>> {
    let failed = |e| sqlite("read the promises", e);
    let sql = format!("SELECT {COLUMNS} FROM tidemill_promises {condition}");
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(params).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Every row that is stored.
pub(crate) fn stored(connection: &Connection) -> Result<PromiseRows> {
    Ok(list(connection, "", [])?.into_iter().collect())
}

/// A promise of a run; `None` if that operation is none.
///
/// # Errors
/// `Corrupt` if its row is not what it has to be; otherwise what SQLite says.
pub fn find(connection: &Connection, run: &RunId, op: OpId) -> Result<Option<PromiseRow>> {
    let found = list(connection, "WHERE run = ?1 AND op = ?2", (run.as_str(), op.get()))?;
    Ok(found.into_iter().next().map(|(_, row)| row))
}

const UNCLOSED: &str = "WHERE run = ?1 AND closed_seq IS NULL";

fn unclosed(connection: &Connection, run: &RunId) -> Result<Vec<OpId>> {
    let failed = |e| sqlite("read the promises", e);
    let sql = format!("SELECT op FROM tidemill_promises {UNCLOSED}");
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let ops = statement.query_map([run.as_str()], |row| row.get::<_, u32>(0)).map_err(failed)?;
    let ops: Vec<u32> = ops.collect::<rusqlite::Result<_>>().map_err(failed)?;
    Ok(ops.into_iter().filter_map(|op| OpId::new(op).ok()).collect())
}

/// The answers that a run's promises were given after a position, in the order of the log.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn answers_after(connection: &Connection, run: &RunId, after: Seq) -> Result<Vec<Row>> {
    let failed = |e| sqlite(format_args!("read the answers to {run}"), e);
    let open = list(connection, UNCLOSED, [run.as_str()])?;
    let answers = open.iter().flat_map(|(_, row)| &row.record.answers);
    let mut seqs: Vec<Seq> = answers.map(|answer| answer.seq).filter(|seq| *seq > after).collect();
    seqs.sort_unstable();
    let sql = format!("SELECT {} FROM events WHERE seq = ?1", Row::COLUMNS);
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut found = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let row = statement.query_row([to_sql(seq)], |row| Ok(Row::read(row)));
        found.extend(row.optional().map_err(failed)?.transpose()?);
    }
    Ok(found)
}

/// Unfinished runs with a promise whose answer they have not observed, in the order of their starts.
/// Blocked and paused ones are left out: they observe it when they are resumed.
///
/// # Errors
/// As [`due::in_status`].
pub fn answered_runs(connection: &Connection, after: Seq, limit: u32) -> Result<Vec<DueRun>> {
    let sql = "SELECT seq, run, parent, parent_op FROM tidemill_runs \
               WHERE run IN (SELECT run FROM tidemill_promises INDEXED BY tidemill_promises_answered \
                             WHERE closed_seq IS NULL AND status <> 'open') \
               AND ended_seq IS NULL AND status NOT IN ('blocked', 'paused') AND seq > ?1 \
               ORDER BY seq LIMIT ?2";
    due::list(connection, sql, (to_sql(after), limit))
}

/// Which promises to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PromiseFilter {
    /// Of this run.
    pub run: Option<RunId>,
    /// Of this operation.
    pub op: Option<OpId>,
    /// Of runs of this workflow.
    pub workflow: Option<OpName>,
    /// Of this name.
    pub name: Option<OpName>,
    /// Of runs that have these labels.
    pub labels: BTreeMap<String, String>,
    /// Also those that take no answer any more.
    pub all: bool,
    /// After this position, in the order in which they began.
    pub after: Seq,
}

/// A promise; `None` if there is none of this id.
///
/// # Errors
/// As [`promises`].
pub fn promise(connection: &Connection, id: &PromiseId) -> Result<Option<PromiseView>> {
    let (run, op) = (Some(id.run.clone()), Some(id.op));
    let filter = PromiseFilter { run, op, all: true, ..PromiseFilter::default() };
    Ok(promises(connection, &filter, 1)?.pop())
}

/// Promises in the order in which they began.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn promises(
    connection: &Connection,
    filter: &PromiseFilter,
    limit: u32,
) -> Result<Vec<PromiseView>> {
    use rusqlite::types::Value;
    let failed = |e| sqlite("list promises", e);
    let mut params = vec![Value::from(to_sql(filter.after)), Value::from(i64::from(limit))];
    let mut conditions = String::new();
    let mut and = |condition: &str, value: &str| {
        params.push(Value::from(value.to_owned()));
        conditions.push_str(&condition.replace('#', &params.len().to_string()));
    };
    if let Some(run) = &filter.run {
        and(" AND p.run = ?#", run.as_str());
    }
    if let Some(op) = filter.op {
        and(" AND p.op = CAST(?# AS INTEGER)", &op.to_string());
    }
    if let Some(workflow) = &filter.workflow {
        and(" AND r.workflow = ?#", workflow.as_str());
    }
    if let Some(name) = &filter.name {
        and(" AND p.name = ?#", name.as_str());
    }
    for (name, value) in &filter.labels {
        let label = serde_json::json!([name, value]).to_string();
        and(
            " AND EXISTS (SELECT 1 FROM json_each(r.labels) l \
             WHERE l.key = ?# ->> 0 AND l.value = ?# ->> 1)",
            &label,
        );
    }
    let open = if filter.all { "" } else { " AND p.status = 'open'" };
    let sql = format!(
        "SELECT p.run, p.op, p.name, p.seq, p.status, p.closed_seq, p.record, r.workflow, r.labels \
         FROM tidemill_promises p JOIN tidemill_runs r ON r.run = p.run \
         WHERE p.seq > ?1{open}{conditions} ORDER BY p.seq LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let (key, promise) = read(row)?;
        let (workflow, labels) = (row.get(7).map_err(failed)?, row.get(8).map_err(failed)?);
        found.push(listed(connection, key, promise, (workflow, labels))?);
    }
    Ok(found)
}

/// A promise with its terms, which its first event has.
fn listed(
    connection: &Connection,
    (run, op): (String, u32),
    row: PromiseRow,
    (workflow, labels): (String, String),
) -> Result<PromiseView> {
    let corrupt = |what: &dyn std::fmt::Display| {
        Error::corrupt(format!("promise {run}:{op} in tidemill_promises: {what}"))
    };
    let failed = |e| sqlite("read what a promise asks", e);
    let sql = format!("SELECT {} FROM events WHERE seq = ?1", Row::COLUMNS);
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let began = statement.query_row([to_sql(row.seq)], |row| Ok(Row::read(row)));
    let began = began.map_err(failed)??;
    let Event::PromiseStarted { terms, op, name } = began.event().map_err(|e| corrupt(&e))? else {
        return Err(corrupt(&format!("event {} began no promise", row.seq)));
    };
    let PromiseTerms { message, schema, deadline, approval } = *terms;
    let run = RunId::new(&run).map_err(|e| corrupt(&e))?;
    Ok(PromiseView {
        id: PromiseId { run: run.clone(), op },
        run,
        op,
        name,
        workflow: OpName::new(&workflow).map_err(|e| corrupt(&e))?,
        labels: serde_json::from_str(&labels).map_err(|e| corrupt(&e))?,
        status: row.status.into(),
        message,
        schema,
        deadline,
        approval,
        started_at: began.ts,
        seq: row.seq,
        answers: row.record.answers,
    })
}
