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
//! | `runs` | run | `run, workflow, status, created_at, updated_at, ended_at, duration_ms, parent, parent_op, labels, input, output, error, blocked, custom_status, cancel, deadline` |
//! | `children` | run that another run started | `parent, parent_op, run, workflow, status, created_at, ended_at, duration_ms, input, output, error` |
//! | `steps` | step of a run | `run, op, name, status, attempts, started_at, ended_at, duration_ms, input, output, error, last_checkpoint` |
//! | `attempts` | attempt of a step | `run, op, name, attempt, status, started_at, ended_at, duration_ms, error` |
//! | `checkpoints` | checkpoint of a step | `run, op, name, attempt, seq, ts, value` |
//! | `timers` | timer of a run | `run, op, name, status, fire_at, started_at, ended_at` |
//! | `signals` | signal that a run received | `run, op, name, seq, ts, value, number, key, sender, taken_at` |
//! | `promises` | promise of a run | `run, op, name, status, message, deadline, answers, started_at, closed_at` |
//!
//! `status` of a step is `running`, `completed`, `failed`, `cancelled` or `dropped`; of a timer
//! `waiting`, `fired`, `cancelled` or `dropped`; of an attempt `queued`, `running`, `held`,
//! `completed`, `failed`, `cut_off` or `dropped`. Values (`input`, `output`, `error`, `blocked`, `labels`, `value`,
//! `custom_status`) are JSON text. `attempts` of a step is the number of the last attempt that the
//! log knows of. `duration_ms` is `NULL` for what has not ended.
//!
//! | version | since | what it added |
//! |---|---|---|
//! | 1 | 0.1.0 | |
//! | 2 | 0.2.0 | `tidemill_runs.awaited` and `custom_status_seq`, three indexes; views `attempts` and `children`; columns `duration_ms`, `custom_status` |
//! | 3 | 0.2.0 | `tidemill_runs.cancel_seq`; column `cancel` of `runs`; status `cancelled` of steps and timers |
//! | 4 | 0.2.0 | `tidemill_signals`, `tidemill_promises`, `tidemill_runs.deadline`; view `promises`; column `deadline` of `runs`; columns `number`, `key`, `sender`, `taken_at` of `signals` |
//!
//! An app migrates its file when it opens it ([`migrate`]). A connection that only reads an older
//! file sees the newest views: temporary ones of the connection stand in for what the file lacks.

mod migrate;

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result, sqlite};
pub use migrate::{Migrated, migrate};

/// The schema version that this release writes, and the newest that it reads.
pub const SCHEMA_VERSION: i32 = 4;

/// The version of the log's own tables: `events`, `tidemill_meta` and `tidemill_gaps`. A sidecar
/// reads nothing else, so it takes a file of any schema version that keeps them as they are.
pub const LOG_VERSION: u32 = 1;

/// Marks a file as Tidemill's in SQLite's header: `tmil` in ASCII.
pub const APPLICATION_ID: i32 = 0x746d_696c;

/// The oldest SQLite that may touch the file: older ones can reset a WAL under a checkpoint that
/// races with a commit, which corrupts it.
pub const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// How rows are hashed, recorded in the file so that another way can follow one day.
pub(crate) const HASH_NAME: &str = "xxh3-64";

const TABLES: &str = include_str!("tables.sql");
const VIEWS: &str = include_str!("views.sql");

/// Makes the schema in an empty database, in one transaction.
pub(crate) fn install(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;{TABLES}{VIEWS}
        INSERT INTO tidemill_meta (key, value) VALUES
          ('schema', '{SCHEMA_VERSION}'), ('hash', '{HASH_NAME}'),
          ('tidemill', '{}'), ('shipped', '0');
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = {SCHEMA_VERSION};
        COMMIT;",
        env!("CARGO_PKG_VERSION")
    ))
}

/// Refuses a file that is not Tidemill's, and one of a newer schema, which names what it needs. The
/// file's schema version.
pub(crate) fn check(connection: &Connection, path: &std::path::Path) -> Result<i32> {
    let version = check_is_ours(connection, path)?;
    if (1..=SCHEMA_VERSION).contains(&version) {
        return Ok(version);
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

/// Refuses a file that is not Tidemill's. The file's schema version.
pub(crate) fn check_is_ours(connection: &Connection, path: &std::path::Path) -> Result<i32> {
    let failed = |e| sqlite(format_args!("read {}", path.display()), e);
    if pragma(connection, "application_id").map_err(failed)? != APPLICATION_ID {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{} is not a tidemill file: name a workflow.db", path.display()),
        ));
    }
    version(connection).map_err(failed)
}

/// The schema version of a file.
fn version(connection: &Connection) -> rusqlite::Result<i32> {
    pragma(connection, "user_version")
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i32> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// What a reader of version 1 lacks, as temporary views of its connection: they come before the
/// file's own of the same names. `awaited` is `NULL`: that file does not say.
const STAND_IN_FOR_1: &str = "
CREATE TEMP VIEW tidemill_runs AS
SELECT seq, run, workflow, status, created_at, ended_seq, blocked_seq, parent, parent_op, labels,
  NULL AS awaited, NULL AS custom_status_seq, NULL AS cancel_seq, NULL AS deadline
FROM main.tidemill_runs;
";

/// What a reader of version 2 lacks: nothing was cancelled in such a file.
const STAND_IN_FOR_2: &str = "
CREATE TEMP VIEW tidemill_runs AS
SELECT seq, run, workflow, status, created_at, ended_seq, blocked_seq, parent, parent_op, labels,
  awaited, custom_status_seq, NULL AS cancel_seq, NULL AS deadline
FROM main.tidemill_runs;
";

/// What a reader of version 3 lacks: no run of such a file has a deadline.
const STAND_IN_FOR_3: &str = "
CREATE TEMP VIEW tidemill_runs AS
SELECT *, NULL AS deadline FROM main.tidemill_runs;
";

/// What a reader of every older version lacks: no signal or promise was recorded in such a
/// file.
const STAND_IN_FOR_OLDER: &str = "
CREATE TEMP VIEW tidemill_signals AS
SELECT '' AS run, 0 AS number, '' AS name, 0 AS seq, NULL AS key, 0 AS bytes, NULL AS op,
  NULL AS taken_seq WHERE 0;
CREATE TEMP VIEW tidemill_promises AS
SELECT '' AS run, 0 AS op, '' AS name, 0 AS seq, '' AS status, NULL AS closed_seq, '{}' AS record
  WHERE 0;
";

/// Lets a connection that only reads see the newest views of a file of an older version. A table of
/// the author's that has the name of a new view stays visible.
pub(crate) fn stand_in(connection: &Connection, version: i32) -> rusqlite::Result<()> {
    if version >= SCHEMA_VERSION {
        return Ok(());
    }
    let mut sql = STAND_IN_FOR_OLDER.to_owned();
    sql.push_str(match version {
        1 => STAND_IN_FOR_1,
        2 => STAND_IN_FOR_2,
        _ => STAND_IN_FOR_3,
    });
    for (name, create) in views() {
        if migrate::is_ours(connection, name)? || !is_taken(connection, name)? {
            sql.push_str(&create.replacen("CREATE VIEW", "CREATE TEMP VIEW", 1));
        }
    }
    connection.execute_batch(&sql)
}

/// The views, each with its name and the statement that creates it.
fn views() -> impl Iterator<Item = (&'static str, &'static str)> {
    let named = |sql: &'static str| {
        let (_, after) = sql.split_once("CREATE VIEW ")?;
        Some((after.split_once(' ')?.0, sql))
    };
    VIEWS.split_inclusive(";\n").filter_map(named)
}

/// Whether the file has a table or view of this name.
fn is_taken(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = ?1)";
    connection.query_row(sql, [name], |row| row.get(0))
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
