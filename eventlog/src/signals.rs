//! The table `tidemill_signals`: which signals each run was sent, and which its code has taken.
//!
//! It follows from the events, as every projection does ([`crate::projection`]). The writer asks it
//! for the number of a run's next signal, whether a key was used, and whether the run has room for
//! one more; a process that opens the file, which runs keep signals.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_model::{Event, OpId, RunId, Seq, Signal};

use crate::codec::{Row, from_sql, to_sql};
use crate::due::{self, DueRun};
use crate::error::{Result, sqlite};

/// A row of `tidemill_signals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalRow {
    /// The signal's name.
    pub name: String,
    /// Its `signal_received`.
    pub seq: Seq,
    /// The sender's word for this one signal.
    pub key: Option<String>,
    /// How many bytes its value has.
    pub bytes: u64,
    /// The operation that has it.
    pub op: Option<u32>,
    /// Its `signal_taken`.
    pub taken_seq: Option<Seq>,
}

impl SignalRow {
    fn of(signal: &Signal, seq: Seq) -> SignalRow {
        SignalRow {
            name: signal.name.as_str().to_owned(),
            seq,
            key: signal.key.clone(),
            bytes: u64::try_from(signal.value.as_str().len()).unwrap_or(u64::MAX),
            op: None,
            taken_seq: None,
        }
    }
}

const TAKE: &str = "UPDATE tidemill_signals INDEXED BY tidemill_signals_kept SET taken_seq = ?3 \
     WHERE run = ?1 AND taken_seq IS NULL AND op = ?2";

const GIVE_BACK: &str = "UPDATE tidemill_signals INDEXED BY tidemill_signals_kept SET op = NULL \
     WHERE run = ?1 AND taken_seq IS NULL AND op = ?2";

/// Beside the count of what is kept, the newest number.
const COUNT: &str = "SELECT \
     coalesce((SELECT max(number) FROM tidemill_signals WHERE run = ?1), 0), \
     count(*), coalesce(sum(bytes), 0) \
     FROM tidemill_signals INDEXED BY tidemill_signals_kept \
     WHERE run = ?1 AND taken_seq IS NULL";

/// What must not look at the signals that were taken.
#[cfg(test)]
pub(crate) const OF_KEPT: [&str; 3] = [TAKE, GIVE_BACK, COUNT];

/// The rows, by run and number.
pub type SignalRows = BTreeMap<(String, u32), SignalRow>;

/// The rows that the events say, and which operation has which signal.
#[derive(Default)]
pub(crate) struct SignalFold {
    pub(crate) rows: SignalRows,
    given: BTreeMap<(RunId, OpId), u32>,
}

/// Writes what the event, just appended at `seq`, changes.
///
/// # Errors
/// What SQLite says.
pub(crate) fn project(connection: &Connection, seq: Seq, run: &RunId, event: &Event) -> Result<()> {
    match event {
        Event::SignalReceived(signal) => {
            let row = SignalRow::of(signal, seq);
            write(connection, run.as_str(), signal.number, &row)
        }
        Event::SignalDelivered { op, number, .. } => {
            let sql = "UPDATE tidemill_signals SET op = ?3 WHERE run = ?1 AND number = ?2";
            execute(connection, sql, (run.as_str(), number, op.get()))
        }
        Event::SignalTaken { op, .. } => {
            execute(connection, TAKE, (run.as_str(), op.get(), to_sql(seq)))
        }
        Event::OpDropped { op } => give_back(connection, run, *op),
        Event::CancelRequested { resolves, .. } => {
            resolves.keys().try_for_each(|op| give_back(connection, run, *op))
        }
        _ => Ok(()),
    }
}

fn give_back(connection: &Connection, run: &RunId, op: OpId) -> Result<()> {
    execute(connection, GIVE_BACK, (run.as_str(), op.get()))
}

impl SignalFold {
    /// The same as [`project`] does, for rows in memory.
    pub(crate) fn apply(&mut self, seq: Seq, run: &RunId, event: &Event) {
        match event {
            Event::SignalReceived(signal) => {
                let key = (run.as_str().to_owned(), signal.number);
                self.rows.insert(key, SignalRow::of(signal, seq));
            }
            Event::SignalDelivered { op, number, .. } => {
                self.given.insert((run.clone(), *op), *number);
                self.change(run, *number, |row| row.op = Some(op.get()));
            }
            Event::SignalTaken { op, .. } => {
                if let Some(number) = self.given.remove(&(run.clone(), *op)) {
                    self.change(run, number, |row| row.taken_seq = Some(seq));
                }
            }
            Event::OpDropped { op } => self.give_back(run, *op),
            Event::CancelRequested { resolves, .. } => {
                resolves.keys().for_each(|op| self.give_back(run, *op));
            }
            _ => {}
        }
    }

    fn give_back(&mut self, run: &RunId, op: OpId) {
        if let Some(number) = self.given.remove(&(run.clone(), op)) {
            self.change(run, number, |row| row.op = None);
        }
    }

    fn change(&mut self, run: &RunId, number: u32, change: impl FnOnce(&mut SignalRow)) {
        if let Some(row) = self.rows.get_mut(&(run.as_str().to_owned(), number)) {
            change(row);
        }
    }
}

/// Writes a row that is not there yet.
pub(crate) fn write(
    connection: &Connection,
    run: &str,
    number: u32,
    row: &SignalRow,
) -> Result<()> {
    let sql = "INSERT INTO tidemill_signals (run, number, name, seq, key, bytes, op, taken_seq) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let bytes = i64::try_from(row.bytes).unwrap_or(i64::MAX);
    let (seq, taken) = (to_sql(row.seq), row.taken_seq.map(to_sql));
    execute(connection, sql, (run, number, &row.name, seq, &row.key, bytes, row.op, taken))
}

/// Removes the rows of a run that leaves the file.
pub(crate) fn forget(connection: &Connection, run: &RunId) -> Result<()> {
    execute(connection, "DELETE FROM tidemill_signals WHERE run = ?1", [run.as_str()])
}

fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<()> {
    let failed = |e| sqlite("write a projection", e);
    connection.prepare_cached(sql).map_err(failed)?.execute(params).map_err(failed).map(drop)
}

/// Every row that is stored.
pub(crate) fn stored(connection: &Connection) -> Result<SignalRows> {
    let failed = |e| sqlite("read the signals", e);
    let sql = "SELECT run, number, name, seq, key, bytes, op, taken_seq FROM tidemill_signals";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let rows = statement.query_map([], |row| {
        let signal = SignalRow {
            name: row.get(2)?,
            seq: from_sql(row.get(3)?).unwrap_or(Seq::ZERO),
            key: row.get(4)?,
            bytes: u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
            op: row.get(6)?,
            taken_seq: row.get::<_, Option<i64>>(7)?.and_then(from_sql),
        };
        Ok(((row.get(0)?, row.get(1)?), signal))
    });
    rows.map_err(failed)?.collect::<rusqlite::Result<_>>().map_err(failed)
}

/// How many signals a run was sent, and how many its code has not taken, with the bytes of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalCounts {
    /// The number of the newest.
    pub received: u32,
    /// How many are kept.
    pub kept: u64,
    /// The bytes of their values.
    pub kept_bytes: u64,
}

/// Counts the signals of a run.
///
/// # Errors
/// What SQLite says.
pub fn counts(connection: &Connection, run: &RunId) -> Result<SignalCounts> {
    let failed = |e| sqlite(format_args!("count the signals of {run}"), e);
    let mut statement = connection.prepare_cached(COUNT).map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| {
        let natural =
            |at| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0));
        Ok(SignalCounts { received: row.get(0)?, kept: natural(1)?, kept_bytes: natural(2)? })
    };
    statement.query_row([run.as_str()], read).map_err(failed)
}

/// The number and the position of the signal that was sent with this key.
///
/// # Errors
/// What SQLite says.
pub fn of_key(connection: &Connection, run: &RunId, key: &str) -> Result<Option<(u32, Seq)>> {
    let failed = |e| sqlite(format_args!("find a signal of {run}"), e);
    let sql = "SELECT number, seq FROM tidemill_signals WHERE run = ?1 AND key = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let read =
        |row: &rusqlite::Row<'_>| Ok((row.get(0)?, from_sql(row.get(1)?).unwrap_or(Seq::ZERO)));
    statement.query_row((run.as_str(), key), read).optional().map_err(failed)
}

/// The signals that a run was sent after this one, each with its position and moment.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn after(connection: &Connection, run: &RunId, number: u32, limit: u32) -> Result<Vec<Row>> {
    let failed = |e| sqlite(format_args!("read the signals of {run}"), e);
    let sql = format!(
        "SELECT {} FROM events WHERE seq IN \
         (SELECT seq FROM tidemill_signals WHERE run = ?1 AND number > ?2) ORDER BY seq LIMIT ?3",
        Row::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query((run.as_str(), number, limit)).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        found.push(Row::read(row)?);
    }
    Ok(found)
}

/// Unfinished runs that keep signals which their code has not taken, in the order of their starts.
/// Blocked and paused ones are left out: they have the signals when they are resumed.
///
/// # Errors
/// As [`due::in_status`].
pub fn runs_that_keep(connection: &Connection, after: Seq, limit: u32) -> Result<Vec<DueRun>> {
    let sql = "SELECT seq, run, parent, parent_op FROM tidemill_runs \
               WHERE run IN (SELECT run FROM tidemill_signals WHERE taken_seq IS NULL) \
               AND ended_seq IS NULL AND status NOT IN ('blocked', 'paused') AND seq > ?1 \
               ORDER BY seq LIMIT ?2";
    due::list(connection, sql, (to_sql(after), limit))
}
