//! The children of a run, with all that their table is made of.

use rusqlite::Connection;
use serde::Deserialize;
use serde_json::Value;
use tidemill_eventlog::{Error, Result, from_sql, sqlite, to_sql};
use tidemill_model::{RunId, RunStatus, Seq, Timestamp, took_ms};

use crate::curves::numbers::{Numbers, OpNumbers};

/// Children that are read: four times what a page has to bear.
const CHILDREN_MAX: i64 = 2_000;

/// A longer input or output has no columns: it is data, not parameters.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// A run's children.
#[derive(Debug, Default)]
pub(super) struct Family {
    /// In the order in which they were started.
    pub(super) members: Vec<Member>,
    /// How many there are.
    pub(super) children: u64,
    /// The paths of what they measured.
    pub(super) numbers: Numbers,
}

/// A child.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: RunId,
    pub(super) status: RunStatus,
    pub(super) started: Timestamp,
    pub(super) duration_ms: Option<u64>,
    /// `None` for one that is too large or that cannot be read.
    pub(super) input: Option<Value>,
    /// `None` as well if there is none.
    pub(super) output: Option<Value>,
    pub(super) ops: Vec<OpNumbers>,
}

#[derive(Deserialize)]
struct Created {
    input: Value,
}

#[derive(Deserialize)]
struct ChildEnd {
    output: Option<Value>,
}

pub(super) fn family(connection: &Connection, run: &RunId, until: Option<Seq>) -> Result<Family> {
    let failed = |e| sqlite(format_args!("read the children of {run}"), e);
    let mut family = Family::default();
    let upto = until.map_or(i64::MAX, to_sql);
    let count = "SELECT count(*) FROM tidemill_runs WHERE parent = ?1 AND seq <= ?2";
    let mut statement = connection.prepare_cached(count).map_err(failed)?;
    let children: i64 =
        statement.query_row((run.as_str(), upto), |row| row.get(0)).map_err(failed)?;
    family.children = u64::try_from(children).unwrap_or(0);
    let sql = "SELECT r.run, r.status, r.created_at, e.ts, c.data, e.data, r.seq, r.ended_seq \
               FROM tidemill_runs r \
               LEFT JOIN events c ON c.seq = r.seq \
               LEFT JOIN events e ON e.seq = r.ended_seq AND e.seq <= ?2 \
               WHERE r.parent = ?1 AND r.seq <= ?2 ORDER BY r.parent_op, r.seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query((run.as_str(), upto, CHILDREN_MAX)).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        family.members.push(member(row, until)?);
    }
    for member in &mut family.members {
        member.ops = family.numbers.read(connection, &member.id, until, None)?;
    }
    Ok(family)
}

fn member(row: &rusqlite::Row<'_>, until: Option<Seq>) -> Result<Member> {
    let failed = |e| sqlite("read a child", e);
    let id: String = row.get(0).map_err(failed)?;
    let corrupt = |what: &dyn std::fmt::Display| {
        Error::corrupt(format!("run `{id}` in tidemill_runs is unreadable: {what}"))
    };
    let text = |at: usize| row.get::<_, Option<String>>(at).map_err(failed);
    let status: RunStatus = text(1)?.unwrap_or_default().parse().map_err(|e| corrupt(&e))?;
    let started: Timestamp = text(2)?.unwrap_or_default().parse().map_err(|e| corrupt(&e))?;
    let ended_at = text(3)?.map(|ts| ts.parse()).transpose().map_err(|e| corrupt(&e))?;
    let ended = row.get::<_, Option<i64>>(7).map_err(failed)?.and_then(from_sql);
    let ends_later = until.zip(ended).is_some_and(|(until, ended)| ended > until);
    let small = |data: Option<String>| data.filter(|data| data.len() <= PAYLOAD_BYTES_MAX);
    let created = small(text(4)?).and_then(|data| serde_json::from_str::<Created>(&data).ok());
    let end = small(text(5)?).and_then(|data| serde_json::from_str::<ChildEnd>(&data).ok());
    Ok(Member {
        id: RunId::new(&id).map_err(|e| corrupt(&e))?,
        status: if ends_later { RunStatus::Running } else { status },
        started,
        duration_ms: took_ms(started, ended_at),
        input: created.map(|created| created.input),
        output: end.and_then(|end| end.output),
        ops: Vec::new(),
    })
}
