//! From an older schema version to the newest, in the file, once.
//!
//! Only an app migrates, when it opens the file for writing and holds its lock. All steps are one
//! transaction, so a crash leaves the old version or the new one. The log itself never changes:
//! what a migration adds is derived from it.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{SCHEMA_VERSION, is_taken, version, views};
use crate::error::{Result, sqlite};

/// The views of version 1.
pub(super) const VIEWS_OF_1: &[&str] = &["runs", "steps", "checkpoints", "timers", "signals"];

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
    let left_out = to_2(&transaction).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(Some(Migrated { from, left_out }))
}

fn to_2(transaction: &Connection) -> rusqlite::Result<Vec<&'static str>> {
    for view in VIEWS_OF_1 {
        transaction.execute_batch(&format!("DROP VIEW {view}"))?;
    }
    transaction.execute_batch(TO_2)?;
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
