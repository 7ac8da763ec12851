//! The log as the raw loop and the skeleton write it: with the engine's schema, pragmas and pace,
//! and the two rows a step that the engine writes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, params};
use tidemill_eventlog::{Checkpoints, create, open_writer};

const INSERT: &str = "INSERT INTO events (seq, ts, run, kind, op, name, data, sum) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// As in the engine's `runtime/src/store/writer/pace.rs`: past 64 MiB of WAL, in pages of 4 KiB,
/// each commit is followed by a gap in which Litestream could checkpoint.
const WAL_PAGES_SOFT_MAX: i32 = 16_384;
const GAP: Duration = Duration::from_millis(1);

/// A new log and its only writer.
pub(crate) struct BenchLog {
    connection: Connection,
    wal_pages: Arc<AtomicI32>,
    seq: u32,
}

impl BenchLog {
    /// Makes it.
    pub(crate) fn create(db: &Path) -> anyhow::Result<BenchLog> {
        create(db).context("create the file of the baseline")?;
        let mut connection = open_writer(db, Checkpoints::ByLitestream)?;
        let wal_pages = Arc::new(AtomicI32::new(0));
        let pages = Arc::clone(&wal_pages);
        let hook = move |_: &mut rusqlite::hooks::Wal, now: i32| {
            pages.store(now, Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook))?;
        Ok(BenchLog { connection, wal_pages, seq: 0 })
    }

    pub(crate) fn begin(&self) -> rusqlite::Result<()> {
        self.execute("BEGIN IMMEDIATE")
    }

    /// What one commit of the engine's has of a step: that the one before has ended, and that it
    /// has begun.
    pub(crate) fn insert_step(&mut self, run: &str, step: u32) -> rusqlite::Result<()> {
        self.insert_end(run, step)?;
        self.insert_begin(run, step + 1)
    }

    pub(crate) fn insert_end(&mut self, run: &str, step: u32) -> rusqlite::Result<()> {
        self.insert(run, "step_completed", step, r#"{"output":42}"#)
    }

    pub(crate) fn insert_begin(&mut self, run: &str, step: u32) -> rusqlite::Result<()> {
        self.insert(run, "step_started", step, r#"{"input":null}"#)
    }

    pub(crate) fn commit(&self) -> rusqlite::Result<()> {
        self.execute("COMMIT")
    }

    /// Leaves the gap after a commit, and after its replies, that the engine would leave.
    pub(crate) fn leave_gap(&self) {
        if self.wal_pages.load(Ordering::Relaxed) > WAL_PAGES_SOFT_MAX {
            std::thread::park_timeout(GAP);
        }
    }

    fn insert(&mut self, run: &str, kind: &str, op: u32, data: &str) -> rusqlite::Result<()> {
        self.seq += 1;
        let time = "2026-11-20T10:00:00.000000Z";
        let sum = i64::from(self.seq) << 31;
        let mut statement = self.connection.prepare_cached(INSERT)?;
        statement.execute(params![self.seq, time, run, kind, op, "step", data, sum])?;
        Ok(())
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

/// As long as the ids that the engine's runs get here.
pub(crate) fn run_id(number: u32) -> String {
    format!("bench-run-{number:05}")
}
