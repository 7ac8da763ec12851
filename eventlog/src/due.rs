//! Which runs have something to do, found by index: what a process takes up when it opens the file.
//! All others wait in the file, however many there are.
//!
//! | | found by |
//! |---|---|
//! | a run that was running or never begun; a blocked one | its status |
//! | a run whose child has ended, which it has not observed | `tidemill_runs_unobserved` |
//! | a child whose parent does not wait for it | `tidemill_runs_unwanted` |
//! | a run that keeps signals | `tidemill_signals_kept` ([`crate::signals`]) |
//! | a run with a timer that has run out | `tidemill_timers_by_time` |
//! | a run whose deadline has passed | `tidemill_runs_by_deadline` |

use rusqlite::{Connection, Params};
use tidemill_model::{OpId, Parent, RunId, RunStatus, Seq, Timestamp};

use crate::codec::{from_sql, to_sql};
use crate::error::{Error, Result, sqlite};

/// A run that has something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun {
    /// Where the list continues after this run.
    pub at: Seq,
    /// The run.
    pub run: RunId,
    /// The parent that started it as a child; `None` if it is no child.
    pub parent: Option<Parent>,
}

/// The runs of one status after a position, in the order of their starts.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn in_status(
    connection: &Connection,
    status: RunStatus,
    after: Seq,
    limit: u32,
) -> Result<Vec<DueRun>> {
    let sql = "SELECT seq, run, parent, parent_op FROM tidemill_runs \
               WHERE status = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    list(connection, sql, (status.as_str(), to_sql(after), limit))
}

/// Children that have not ended and whose parent does not wait: it has dropped them or ended.
///
/// # Errors
/// As [`in_status`].
pub fn unwanted(connection: &Connection, after: Seq, limit: u32) -> Result<Vec<DueRun>> {
    let sql = "SELECT seq, run, parent, parent_op FROM tidemill_runs \
               WHERE awaited = 0 AND ended_seq IS NULL AND parent IS NOT NULL AND seq > ?1 \
               ORDER BY seq LIMIT ?2";
    list(connection, sql, (to_sql(after), limit))
}

/// A run and its descendants; empty if the file does not have the run.
///
/// # Errors
/// As [`in_status`].
pub fn family(connection: &Connection, run: &RunId) -> Result<Vec<RunId>> {
    let failed = |e| sqlite(format_args!("list what {run} started"), e);
    let sql = "WITH RECURSIVE family (run) AS (\
                 SELECT run FROM tidemill_runs WHERE run = ?1 \
                 UNION SELECT r.run FROM family f JOIN tidemill_runs r ON r.parent = f.run) \
               SELECT run FROM family";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query([run.as_str()]).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let id: String = row.get(0).map_err(failed)?;
        let corrupt = |e| Error::corrupt(format!("run `{id}` in tidemill_runs: {e}"));
        found.push(RunId::new(&id).map_err(corrupt)?);
    }
    Ok(found)
}

/// Whether a run is a child for which nobody waits.
///
/// # Errors
/// What SQLite says.
pub fn is_unwanted(connection: &Connection, run: &RunId) -> Result<bool> {
    let failed = |e| sqlite(format_args!("find out who waits for {run}"), e);
    let sql = "SELECT 1 FROM tidemill_runs WHERE run = ?1 AND parent IS NOT NULL AND awaited = 0";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement.exists([run.as_str()]).map_err(failed)
}

/// Runs one of whose children has ended, which they have not observed: one entry for each child,
/// at the child's position.
///
/// # Errors
/// As [`in_status`].
pub fn with_unobserved_child(
    connection: &Connection,
    after: Seq,
    limit: u32,
) -> Result<Vec<DueRun>> {
    let sql = "SELECT c.seq, p.run, p.parent, p.parent_op FROM tidemill_runs c \
               JOIN tidemill_runs p ON p.run = c.parent \
               WHERE c.awaited = 1 AND c.ended_seq IS NOT NULL AND c.seq > ?1 \
               ORDER BY c.seq LIMIT ?2";
    list(connection, sql, (to_sql(after), limit))
}

/// A child that its parent waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingChild {
    /// By which operation.
    pub op: OpId,
    /// The child.
    pub run: RunId,
    /// Whether it has ended, which the parent has not observed.
    pub has_ended: bool,
}

/// The children that a run waits for, in the order of their operations.
///
/// # Errors
/// As [`in_status`].
pub fn awaited_children(connection: &Connection, parent: &RunId) -> Result<Vec<WaitingChild>> {
    let failed = |e| sqlite(format_args!("list the children of {parent}"), e);
    let sql = "SELECT parent_op, run, ended_seq IS NOT NULL FROM tidemill_runs \
               WHERE parent = ?1 AND awaited = 1 ORDER BY parent_op";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query([parent.as_str()]).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let corrupt =
            |e| Error::corrupt(format!("a child of `{parent}` in tidemill_runs has an {e}"));
        found.push(WaitingChild {
            op: OpId::new(row.get(0).map_err(failed)?).map_err(corrupt)?,
            run: RunId::new(&row.get::<_, String>(1).map_err(failed)?).map_err(corrupt)?,
            has_ended: row.get(2).map_err(failed)?,
        });
    }
    Ok(found)
}

pub(crate) fn list(connection: &Connection, sql: &str, params: impl Params) -> Result<Vec<DueRun>> {
    let failed = |e| sqlite("list the runs that have something to do", e);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(params).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let run: String = row.get(1).map_err(failed)?;
        let corrupt = |what: &dyn std::fmt::Display| {
            Error::corrupt(format!("run `{run}` in tidemill_runs is unreadable: {what}"))
        };
        let parent = row.get::<_, Option<String>>(2).map_err(failed)?;
        let parent = parent.map(|run| RunId::new(&run)).transpose().map_err(|e| corrupt(&e))?;
        let op = row.get::<_, Option<u32>>(3).map_err(failed)?.map(OpId::new).transpose();
        let at = from_sql(row.get(0).map_err(failed)?);
        found.push(DueRun {
            at: at.ok_or_else(|| corrupt(&"its seq is negative"))?,
            run: RunId::new(&run).map_err(|e| corrupt(&e))?,
            parent: parent.zip(op.map_err(|e| corrupt(&e))?).map(|(run, op)| Parent { run, op }),
        });
    }
    Ok(found)
}

/// A run that is cancelled at a moment if it has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDeadline {
    /// The moment.
    pub at: Timestamp,
    /// The position of its start: with the moment, where the list continues after this run.
    pub seq: Seq,
    /// The run.
    pub run: RunId,
}

/// The next deadlines of runs that have neither ended nor been asked to, after a place in the order of
/// their moments. Those of parked runs are left out: only a person lets a parked run do anything.
///
/// # Errors
/// As [`in_status`].
pub fn deadlines(
    connection: &Connection,
    after: Option<&RunDeadline>,
    limit: u32,
) -> Result<Vec<RunDeadline>> {
    let failed = |e| sqlite("read the deadlines of runs", e);
    let sql = "SELECT deadline, seq, run FROM tidemill_runs INDEXED BY tidemill_runs_by_deadline \
               WHERE deadline IS NOT NULL AND ended_seq IS NULL AND cancel_seq IS NULL \
               AND (deadline, seq) > (?1, ?2) \
               AND NOT EXISTS (SELECT 1 FROM events b WHERE b.seq = blocked_seq \
                 AND b.data ->> '$.reason.kind' = 'parked') \
               ORDER BY deadline, seq LIMIT ?3";
    let (at, seq) = after.map_or_else(Default::default, |it| (it.at.to_string(), to_sql(it.seq)));
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query((at, seq, limit)).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let (at, run): (String, String) =
            (row.get(0).map_err(failed)?, row.get(2).map_err(failed)?);
        let corrupt = |what: &dyn std::fmt::Display| {
            Error::corrupt(format!("the deadline of run `{run}` is unreadable: {what}"))
        };
        found.push(RunDeadline {
            at: at.parse().map_err(|e| corrupt(&e))?,
            seq: from_sql(row.get(1).map_err(failed)?)
                .ok_or_else(|| corrupt(&"its seq is negative"))?,
            run: RunId::new(&run).map_err(|e| corrupt(&e))?,
        });
    }
    Ok(found)
}

/// A timer that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingTimer {
    /// Its run.
    pub run: RunId,
    /// Its operation.
    pub op: OpId,
    /// When it fires.
    pub fire_at: Timestamp,
}

impl WaitingTimer {
    /// Where a list of timers continues after this one.
    pub fn place(&self) -> (Timestamp, RunId, OpId) {
        (self.fire_at, self.run.clone(), self.op)
    }
}

/// The next timers in the order of their moments, after a place in that order. Those of blocked
/// and paused runs are left out: they fire when the run is resumed.
///
/// # Errors
/// As [`in_status`].
pub fn timers(
    connection: &Connection,
    after: Option<&(Timestamp, RunId, OpId)>,
    limit: u32,
) -> Result<Vec<WaitingTimer>> {
    let failed = |e| sqlite("read timers", e);
    let sql = "SELECT run, op, fire_at FROM tidemill_timers \
               WHERE (fire_at, run, op) > (?1, ?2, ?3) \
               AND NOT EXISTS (SELECT 1 FROM tidemill_runs r \
                 WHERE r.run = tidemill_timers.run AND r.status IN ('blocked', 'paused')) \
               ORDER BY fire_at, run, op LIMIT ?4";
    let (at, run, op) = match after {
        Some((at, run, op)) => (at.to_string(), run.as_str(), op.get()),
        None => (String::new(), "", 0),
    };
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query((at, run, op, limit)).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let run: String = row.get(0).map_err(failed)?;
        let op: u32 = row.get(1).map_err(failed)?;
        let fire_at: String = row.get(2).map_err(failed)?;
        let corrupt = |e: tidemill_model::Invalid| {
            Error::corrupt(format!("timer {op} of run `{run}` has an {e}"))
        };
        found.push(WaitingTimer {
            run: RunId::new(&run).map_err(corrupt)?,
            op: OpId::new(op).map_err(corrupt)?,
            fire_at: fire_at.parse().map_err(corrupt)?,
        });
    }
    Ok(found)
}
