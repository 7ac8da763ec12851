//! Reading runs and events: what the node's HTTP API and the observer have in common.
//!
//! Every list has a bound and a cursor. Rows of a kind that this version does not know are listed
//! like others; only folding a run needs to understand them all.

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _};
use tidemill_model::{
    BlockReason, Event, Failure, Json, OpId, OpName, Parent, RunCounts, RunId, RunStatus,
    RunSummary, RunTerms, Seq, Timestamp, took_ms,
};

use crate::codec::{Row, from_sql, to_sql};
use crate::error::{Error, Result, sqlite};
use crate::fold_run::folded;
pub use crate::fold_run::{run_state, run_state_with};
use crate::process::Process;

/// Which runs to list; the newest come first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only those of this status.
    pub status: Option<RunStatus>,
    /// Only those of this workflow.
    pub workflow: Option<OpName>,
    /// Only those that have each of these labels: names and values.
    pub labels: Vec<(String, String)>,
    /// Only those whose id has this text in it.
    pub id_part: Option<String>,
    /// Only those that were started before the run with this `seq`: the last of a list, to continue
    /// it.
    pub after: Option<Seq>,
    /// How many at most.
    pub limit: u32,
    /// The list ends one run after the run that reaches this many bytes; `None` for no bound in
    /// bytes.
    pub bytes_max: Option<usize>,
}

const SUMMARY: &str = "SELECT r.run, r.workflow, r.status, r.created_at, \
     (SELECT u.ts FROM events u WHERE u.run = r.run ORDER BY u.seq DESC LIMIT 1), \
     (SELECT e.ts FROM events e WHERE e.seq = r.ended_seq), \
     r.parent, r.parent_op, r.labels, r.seq, \
     (SELECT c.data -> '$.value' FROM events c WHERE c.seq = r.custom_status_seq), \
     CASE WHEN r.status IN ('failed', 'cancelled') \
       THEN (SELECT f.data -> '$.error' FROM events f WHERE f.seq = r.ended_seq) END, \
     CASE r.status WHEN 'blocked' \
       THEN (SELECT b.data -> '$.reason' FROM events b WHERE b.seq = r.blocked_seq) END \
     FROM tidemill_runs r";

/// Lists runs, the newest first, through an index for each kind of filter.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn runs(connection: &Connection, filter: &RunFilter) -> Result<Vec<RunSummary>> {
    let failed = |e| sqlite("list runs", e);
    let before = filter.after.map_or(i64::MAX, to_sql);
    let mut params = vec![Value::from(before), Value::from(i64::from(filter.limit))];
    let conditions = conditions(filter, &mut params);
    let sql = format!("{SUMMARY} WHERE r.seq < ?1{conditions} ORDER BY r.seq DESC LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(failed)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(failed)? {
        let is_last = filter.bytes_max.is_some_and(|max| bytes >= max);
        let run = summary(row)?;
        bytes += run.bytes();
        found.push(run);
        if is_last {
            break;
        }
    }
    Ok(found)
}

/// What a filter asks of a row `r` of `tidemill_runs`, each part with ` AND ` before it. Adds the
/// values to the parameters.
pub(crate) fn conditions(filter: &RunFilter, params: &mut Vec<Value>) -> String {
    let mut sql = String::new();
    let mut one = |condition: &str, value: Value| {
        params.push(value);
        sql.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", params.len()))));
    };
    if let Some(status) = filter.status {
        one("r.status = ?", status.as_str().to_owned().into());
    }
    if let Some(workflow) = &filter.workflow {
        one("r.workflow = ?", workflow.as_str().to_owned().into());
    }
    if let Some(part) = &filter.id_part {
        one("instr(r.run, ?) > 0", part.clone().into());
    }
    for (name, value) in &filter.labels {
        params.extend([name.clone().into(), value.clone().into()]);
        let (name, value) = (params.len() - 1, params.len());
        sql.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM json_each(r.labels) l \
             WHERE l.key = ?{name} AND l.value = ?{value})"
        ));
    }
    sql
}

/// One run as a list shows it; `None` if there is no such run.
///
/// # Errors
/// As [`runs`].
pub fn run(connection: &Connection, run: &RunId) -> Result<Option<RunSummary>> {
    let failed = |e| sqlite(format_args!("find run {run}"), e);
    let sql = format!("{SUMMARY} WHERE r.run = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query([run.as_str()]).map_err(failed)?;
    rows.next().map_err(failed)?.map(summary).transpose()
}

/// How many runs there are of each status, from an index: some 10 ms for 100,000 runs.
///
/// # Errors
/// What SQLite says.
pub fn counts(connection: &Connection) -> Result<RunCounts> {
    let failed = |e| sqlite("count runs", e);
    let mut counts: RunCounts = RunStatus::ALL.map(|status| (status, 0)).into();
    let sql = "SELECT status, count(*) FROM tidemill_runs GROUP BY status";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let status: String = row.get(0).map_err(failed)?;
        let count: i64 = row.get(1).map_err(failed)?;
        // A status of a newer version is not counted.
        if let Ok(status) = status.parse() {
            counts.insert(status, u64::try_from(count).unwrap_or(0));
        }
    }
    Ok(counts)
}

/// How many blocked runs [`oldest_blocked`] looks at: as many again cost a millisecond or two.
const BLOCKED_LOOKED_AT_MAX: u32 = 1_000;

/// The run that has been blocked for the longest time, of the first 1,000 blocked runs by their
/// start: with its time and, if this version can read it, the reason. `None` if no run is blocked.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn oldest_blocked(
    connection: &Connection,
) -> Result<Option<(RunId, Timestamp, Option<BlockReason>)>> {
    let failed = |e| sqlite("look for blocked runs", e);
    let sql = format!(
        "SELECT r.run, b.ts, b.data -> '$.reason' \
         FROM (SELECT run, blocked_seq FROM tidemill_runs \
               WHERE status = 'blocked' ORDER BY seq LIMIT {BLOCKED_LOOKED_AT_MAX}) r \
         JOIN events b ON b.seq = r.blocked_seq ORDER BY b.seq LIMIT 1"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let row = statement
        .query_row([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Option<String>>(2)?,
            ))
        })
        .optional()
        .map_err(failed)?;
    let Some((run, since, reason)) = row else { return Ok(None) };
    let corrupt = |what: &dyn std::fmt::Display| {
        Error::corrupt(format!("the blocked run `{run}` is unreadable: {what}"))
    };
    let id = RunId::new(&run).map_err(|e| corrupt(&e))?;
    let since = since.parse().map_err(|e| corrupt(&e))?;
    Ok(Some((id, since, reason.and_then(|reason| serde_json::from_str(&reason).ok()))))
}

/// Why a run is blocked, as the file says; `None` if it is not, or if this version cannot read why.
///
/// # Errors
/// What SQLite says.
pub fn block_reason(connection: &Connection, run: &RunId) -> Result<Option<BlockReason>> {
    let failed = |e| sqlite(format_args!("read why {run} is blocked"), e);
    let sql = "SELECT b.data -> '$.reason' FROM tidemill_runs r \
               JOIN events b ON b.seq = r.blocked_seq WHERE r.run = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let reason = statement.query_row([run.as_str()], |row| row.get::<_, Option<String>>(0));
    let reason = reason.optional().map_err(failed)?.flatten();
    Ok(reason.and_then(|reason| serde_json::from_str(&reason).ok()))
}

fn summary(row: &rusqlite::Row<'_>) -> Result<RunSummary> {
    let failed = |e| sqlite("read a run", e);
    let text = |at: usize| row.get::<_, String>(at).map_err(failed);
    let optional = |at: usize| row.get::<_, Option<String>>(at).map_err(failed);
    let id = text(0)?;
    let corrupt = |what: &dyn std::fmt::Display| {
        Error::corrupt(format!("run `{id}` in tidemill_runs is unreadable: {what}"))
    };
    let created_at: Timestamp = text(3)?.parse().map_err(|e| corrupt(&e))?;
    let parent = optional(6)?.map(|run| RunId::new(&run)).transpose().map_err(|e| corrupt(&e))?;
    let op = row.get::<_, Option<u32>>(7).map_err(failed)?.map(OpId::new).transpose();
    let ended_at = optional(5)?.map(|ts| ts.parse()).transpose().map_err(|e| corrupt(&e))?;
    Ok(RunSummary {
        id: RunId::new(&id).map_err(|e| corrupt(&e))?,
        workflow: OpName::new(&text(1)?).map_err(|e| corrupt(&e))?,
        status: text(2)?.parse().map_err(|e| corrupt(&e))?,
        created_at,
        updated_at: match optional(4)? {
            Some(ts) => ts.parse().map_err(|e| corrupt(&e))?,
            None => created_at,
        },
        ended_at,
        duration_ms: took_ms(created_at, ended_at),
        parent: parent.zip(op.map_err(|e| corrupt(&e))?).map(|(run, op)| Parent { run, op }),
        labels: serde_json::from_str(&text(8)?).map_err(|e| corrupt(&e))?,
        seq: from_sql(row.get(9).map_err(failed)?)
            .ok_or_else(|| corrupt(&"its seq is negative"))?,
        activity: None,
        waits_for: None,
        // A newer version may say it in another shape, which is no reason to show no list.
        error: optional(11)?
            .and_then(|error| serde_json::from_str(&error).ok())
            .map(Failure::listed),
        blocked: optional(12)?
            .and_then(|reason| serde_json::from_str(&reason).ok())
            .map(BlockReason::listed),
        custom_status: optional(10)?
            .map(|json| Json::parse(&json))
            .transpose()
            .map_err(|e| corrupt(&e))?,
    })
}

/// Events after a position, in order: those of one run, or of the whole file.
///
/// # Errors
/// `Corrupt` if a row is not what its columns say; otherwise what SQLite says.
pub fn events(
    connection: &Connection,
    run: Option<&RunId>,
    after: Seq,
    limit: u32,
) -> Result<Vec<Row>> {
    let mut found = Vec::new();
    for_each_event(connection, run, after, limit, |row| {
        found.push(row);
        Ok(())
    })?;
    Ok(found)
}

/// What a run was given that another run's operation started; nothing if something else started the run
/// of that id, or if it is not in the file.
///
/// # Errors
/// As [`events`].
pub fn terms(connection: &Connection, run: &RunId, op: OpId) -> Result<RunTerms> {
    let first = events(connection, Some(run), Seq::ZERO, 1)?;
    let Some(Ok(Event::RunCreated(created))) = first.first().map(Row::event) else {
        return Ok(RunTerms::default());
    };
    let started_by = created.parent.as_ref().or(created.spawned_by.as_ref());
    Ok(match started_by.is_some_and(|by| by.op == op) {
        true => RunTerms { labels: created.labels, within_ms: created.within_ms },
        false => RunTerms::default(),
    })
}

/// A page of the events of a run after a position, in order, and whether there are more: at most
/// `limit`, and none after the one with which they carry `bytes_max`.
///
/// # Errors
/// As [`events`].
pub fn events_page(
    connection: &Connection,
    run: &RunId,
    after: Seq,
    limit: u32,
    bytes_max: usize,
) -> Result<(Vec<Row>, bool)> {
    let (mut page, mut bytes, mut more) = (Vec::new(), 0, false);
    // One run more than asked for shows whether there is a next page.
    walk_events(connection, Some(run), after, limit.saturating_add(1), |row| {
        more = bytes >= bytes_max || u32::try_from(page.len()).is_ok_and(|found| found >= limit);
        if more {
            return Ok(ControlFlow::Break(()));
        }
        bytes += row.data.as_ref().map_or(0, String::len);
        page.push(row);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((page, more))
}

/// As [`events`], one row at a time, so that a long history is never in memory as a whole.
///
/// # Errors
/// As [`events`], and what `each` returns.
pub fn for_each_event(
    connection: &Connection,
    run: Option<&RunId>,
    after: Seq,
    limit: u32,
    mut each: impl FnMut(Row) -> Result<()>,
) -> Result<()> {
    walk_events(connection, run, after, limit, |row| each(row).map(ControlFlow::Continue))
}

/// As [`for_each_event`], until `each` breaks off.
///
/// # Errors
/// As there.
pub fn walk_events(
    connection: &Connection,
    run: Option<&RunId>,
    after: Seq,
    limit: u32,
    mut each: impl FnMut(Row) -> Result<ControlFlow<()>>,
) -> Result<()> {
    walk_rows(connection, run, (after, limit), |row| each(Row::read(row)?))
}

/// As [`walk_events`], with the rows as SQLite has them: [`Row::COLUMNS`].
pub(crate) fn walk_rows(
    connection: &Connection,
    run: Option<&RunId>,
    (after, limit): (Seq, u32),
    mut each: impl FnMut(&rusqlite::Row<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let failed = |e| sqlite("read events", e);
    let condition = if run.is_some() { "run = ?3 AND " } else { "?3 IS NULL AND " };
    let columns = Row::COLUMNS;
    let sql =
        format!("SELECT {columns} FROM events WHERE {condition}seq > ?1 ORDER BY seq LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows =
        statement.query((to_sql(after), limit, run.map(RunId::as_str))).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if each(row)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// How many events a list reads to say what its runs do: some 50 ms of reading at most.
const ACTIVITY_EVENTS_MAX: u32 = 10_000;

/// Finds out what the runs of a list do that have open steps, the first ones first, until a bound
/// of events is reached: a run with a longer history is listed without, and shown by itself with.
///
/// # Errors
/// What SQLite says. A run that cannot be folded is listed without.
pub fn add_activity(connection: &Connection, runs: &mut [RunSummary]) -> Result<()> {
    let process = Process::read(connection)?;
    let mut left = ACTIVITY_EVENTS_MAX;
    for run in runs.iter_mut().filter(|run| !run.status.is_final()) {
        let events = count_events(connection, &run.id, left)?;
        let Some(rest) = left.checked_sub(events).filter(|rest| *rest > 0) else {
            // Counting has its price, too: about a tenth of reading.
            left -= left / 10;
            continue;
        };
        left = rest;
        // An event of a newer version is no reason to show no list.
        let Ok(Some(mut state)) = folded(connection, &run.id, None, |_| {}) else { continue };
        if let Some(process) = &process {
            state.cut_off(|seq| process.end_of(seq, None));
        }
        run.activity = Some(state.activity()).filter(|activity| activity.open() > 0);
    }
    Ok(())
}

/// How many events a run has, or `max` if it has at least that many.
///
/// # Errors
/// What SQLite says.
pub fn count_events(connection: &Connection, run: &RunId, max: u32) -> Result<u32> {
    let failed = |e| sqlite(format_args!("count the events of {run}"), e);
    let sql = "SELECT count(*) FROM (SELECT 1 FROM events WHERE run = ?1 LIMIT ?2)";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement.query_row((run.as_str(), max), |row| row.get(0)).map_err(failed)
}

/// How many events a run has up to a position.
///
/// # Errors
/// What SQLite says.
pub fn event_number(connection: &Connection, run: &RunId, upto: Seq) -> Result<u64> {
    let failed = |e| sqlite(format_args!("count the events of {run}"), e);
    let sql = "SELECT count(*) FROM events WHERE run = ?1 AND seq <= ?2";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let found = statement.query_row((run.as_str(), to_sql(upto)), |row| row.get::<_, i64>(0));
    Ok(u64::try_from(found.map_err(failed)?).unwrap_or(0))
}

/// The position of the `number`th event of a run, from 1; `None` if it has fewer.
///
/// # Errors
/// What SQLite says.
pub fn nth_event(connection: &Connection, run: &RunId, number: u64) -> Result<Option<Seq>> {
    let failed = |e| sqlite(format_args!("find an event of {run}"), e);
    let Some(offset) = number.checked_sub(1) else { return Ok(None) };
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let sql = "SELECT seq FROM events WHERE run = ?1 ORDER BY seq LIMIT 1 OFFSET ?2";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let found = statement.query_row((run.as_str(), offset), |row| row.get::<_, i64>(0));
    Ok(found.optional().map_err(failed)?.and_then(from_sql))
}

/// Whether events of a kind are inputs or acts, not asides. A kind of a newer version may be
/// either, and counts.
pub fn is_observed(kind: &str) -> bool {
    use tidemill_model::{EventClass, EventKind};
    EventKind::from_text(kind).is_none_or(|kind| kind.class() != EventClass::Aside)
}

/// The seq of the newest input or act of a run, read by index: what the writer compares a turn
/// with. `None` if the run has none.
///
/// # Errors
/// What SQLite says.
pub fn last_observed(connection: &Connection, run: &RunId) -> Result<Option<Seq>> {
    let failed = |e| sqlite(format_args!("find the newest event of {run}"), e);
    let sql = "SELECT seq, kind FROM events WHERE run = ?1 ORDER BY seq DESC";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query([run.as_str()]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let kind: String = row.get(1).map_err(failed)?;
        if is_observed(&kind) {
            return Ok(from_sql(row.get(0).map_err(failed)?));
        }
    }
    Ok(None)
}

/// Whether there is any event at all after a position: whether the file moved on.
///
/// # Errors
/// What SQLite says.
pub fn has_events_after(connection: &Connection, seq: Seq) -> Result<bool> {
    let failed = |e| sqlite("look for new events", e);
    let sql = "SELECT 1 FROM events WHERE seq > ?1 LIMIT 1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let found = statement.query_row([to_sql(seq)], |_| Ok(())).optional().map_err(failed)?;
    Ok(found.is_some())
}
