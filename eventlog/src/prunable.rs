//! Looks for the runs that leave: the rules, asked for each ended run of the file, newest first.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_model::{ComparedSeqs, PruneReport, RetentionJudge, RunId, Seq, Stays, Timestamp};

use crate::codec::{from_sql, to_sql};
use crate::error::{Error, Result, sqlite};
use crate::prune::{PrunableRun, family};

/// How many ended runs one look reads.
const ROOTS_MAX: u32 = 1_000;

/// After so many runs that leave, a look ends.
const PRUNABLE_MAX: usize = 1_000;

/// What one look found.
#[derive(Debug, Default)]
pub struct Look {
    /// The runs that leave, children before their parents.
    pub ended_runs: Vec<PrunableRun>,
    /// The families that were looked at, as a report; nothing of them was removed yet.
    pub report: PruneReport,
    /// Where the next look begins; `None` if every ended run was looked at.
    pub next: Option<Seq>,
}

/// Looks at the next ended runs that were created before a position. `now` is the time by which they
/// are old. A run that `busy` names stays, with its family.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn look(
    connection: &Connection,
    judge: &mut RetentionJudge,
    (now, before): (Timestamp, Seq),
    compared: ComparedSeqs,
    busy: impl Fn(&RunId) -> bool,
) -> Result<Look> {
    let roots = ended_roots(connection, before)?;
    let mut found = Look::default();
    for root in &roots {
        found.next = Some(root.seq);
        let ended_at = || written_at(connection, root.ended_seq);
        if !judge.leaves(&root.labels, (now, root.created_at), ended_at)? {
            found.report.kept += 1;
            continue;
        }
        match family(connection, &root.run, compared)? {
            Err(why) => found.report.stays.add(why),
            Ok(runs) if runs.iter().any(|ended| busy(&ended.run)) => {
                found.report.stays.add(Stays::NotEnded);
            }
            Ok(runs) => {
                runs.iter().for_each(|run| run.count_in(&mut found.report));
                found.ended_runs.extend(runs);
            }
        }
        if found.ended_runs.len() >= PRUNABLE_MAX {
            return Ok(found);
        }
    }
    if roots.len() < usize::try_from(ROOTS_MAX).unwrap_or(usize::MAX) {
        found.next = None;
    }
    Ok(found)
}

/// A run that has ended and that nobody started as a child.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EndedRoot {
    /// The run.
    run: RunId,
    /// The position of its `run_created`.
    seq: Seq,
    /// When it was created.
    created_at: Timestamp,
    /// The event that ended it.
    ended_seq: Seq,
    /// Its labels.
    labels: BTreeMap<String, String>,
}

/// The ended runs that were created before a position and that nobody started as a child, the newest
/// first.
fn ended_roots(connection: &Connection, before: Seq) -> Result<Vec<EndedRoot>> {
    let failed = |e| sqlite("list the runs that have ended", e);
    let sql = "SELECT run, seq, created_at, ended_seq, labels FROM tidemill_runs \
               WHERE seq < ?1 AND ended_seq IS NOT NULL AND parent IS NULL \
               ORDER BY seq DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query((to_sql(before), ROOTS_MAX)).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let run: String = row.get(0).map_err(failed)?;
        let corrupt = |what: &dyn std::fmt::Display| {
            Error::corrupt(format!("run `{run}` in tidemill_runs is unreadable: {what}"))
        };
        let seq = |at: usize| {
            let seq = from_sql(row.get(at).map_err(failed)?);
            seq.ok_or_else(|| corrupt(&"a position is negative"))
        };
        let created_at: String = row.get(2).map_err(failed)?;
        let labels: String = row.get(4).map_err(failed)?;
        found.push(EndedRoot {
            run: RunId::new(&run).map_err(|e| corrupt(&e))?,
            seq: seq(1)?,
            created_at: created_at.parse().map_err(|e| corrupt(&e))?,
            ended_seq: seq(3)?,
            labels: serde_json::from_str(&labels).map_err(|e| corrupt(&e))?,
        });
    }
    Ok(found)
}

/// When an event was written.
fn written_at(connection: &Connection, seq: Seq) -> Result<Timestamp> {
    let failed = |e| sqlite(format_args!("read the time of event {seq}"), e);
    let mut statement =
        connection.prepare_cached("SELECT ts FROM events WHERE seq = ?1").map_err(failed)?;
    let ts: Option<String> =
        statement.query_row([to_sql(seq)], |row| row.get(0)).optional().map_err(failed)?;
    let ts = ts.ok_or_else(|| Error::corrupt(format!("event {seq} is missing")))?;
    ts.parse().map_err(|e| Error::corrupt(format!("event {seq} has an {e}")))
}
