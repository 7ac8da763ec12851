//! The baseline: a bare SQLite loop on the same disk with the same pragmas and tables, writing the
//! rows that the engine writes, as fast as the disk allows.

use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, params};
use tidemill_eventlog::{Checkpoints, create, open_writer};

use crate::measure::{Figures, Meter};

const INSERT: &str = "INSERT INTO events (seq, ts, run, kind, op, name, data, sum) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// Writes `commits` commits of `rows` rows each, by turns those of a step's completion and of the
/// next one's start, spread over `runs` runs.
pub(crate) fn commits(db: &Path, commits: u32, rows: u32, runs: u32) -> anyhow::Result<Figures> {
    create(db).context("create the file of the baseline")?;
    let connection = open_writer(db, Checkpoints::ByLitestream)?;
    let runs: Vec<String> = (0..runs.max(1)).map(run_id).collect();
    let mut seq = 0_u32;
    let meter = Meter::start(db);
    for _ in 0..commits {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..rows {
            seq += 1;
            insert(&connection, seq, &runs)?;
        }
        connection.execute_batch("COMMIT")?;
    }
    meter.stop(commits)
}

fn insert(connection: &Connection, seq: u32, runs: &[String]) -> rusqlite::Result<()> {
    let step = seq / 2;
    let (kind, data) = if seq.is_multiple_of(2) {
        ("step_completed", r#"{"output":42}"#)
    } else {
        ("step_started", r#"{"input":null}"#)
    };
    let at = usize::try_from(step).unwrap_or(0) % runs.len();
    let time = "2026-11-20T10:00:00.000000Z";
    let sum = i64::from(seq) << 31;
    let mut statement = connection.prepare_cached(INSERT)?;
    statement.execute(params![seq, time, runs[at], kind, step, "step", data, sum])?;
    Ok(())
}

/// As long as the ids that the engine's runs get here.
pub(crate) fn run_id(number: u32) -> String {
    format!("bench-run-{number:05}")
}
