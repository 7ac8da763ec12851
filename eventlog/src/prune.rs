//! Retention: removes the runs that have ended and may leave, and proves the hole that they leave.
//!
//! A run leaves whole, in its caller's transaction: its events, its row in `tidemill_runs`, and an
//! entry in `tidemill_gaps`. `docs/design/retention.md` says what may leave, and who would notice.
//!
//! Invariants:
//! - the newest row stays, and so does each row at a position that is still compared;
//! - no run outlives the run that started it, and none loses a part of its events;
//! - each removed row is hashed again: a damaged one is an error, and its run stays.
//!
//! On failure the caller rolls back, and nothing has changed.

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_model::{ComparedSeqs, LogSum, PruneReport, RunId, Seq, Stays};

use crate::codec::{from_sql, hash_stored, sum_from_sql, to_sql};
use crate::error::{Error, Result, sqlite};
use crate::gaps::{self, Hole};
use crate::verify::{head, sum_at};
use crate::{due, meta, promises, signals};

/// A run that leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunableRun {
    /// The run.
    pub run: RunId,
    /// The position of its `run_created`: a later run with the same id is another.
    pub seq: Seq,
    /// How many events it has.
    pub events: u64,
    /// How many bytes their data have.
    pub bytes: u64,
}

impl PrunableRun {
    /// Counts it in a report.
    pub fn count_in(&self, report: &mut PruneReport) {
        report.runs += 1;
        report.events += self.events;
        report.bytes += self.bytes;
    }
}

/// A run and all its descendants, children before their parents, or why they stay.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn family(
    connection: &Connection,
    root: &RunId,
    compared: ComparedSeqs,
) -> Result<std::result::Result<Vec<PrunableRun>, Stays>> {
    let mut ended_runs = Vec::new();
    for run in due::family(connection, root)?.into_iter().rev() {
        let Some(row) = row_of(connection, &run)? else { return Ok(Err(Stays::NotEnded)) };
        if !row.has_ended {
            return Ok(Err(Stays::NotEnded));
        }
        let (ended, last) = prunable_run(connection, run, row.seq)?;
        if let Some(why) = stays(connection, &ended.run, last, compared)? {
            return Ok(Err(why));
        }
        ended_runs.push(ended);
    }
    Ok(Ok(ended_runs))
}

struct StoredRun {
    seq: Seq,
    /// And its parent, if it has one, does not wait for it.
    has_ended: bool,
}

fn row_of(connection: &Connection, run: &RunId) -> Result<Option<StoredRun>> {
    let failed = |e| sqlite(format_args!("find run {run}"), e);
    let sql = "SELECT seq, ended_seq IS NOT NULL AND coalesce(awaited, 0) = 0 FROM tidemill_runs WHERE run = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let row = statement
        .query_row([run.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(failed)?;
    let Some((seq, has_ended)) = row else { return Ok(None) };
    let bad = || Error::corrupt(format!("run `{run}` in tidemill_runs has a negative seq"));
    Ok(Some(StoredRun { seq: from_sql(seq).ok_or_else(bad)?, has_ended }))
}

/// The run as it leaves, and its newest event.
fn prunable_run(connection: &Connection, run: RunId, seq: Seq) -> Result<(PrunableRun, Seq)> {
    let failed = |e| sqlite(format_args!("count the events of {run}"), e);
    let sql = "SELECT count(*), coalesce(sum(octet_length(data)), 0), coalesce(max(seq), 0) \
               FROM events WHERE run = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let counted = statement.query_row([run.as_str()], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    let (events, bytes, last) = counted.map_err(failed)?;
    let bad = || Error::corrupt(format!("run `{run}` has an event with a negative seq"));
    let last = from_sql(last).ok_or_else(bad)?;
    Ok((PrunableRun { run, seq, events: events.unsigned_abs(), bytes: bytes.unsigned_abs() }, last))
}

/// Why the events of a run up to `last`, its newest, stay; `None` if they may leave.
fn stays(
    connection: &Connection,
    run: &RunId,
    last: Seq,
    compared: ComparedSeqs,
) -> Result<Option<Stays>> {
    if last >= compared.from {
        return Ok(Some(Stays::Compared));
    }
    if let Some(base) = compared.base {
        let failed = |e| sqlite(format_args!("read event {base}"), e);
        let sql = "SELECT 1 FROM events WHERE seq = ?1 AND run = ?2";
        let mut statement = connection.prepare_cached(sql).map_err(failed)?;
        if statement.exists((to_sql(base), run.as_str())).map_err(failed)? {
            return Ok(Some(Stays::Compared));
        }
    }
    let is_newest = head(connection)?.seq <= last;
    Ok(is_newest.then_some(Stays::Newest))
}

/// Removes a run in the caller's transaction. The error inside says that it may not leave, or not
/// any more: nothing was changed then.
///
/// # Errors
/// `Corrupt` if a row of it is damaged; otherwise what SQLite says. The caller rolls back.
pub fn remove(
    connection: &Connection,
    ended: &PrunableRun,
    compared: ComparedSeqs,
) -> Result<std::result::Result<(), Stays>> {
    let run = &ended.run;
    match row_of(connection, run)? {
        Some(row) if row.has_ended && row.seq == ended.seq => {}
        Some(_) | None => return Ok(Err(Stays::NotEnded)),
    }
    if has_children(connection, run)? {
        return Ok(Err(Stays::NotEnded));
    }
    let stretches = stretches(connection, run)?;
    let last = stretches.last().map_or(Seq::ZERO, |stretch| stretch.last);
    if let Some(why) = stays(connection, run, last, compared)? {
        return Ok(Err(why));
    }
    let failed = |e| sqlite(format_args!("remove {run}"), e);
    let execute = |sql: &str, key: &str| {
        connection.prepare_cached(sql).map_err(failed)?.execute([key]).map_err(failed)
    };
    meta::put(connection, RETENTION, "1")?;
    let removed = execute("DELETE FROM events WHERE run = ?1", run.as_str())?;
    execute("DELETE FROM tidemill_meta WHERE key = ?1", RETENTION)?;
    let events: u64 = stretches.iter().map(Hole::rows).sum();
    if u64::try_from(removed) != Ok(events) {
        let what = "a trigger on events leaves rows out: drop that trigger";
        let message = format!("remove {run}: {removed} of its {events} events went: {what}");
        return Err(Error::new(crate::ErrorKind::Internal, message));
    }
    stretches.into_iter().try_for_each(|stretch| gaps::add(connection, stretch))?;
    signals::forget(connection, run)?;
    promises::forget(connection, run)?;
    execute("DELETE FROM tidemill_runs WHERE run = ?1", run.as_str())?;
    Ok(Ok(()))
}

/// The key of `tidemill_meta` that lets deletions pass.
const RETENTION: &str = "retention";

fn has_children(connection: &Connection, run: &RunId) -> Result<bool> {
    let failed = |e| sqlite(format_args!("find the children of {run}"), e);
    let sql = "SELECT 1 FROM tidemill_runs WHERE parent = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement.exists([run.as_str()]).map_err(failed)
}

/// Groups the events of a run into stretches of consecutive positions, and checks each row's
/// checksum.
fn stretches(connection: &Connection, run: &RunId) -> Result<Vec<Hole>> {
    let failed = |e| sqlite(format_args!("read the events of {run}"), e);
    let sql = "SELECT seq, ts, run, kind, op, name, data, sum FROM events \
               WHERE run = ?1 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query([run.as_str()]).map_err(failed)?;
    let (mut found, mut scratch): (Vec<Hole>, _) = (Vec::new(), Vec::new());
    // The last row's position, and its running checksum.
    let mut before = (Seq::ZERO, LogSum::ZERO);
    while let Some(row) = rows.next().map_err(failed)? {
        let stored: i64 = row.get(0).map_err(failed)?;
        let damaged = |what: &str| {
            Error::corrupt(format!("the log is damaged at seq={stored}: {what}; {run} stays"))
        };
        let seq = from_sql(stored).filter(|seq| *seq > Seq::ZERO);
        let seq = seq.ok_or_else(|| damaged("its seq is negative"))?;
        let hash = hash_stored(&mut scratch, row).map_err(failed)?;
        let sum = sum_from_sql(row.get(7).map_err(failed)?);
        let continues = before.0.next() == seq;
        let sum_before = match continues && !found.is_empty() {
            true => Some(before.1),
            false => sum_before(connection, seq)?,
        };
        if sum_before.map(|before| before.plus(hash)) != Some(sum) {
            return Err(damaged("its checksum does not fit"));
        }
        match found.last_mut() {
            Some(stretch) if continues => {
                *stretch = Hole { last: seq, sum: stretch.sum.plus(hash), ..*stretch };
            }
            Some(_) | None => found.push(Hole { first: seq, last: seq, sum: LogSum::new(hash) }),
        }
        before = (seq, sum);
    }
    Ok(found)
}

/// The running checksum before a row, from the row or the gap before it; `None` if neither is there.
fn sum_before(connection: &Connection, seq: Seq) -> Result<Option<LogSum>> {
    let Some(mut at) = gaps::before(seq) else { return Ok(Some(LogSum::ZERO)) };
    let mut removed = LogSum::ZERO;
    loop {
        if let Some(sum) = sum_at(connection, at)? {
            return Ok(Some(sum.plus(removed.get())));
        }
        let Some(gap) = gaps::ending_at(connection, at)? else { return Ok(None) };
        removed = removed.plus(gap.sum.get());
        let Some(earlier) = gaps::before(gap.first) else { return Ok(Some(removed)) };
        at = earlier;
    }
}
