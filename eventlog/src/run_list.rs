//! A list of runs in any order over the whole file, and what a page says about the list.
//!
//! The node's API lists runs in the order of starts, page by page through an index. A page for
//! people sorts by any column: that reads a row of every run that fits the filter, some 100 ms for
//! 100,000 runs, and only the runs of the page in full.

use rusqlite::Connection;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};
use tidemill_model::{RunId, RunStatus, RunSummary, Timestamp};

use crate::error::{Result, sqlite};
use crate::query::{self, RunFilter};

/// What runs can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RunColumn {
    /// When they were started.
    #[default]
    Started,
    /// When their newest event was written.
    Updated,
    /// When they ended; those that have not come last.
    Ended,
    /// How long they took; those that have not ended come last.
    Duration,
    /// Their status, by its name.
    Status,
    /// Their workflow, by its name.
    Workflow,
    /// Their id.
    Id,
}

/// A time of the file in microseconds. SQLite's own functions of time round to milliseconds, which
/// puts what took 0.9 ms before what took 0.8 ms.
macro_rules! micros {
    ($column:literal) => {
        concat!("(strftime('%s', ", $column, ") * 1000000 + substr(", $column, ", 21, 6))")
    };
}

impl RunColumn {
    /// All of them.
    pub const ALL: [RunColumn; 7] = [
        RunColumn::Started,
        RunColumn::Updated,
        RunColumn::Ended,
        RunColumn::Duration,
        RunColumn::Status,
        RunColumn::Workflow,
        RunColumn::Id,
    ];

    /// Its name in an address.
    pub fn as_str(self) -> &'static str {
        match self {
            RunColumn::Started => "started",
            RunColumn::Updated => "updated",
            RunColumn::Ended => "ended",
            RunColumn::Duration => "duration",
            RunColumn::Status => "status",
            RunColumn::Workflow => "workflow",
            RunColumn::Id => "id",
        }
    }

    fn expression(self) -> &'static str {
        match self {
            RunColumn::Started => "r.seq",
            RunColumn::Updated => "(SELECT max(u.seq) FROM events u WHERE u.run = r.run)",
            RunColumn::Ended => "r.ended_seq",
            RunColumn::Duration => concat!(
                "(SELECT ",
                micros!("e.ts"),
                " - ",
                micros!("r.created_at"),
                " FROM events e WHERE e.seq = r.ended_seq)"
            ),
            RunColumn::Status => "r.status",
            RunColumn::Workflow => "r.workflow",
            RunColumn::Id => "r.run",
        }
    }
}

/// An order of runs; runs that are equal in it come with the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunOrder {
    /// By what.
    pub by: RunColumn,
    /// The greatest first.
    pub descending: bool,
}

impl Default for RunOrder {
    fn default() -> RunOrder {
        RunOrder { by: RunColumn::Started, descending: true }
    }
}

/// The runs of a filter in an order, from the `offset`th on; the filter's `limit` bounds them, its
/// `after` and `bytes_max` do not count here.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn sorted(
    connection: &Connection,
    filter: &RunFilter,
    order: RunOrder,
    offset: u64,
) -> Result<Vec<RunSummary>> {
    let failed = |e| sqlite("sort runs", e);
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let mut params = vec![Value::from(i64::from(filter.limit)), Value::from(offset)];
    let conditions = query::conditions(filter, &mut params);
    let (by, way) = (order.by.expression(), if order.descending { "DESC" } else { "ASC" });
    let sql = format!(
        "SELECT r.run FROM tidemill_runs r WHERE 1{conditions} \
         ORDER BY {by} {way} NULLS LAST, r.seq DESC LIMIT ?1 OFFSET ?2"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let ids = statement.query_map(rusqlite::params_from_iter(params), |row| row.get(0));
    let ids: Vec<String> = ids.and_then(Iterator::collect).map_err(failed)?;
    let mut runs = Vec::with_capacity(ids.len());
    for id in ids {
        let id = RunId::new(&id)
            .map_err(|e| crate::Error::corrupt(format!("run `{id}` in tidemill_runs: {e}")))?;
        runs.extend(query::run(connection, &id)?);
    }
    Ok(runs)
}

/// How many runs of a list fit into a page: at most `asked`, and none after the run that reaches the
/// bound in bytes. A list that was read with one run more than that has a next page if not all fit.
pub fn fitting(runs: &[RunSummary], asked: usize, bytes_max: Option<usize>) -> usize {
    let mut bytes = 0;
    let fits = |run: &&RunSummary| {
        let fits = bytes_max.is_none_or(|max| bytes < max);
        bytes += run.bytes();
        fits
    };
    runs.iter().take(asked).take_while(fits).count()
}

/// How many runs a filter has.
///
/// # Errors
/// What SQLite says.
pub fn count(connection: &Connection, filter: &RunFilter) -> Result<u64> {
    let failed = |e| sqlite("count runs", e);
    let mut params = Vec::new();
    let conditions = query::conditions(filter, &mut params);
    let sql = format!("SELECT count(*) FROM tidemill_runs r WHERE 1{conditions}");
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let count = statement.query_row(rusqlite::params_from_iter(params), |row| row.get::<_, i64>(0));
    Ok(u64::try_from(count.map_err(failed)?).unwrap_or(0))
}

/// How long the newest runs of a filter took that have ended, in milliseconds: at most `limit` of
/// them, in no order.
///
/// # Errors
/// What SQLite says.
pub fn durations(connection: &Connection, filter: &RunFilter, limit: u32) -> Result<Vec<u64>> {
    let failed = |e| sqlite("read how long runs took", e);
    let mut params = vec![Value::from(i64::from(limit))];
    let conditions = query::conditions(filter, &mut params);
    let sql = format!(
        "SELECT ({} - {}) / 1000 \
         FROM (SELECT r.created_at, r.ended_seq FROM tidemill_runs r \
               WHERE r.ended_seq IS NOT NULL{conditions} ORDER BY r.seq DESC LIMIT ?1) x \
         JOIN events e ON e.seq = x.ended_seq",
        micros!("e.ts"),
        micros!("x.created_at")
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let rows = statement.query_map(rusqlite::params_from_iter(params), read);
    let rows: Vec<i64> = rows.and_then(Iterator::collect).map_err(failed)?;
    Ok(rows.into_iter().map(|ms| u64::try_from(ms).unwrap_or(0)).collect())
}

/// The workflows of the file by name, each with its number of runs: at most `limit` of them.
///
/// # Errors
/// What SQLite says.
pub fn workflows(connection: &Connection, limit: u32) -> Result<Vec<(String, u64)>> {
    let failed = |e| sqlite("list workflows", e);
    let sql = "SELECT workflow, count(*) FROM tidemill_runs GROUP BY workflow LIMIT ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?));
    let rows = statement.query_map([limit], read);
    let rows: Vec<(String, i64)> = rows.and_then(Iterator::collect).map_err(failed)?;
    Ok(rows.into_iter().map(|(name, n)| (name, u64::try_from(n).unwrap_or(0))).collect())
}

/// Runs that were started in one stretch of time, by their status now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedIn {
    /// The beginning of the stretch.
    pub from: Timestamp,
    /// Their status.
    pub status: RunStatus,
    /// How many.
    pub runs: u64,
}

/// The length of a stretch of time that runs are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stretch {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Stretch {
    /// Its length in seconds.
    pub fn seconds(self) -> i64 {
        match self {
            Stretch::Minute => 60,
            Stretch::Hour => 3_600,
            Stretch::Day => 86_400,
        }
    }

    /// How much of a time's text names the stretch, and what makes a time of that again.
    fn text(self) -> (usize, &'static str) {
        match self {
            Stretch::Minute => (16, ":00.000000Z"),
            Stretch::Hour => (13, ":00:00.000000Z"),
            Stretch::Day => (10, "T00:00:00.000000Z"),
        }
    }
}

/// When the first and the last run of a filter were started; `None` without runs.
///
/// # Errors
/// `Corrupt` if a time is none; otherwise what SQLite says.
pub fn span(connection: &Connection, filter: &RunFilter) -> Result<Option<(Timestamp, Timestamp)>> {
    let failed = |e| sqlite("find when runs were started", e);
    let mut params = Vec::new();
    let conditions = query::conditions(filter, &mut params);
    let sql = format!(
        "SELECT min(r.created_at), max(r.created_at) FROM tidemill_runs r WHERE 1{conditions}"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found: (Option<String>, Option<String>) =
        statement.query_row(rusqlite::params_from_iter(params), read).map_err(failed)?;
    let (Some(first), Some(last)) = found else { return Ok(None) };
    Ok(Some((time(&first)?, time(&last)?)))
}

/// How many runs of a filter were started in each stretch of time, by status.
///
/// # Errors
/// As [`span`].
pub fn started_in(
    connection: &Connection,
    filter: &RunFilter,
    stretch: Stretch,
) -> Result<Vec<StartedIn>> {
    let failed = |e| sqlite("count runs by time", e);
    let mut params = Vec::new();
    let conditions = query::conditions(filter, &mut params);
    let (chars, rest) = stretch.text();
    let sql = format!(
        "SELECT substr(r.created_at, 1, {chars}) AS stretch, r.status, count(*) \
         FROM tidemill_runs r WHERE 1{conditions} GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let (from, status): (String, String) =
            (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        // A status of a newer version is not counted.
        let Ok(status) = status.parse() else { continue };
        let runs = u64::try_from(row.get::<_, i64>(2).map_err(failed)?).unwrap_or(0);
        found.push(StartedIn { from: time(&format!("{from}{rest}"))?, status, runs });
    }
    Ok(found)
}

fn time(text: &str) -> Result<Timestamp> {
    text.parse().map_err(|e| crate::Error::corrupt(format!("created_at `{text}`: {e}")))
}
