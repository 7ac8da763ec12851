//! From an older schema version to the newest, in the file, once.
//!
//! Only an app migrates, when it opens the file for writing and holds its lock. All steps are one
//! transaction, so a crash leaves the old version or the new one. The log itself never changes:
//! what a migration adds is derived from it.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{SCHEMA_VERSION, is_taken, version, views};
use crate::error::{Result, sqlite};

/// The views of version 1, which made them in an empty file.
const VIEWS_OF_1: &[&str] = &["runs", "steps", "checkpoints", "timers", "signals"];

/// The views that version 2 added, and how they begin: it left one out whose name the author had
/// taken.
const VIEWS_OF_2: &[(&str, &str)] = &[
    ("children", "CREATE VIEW children AS\nSELECT r.parent, r.parent_op, r.run,"),
    ("attempts", "CREATE VIEW attempts AS\nSELECT run, op, name, attempt, status,"),
];

/// Whether an older version made the view of this name that the file has.
pub(super) fn is_ours(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    if VIEWS_OF_1.contains(&name) {
        return Ok(true);
    }
    let Some((_, begins)) = VIEWS_OF_2.iter().find(|(view, _)| *view == name) else {
        return Ok(false);
    };
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema \
               WHERE type = 'view' AND name = ?1 AND substr(sql, 1, length(?2)) = ?2)";
    connection.query_row(sql, [name, begins], |row| row.get(0))
}

/// A child is awaited while its parent is unfinished and has neither observed its end nor dropped
/// it.
const TO_2: &str = "
ALTER TABLE tidemill_runs ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tidemill_runs ADD COLUMN custom_status_seq INTEGER;
DROP INDEX tidemill_runs_unfinished;
CREATE INDEX tidemill_runs_by_parent ON tidemill_runs (parent, parent_op) WHERE parent IS NOT NULL;

CREATE TEMP TABLE observed (run TEXT, op INTEGER, PRIMARY KEY (run, op)) WITHOUT ROWID;
INSERT OR IGNORE INTO observed SELECT run, op FROM events
WHERE kind IN ('child_completed', 'child_failed', 'op_dropped') AND op IS NOT NULL;
UPDATE tidemill_runs SET awaited = 1
WHERE parent IN (SELECT p.run FROM tidemill_runs p WHERE p.ended_seq IS NULL)
  AND (parent, parent_op) NOT IN (SELECT run, op FROM observed);
DROP TABLE observed;

CREATE INDEX tidemill_runs_unobserved ON tidemill_runs (seq)
  WHERE awaited = 1 AND ended_seq IS NOT NULL;
CREATE INDEX tidemill_runs_unwanted ON tidemill_runs (seq)
  WHERE awaited = 0 AND ended_seq IS NULL AND parent IS NOT NULL;
";

const TO_3: &str = "ALTER TABLE tidemill_runs ADD COLUMN cancel_seq INTEGER;";

/// No version before recorded a signal, a promise or a deadline.
const TO_4: &str = "
ALTER TABLE tidemill_runs ADD COLUMN deadline TEXT;
CREATE INDEX tidemill_runs_by_deadline ON tidemill_runs (deadline, seq)
  WHERE deadline IS NOT NULL AND ended_seq IS NULL AND cancel_seq IS NULL;
CREATE TABLE tidemill_signals (
  run       TEXT NOT NULL,
  number    INTEGER NOT NULL,
  name      TEXT NOT NULL,
  seq       INTEGER NOT NULL,
  key       TEXT,
  bytes     INTEGER NOT NULL,
  op        INTEGER,
  taken_seq INTEGER,
  PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tidemill_signals_by_key ON tidemill_signals (run, key) WHERE key IS NOT NULL;
CREATE INDEX tidemill_signals_kept ON tidemill_signals (run, op) WHERE taken_seq IS NULL;
CREATE TABLE tidemill_promises (
  run        TEXT NOT NULL,
  op         INTEGER NOT NULL,
  name       TEXT NOT NULL,
  seq        INTEGER NOT NULL,
  status     TEXT NOT NULL,
  closed_seq INTEGER,
  record     TEXT NOT NULL,
  PRIMARY KEY (run, op)
) STRICT, WITHOUT ROWID;
CREATE INDEX tidemill_promises_open ON tidemill_promises (seq) WHERE status = 'open';
CREATE INDEX tidemill_promises_answered ON tidemill_promises (run)
  WHERE closed_seq IS NULL AND status <> 'open';
";

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The schema version that the file had.
    pub from: i32,
    /// Views that were left out, because the author has a table or view of that name.
    pub left_out: Vec<&'static str>,
}

/// Brings a file that is open for writing to the newest schema version. `None` if there was nothing
/// to do.
///
/// # Errors
/// What SQLite says; the file is then as it was.
pub fn migrate(connection: &Connection) -> Result<Option<Migrated>> {
    let failed = |e| sqlite(format_args!("migrate the file to schema {SCHEMA_VERSION}"), e);
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
    let transaction = transaction.map_err(failed)?;
    let from = version(&transaction).map_err(failed)?;
    if from >= SCHEMA_VERSION {
        return Ok(None);
    }
    let left_out = to_newest(&transaction, from).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(Some(Migrated { from, left_out }))
}

/// Takes the views away, changes the tables step by step, and makes the newest views.
fn to_newest(transaction: &Connection, from: i32) -> rusqlite::Result<Vec<&'static str>> {
    for view in views().map(|(name, _)| name) {
        if is_ours(transaction, view)? {
            transaction.execute_batch(&format!("DROP VIEW {view}"))?;
        }
    }
    if from < 2 {
        transaction.execute_batch(TO_2)?;
    }
    if from < 3 {
        transaction.execute_batch(TO_3)?;
    }
    transaction.execute_batch(TO_4)?;
    let mut left_out = Vec::new();
    for (name, sql) in views() {
        if is_taken(transaction, name)? {
            left_out.push(name);
        } else {
            transaction.execute_batch(sql)?;
        }
    }
    transaction.execute_batch(&format!(
        "UPDATE tidemill_meta SET value = '{SCHEMA_VERSION}' WHERE key = 'schema';
        UPDATE tidemill_meta SET value = '{}' WHERE key = 'tidemill';
        PRAGMA user_version = {SCHEMA_VERSION};",
        env!("CARGO_PKG_VERSION")
    ))?;
    Ok(left_out)
}
