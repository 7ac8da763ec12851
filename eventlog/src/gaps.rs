//! `tidemill_gaps`: the stretches of the log that retention removed.
//!
//! A gap holds the wrapping sum of the removed rows' hashes, so that the running checksum of the row
//! after it still follows from the row before it. Gaps that touch are one row of the table: there
//! are never more gaps than rows in the log.

use rusqlite::{Connection, OptionalExtension as _, params};
use tidemill_model::{LogSum, Seq};

use crate::codec::{from_sql, sum_from_sql, sum_to_sql, to_sql};
use crate::error::{Error, Result, sqlite};

/// A stretch of removed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    /// The wrapping sum of the hashes of its rows.
    pub(crate) sum: LogSum,
}

impl Hole {
    /// How many rows were removed.
    pub(crate) fn rows(&self) -> u64 {
        self.last.get() - self.first.get() + 1
    }
}

/// All gaps in the order of the log, for a scan that passes them one after another.
pub(crate) struct Gaps(std::vec::IntoIter<(i64, i64, LogSum)>);

impl Gaps {
    pub(crate) fn read(connection: &Connection) -> Result<Gaps> {
        let failed = |e| sqlite("read the gaps of the log", e);
        let sql = "SELECT first, last, sum FROM tidemill_gaps ORDER BY first";
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let gaps = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, sum_from_sql(row.get(2)?))))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(failed)?;
        Ok(Gaps(gaps.into_iter()))
    }

    /// The gap that begins at `seq`: its last position, and the sum of what was removed.
    pub(crate) fn at(&mut self, seq: Seq) -> Option<(Seq, LogSum)> {
        let (first, last, sum) = *self.0.as_slice().first()?;
        if first != to_sql(seq) || last < first {
            return None;
        }
        self.0.next();
        Some((from_sql(last)?, sum))
    }

    /// The first gap that was not passed: its first and last position as they are stored.
    pub(crate) fn left(&self) -> Option<(i64, i64)> {
        self.0.as_slice().first().map(|(first, last, _)| (*first, *last))
    }
}

/// The position before another one; `None` before the first.
pub(crate) fn before(seq: Seq) -> Option<Seq> {
    Seq::new(seq.get().checked_sub(1)?).ok().filter(|seq| *seq > Seq::ZERO)
}

/// The gap that begins nearest before a position: gaps do not overlap, so no other can have it.
const BEFORE: &str = "SELECT first, last, sum FROM tidemill_gaps WHERE first <= ?1 \
                      ORDER BY first DESC LIMIT 1";

/// Whether retention removed the event at a position.
///
/// # Errors
/// `Corrupt` if a gap is not what it has to be; otherwise what SQLite says.
pub fn is_pruned(connection: &Connection, seq: Seq) -> Result<bool> {
    Ok(one(connection, BEFORE, seq)?.is_some_and(|gap| gap.last >= seq))
}

/// The gap whose last position is `last`; `None` if there is none.
pub(crate) fn ending_at(connection: &Connection, last: Seq) -> Result<Option<Hole>> {
    Ok(one(connection, BEFORE, last)?.filter(|gap| gap.last == last))
}

/// The gap whose first position is `first`; `None` if there is none.
fn beginning_at(connection: &Connection, first: Seq) -> Result<Option<Hole>> {
    one(connection, "SELECT first, last, sum FROM tidemill_gaps WHERE first = ?1", first)
}

fn one(connection: &Connection, sql: &str, at: Seq) -> Result<Option<Hole>> {
    let failed = |e| sqlite(format_args!("find a gap of the log at seq={at}"), e);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let gap = statement.query_row([to_sql(at)], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?))
    });
    let Some((first, last, sum)) = gap.optional().map_err(failed)? else { return Ok(None) };
    let ends = from_sql(first).zip(from_sql(last)).filter(|(first, last)| first <= last);
    let bad = || Error::corrupt(format!("tidemill_gaps has a gap from {first} to {last}"));
    let (first, last) = ends.ok_or_else(bad)?;
    Ok(Some(Hole { first, last, sum: sum_from_sql(sum) }))
}

/// Records a stretch whose rows were just removed, joined with the gaps that it touches.
pub(crate) fn add(connection: &Connection, removed: Hole) -> Result<()> {
    let failed = |e| sqlite("record a gap of the log", e);
    let mut gap = removed;
    let touches = before(gap.first).map(|last| ending_at(connection, last)).transpose()?.flatten();
    if let Some(before) = touches {
        gap = Hole { first: before.first, sum: before.sum.plus(gap.sum.get()), ..gap };
    }
    if let Some(after) = beginning_at(connection, gap.last.next())? {
        let sql = "DELETE FROM tidemill_gaps WHERE first = ?1";
        let mut delete = connection.prepare_cached(sql).map_err(failed)?;
        delete.execute([to_sql(after.first)]).map_err(failed)?;
        gap = Hole { last: after.last, sum: gap.sum.plus(after.sum.get()), ..gap };
    }
    let sql = "INSERT INTO tidemill_gaps (first, last, sum) VALUES (?1, ?2, ?3) \
               ON CONFLICT (first) DO UPDATE SET last = ?2, sum = ?3";
    let mut insert = connection.prepare_cached(sql).map_err(failed)?;
    insert
        .execute(params![to_sql(gap.first), to_sql(gap.last), sum_to_sql(gap.sum)])
        .map_err(failed)?;
    Ok(())
}
