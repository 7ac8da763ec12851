//! The tables and views of `workflow.db`, and its schema version.
//!
//! A step's commit touches two pages: the newest leaf of `events` and one leaf of its index by
//! run. So `seq` is a plain rowid without AUTOINCREMENT (whose counter would be a third page), and
//! `tidemill_runs` is written only when a run is created or its status changes.
//!
//! `tidemill_runs` holds positions (`seq`, `ended_seq`, `blocked_seq`) instead of copies of inputs
//! and outputs: what an event carries is stored once. The views join it back.
//!
//! The views are a promise to people and SQL tools; they change only with the schema version:
//!
//! | view | one row for each | columns |
//! |---|---|---|
//! | `runs` | run | `run, workflow, status, created_at, updated_at, ended_at, parent, parent_op, labels, input, output, error, blocked` |
//! | `steps` | step of a run | `run, op, name, status, attempts, started_at, ended_at, input, output, error, last_checkpoint` |
//! | `checkpoints` | checkpoint of a step | `run, op, name, attempt, seq, ts, value` |
//! | `timers` | timer of a run | `run, op, name, status, fire_at, started_at, ended_at` |
//! | `signals` | signal that a run received | `run, op, name, seq, ts, value` |
//!
//! `status` of a step is `running`, `completed`, `failed` or `dropped`; of a timer `waiting`,
//! `fired` or `dropped`. Values (`input`, `output`, `error`, `blocked`, `labels`, `value`) are
//! JSON text. `attempts` is the number of the last attempt that the log knows of.

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result, sqlite};

/// The schema version that this release writes, and the newest that it reads.
pub const SCHEMA_VERSION: i32 = 1;

/// Marks a file as Tidemill's in SQLite's header: `tmil` in ASCII.
pub const APPLICATION_ID: i32 = 0x746d_696c;

/// The oldest SQLite that may touch the file: older ones can reset a WAL under a checkpoint that
/// races with a commit, which corrupts it.
pub const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// How rows are hashed, recorded in the file so that another way can follow one day.
pub(crate) const HASH_NAME: &str = "xxh3-64";

const DDL: &str = "
CREATE TABLE events (
  seq  INTEGER PRIMARY KEY,
  ts   TEXT NOT NULL,
  run  TEXT NOT NULL,
  kind TEXT NOT NULL,
  op   INTEGER,
  name TEXT,
  data TEXT,
  sum  INTEGER NOT NULL
) STRICT;
CREATE INDEX events_of_run ON events (run, seq);

CREATE TABLE tidemill_meta (
  key   TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
WHEN NOT EXISTS (SELECT 1 FROM tidemill_meta WHERE key = 'retention')
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM tidemill_meta WHERE key = 'retention')
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- Events that retention removed. sum: the wrapping sum of the removed rows' hashes, so that the
-- checksum of what follows still proves what came before.
CREATE TABLE tidemill_gaps (
  first INTEGER PRIMARY KEY,
  last  INTEGER NOT NULL,
  sum   INTEGER NOT NULL
) STRICT;

CREATE TABLE tidemill_runs (
  seq         INTEGER PRIMARY KEY,  -- of run_created: the order of starts
  run         TEXT NOT NULL UNIQUE,
  workflow    TEXT NOT NULL,
  status      TEXT NOT NULL,
  created_at  TEXT NOT NULL,
  ended_seq   INTEGER,              -- of run_completed or run_failed
  blocked_seq INTEGER,              -- of run_blocked, while blocked
  parent      TEXT,
  parent_op   INTEGER,
  labels      TEXT NOT NULL
) STRICT;
CREATE INDEX tidemill_runs_unfinished ON tidemill_runs (seq) WHERE ended_seq IS NULL;
CREATE INDEX tidemill_runs_by_status ON tidemill_runs (status, seq);
CREATE INDEX tidemill_runs_by_workflow ON tidemill_runs (workflow, seq);

CREATE TABLE tidemill_timers (
  run     TEXT NOT NULL,
  op      INTEGER NOT NULL,
  fire_at TEXT NOT NULL,
  PRIMARY KEY (run, op)
) STRICT, WITHOUT ROWID;
CREATE INDEX tidemill_timers_by_time ON tidemill_timers (fire_at);

CREATE VIEW runs AS
SELECT r.run, r.workflow, r.status, r.created_at,
  (SELECT u.ts FROM events u WHERE u.run = r.run ORDER BY u.seq DESC LIMIT 1) AS updated_at,
  e.ts AS ended_at, r.parent, r.parent_op, r.labels,
  c.data -> '$.input' AS input,
  e.data -> '$.output' AS output,
  e.data -> '$.error' AS error,
  b.data -> '$.reason' AS blocked
FROM tidemill_runs r
LEFT JOIN events c ON c.seq = r.seq
LEFT JOIN events e ON e.seq = r.ended_seq
LEFT JOIN events b ON b.seq = r.blocked_seq;

CREATE VIEW steps AS
SELECT o.run, o.op, s.name,
  CASE e.kind WHEN 'step_completed' THEN 'completed' WHEN 'step_failed' THEN 'failed'
    WHEN 'op_dropped' THEN 'dropped' ELSE 'running' END AS status,
  o.attempts, s.ts AS started_at, e.ts AS ended_at,
  s.data -> '$.input' AS input,
  e.data -> '$.output' AS output,
  e.data -> '$.error' AS error,
  c.data -> '$.value' AS last_checkpoint
FROM (
  SELECT run, op,
    max(CASE kind WHEN 'step_started' THEN seq END) AS start_seq,
    max(CASE WHEN kind IN ('step_completed', 'step_failed', 'op_dropped') THEN seq END) AS end_seq,
    max(CASE kind WHEN 'checkpoint' THEN seq END) AS checkpoint_seq,
    max(CASE kind WHEN 'step_attempt_failed' THEN json_extract(data, '$.attempt') + 1
      WHEN 'step_restarted' THEN json_extract(data, '$.attempt') ELSE 1 END) AS attempts
  FROM events
  WHERE kind IN ('step_started', 'step_attempt_failed', 'step_restarted', 'step_completed',
    'step_failed', 'checkpoint', 'op_dropped')
  GROUP BY run, op
) o
JOIN events s ON s.seq = o.start_seq
LEFT JOIN events e ON e.seq = o.end_seq
LEFT JOIN events c ON c.seq = o.checkpoint_seq;

CREATE VIEW checkpoints AS
SELECT run, op, name, data ->> '$.attempt' AS attempt, seq, ts, data -> '$.value' AS value
FROM events WHERE kind = 'checkpoint';

CREATE VIEW timers AS
SELECT o.run, o.op, s.name,
  CASE e.kind WHEN 'timer_fired' THEN 'fired' WHEN 'op_dropped' THEN 'dropped'
    ELSE 'waiting' END AS status,
  s.data ->> '$.fire_at' AS fire_at, s.ts AS started_at, e.ts AS ended_at
FROM (
  SELECT run, op,
    max(CASE kind WHEN 'timer_started' THEN seq END) AS start_seq,
    max(CASE WHEN kind IN ('timer_fired', 'op_dropped') THEN seq END) AS end_seq
  FROM events
  WHERE kind IN ('timer_started', 'timer_fired', 'op_dropped')
  GROUP BY run, op
) o
JOIN events s ON s.seq = o.start_seq
LEFT JOIN events e ON e.seq = o.end_seq;

CREATE VIEW signals AS
SELECT run, op, name, seq, ts, data -> '$.value' AS value
FROM events WHERE kind = 'signal_received';
";

/// Makes the schema in an empty database, in one transaction.
pub(crate) fn install(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;{DDL}
        INSERT INTO tidemill_meta (key, value) VALUES
          ('schema', '{SCHEMA_VERSION}'), ('hash', '{HASH_NAME}'),
          ('tidemill', '{}'), ('shipped', '0');
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = {SCHEMA_VERSION};
        COMMIT;",
        env!("CARGO_PKG_VERSION")
    ))
}

/// Refuses a file that is not Tidemill's, and one of a newer schema, which names what it needs.
pub(crate) fn check(connection: &Connection, path: &std::path::Path) -> Result<()> {
    let failed = |e| sqlite(format_args!("read {}", path.display()), e);
    let pragma =
        |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let application = pragma("application_id").map_err(failed)?;
    if application != APPLICATION_ID {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{} is not a tidemill file: name a workflow.db", path.display()),
        ));
    }
    let version = pragma("user_version").map_err(failed)?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let sql = "SELECT value FROM tidemill_meta WHERE key = 'tidemill'";
    let needed = connection.query_row(sql, [], |row| row.get::<_, String>(0));
    let needed = needed.map_or_else(|_| "a newer tidemill".into(), |v| format!("tidemill {v}"));
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "{} has schema version {version}, this tidemill {} knows {SCHEMA_VERSION}: use {needed} \
             or newer",
            path.display(),
            env!("CARGO_PKG_VERSION"),
        ),
    ))
}

/// Refuses an SQLite that is too old, which a system library could be.
pub(crate) fn check_sqlite() -> Result<()> {
    if rusqlite::version_number() >= SQLITE_VERSION_MIN {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!("sqlite {} is too old: build with 3.51.3 or newer", rusqlite::version()),
    ))
}
