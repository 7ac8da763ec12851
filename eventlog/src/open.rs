//! Creating and opening the file, with the settings that keep Litestream and SQLite honest.
//!
//! A writer whose file may be shipped must never checkpoint: a checkpoint while Litestream is away
//! makes a hole in the replica that no later call reports. So a writer says by [`Checkpoints`] who
//! does it, and our connections never checkpoint when they close unless the app owns the file
//! alone.
//!
//! Crash: [`create`] builds the file under another name and renames it into place, so a file of
//! the right name has its whole schema. A leftover of the other name is replaced.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, ErrorKind, Result, sqlite};
use crate::schema;

/// How long a connection waits for a lock: Litestream holds the write lock while it cuts the WAL,
/// which takes milliseconds; only a stuck process holds it for seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Which program checkpoints: moves the WAL's pages into the database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoints {
    /// Litestream alone: a sidecar ships this file.
    ByLitestream,
    /// The writer itself, as SQLite does by default: no sidecar ever had the file.
    Own,
}

/// Opens `name`, which is `path` itself or its URI.
fn connect(path: &Path, name: &Path, flags: OpenFlags) -> Result<Connection> {
    schema::check_sqlite()?;
    let failed = |e| open_failed(path, e);
    let connection = Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    Ok(connection)
}

fn open_failed(path: &Path, source: rusqlite::Error) -> Error {
    let (code, shown) = (source.sqlite_error_code(), path.display());
    if code == Some(rusqlite::ErrorCode::CannotOpen) && !path.exists() {
        return Error::new(ErrorKind::NotFound, format!("there is no file {shown}"));
    }
    if path.is_dir() {
        let what = format!("{shown} is a folder: name the workflow.db in it");
        return Error::new(ErrorKind::Invalid, what);
    }
    match code {
        Some(rusqlite::ErrorCode::NotADatabase) => {
            let what = format!("{shown} is not a tidemill file: name a workflow.db");
            Error::new(ErrorKind::Invalid, what)
        }
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
            let what = "is damaged: `tidemill restore` gets what was shipped of it from the bucket";
            sqlite(format_args!("{shown} {what}"), source)
        }
        _ => sqlite(format_args!("open {shown}"), source),
    }
}

/// What an opener is going to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Everything: a file of a newer schema version than this release's is refused.
    All,
    /// The log's own tables only: any schema version will do.
    Log,
}

/// Checks what the file is, and which schema version. Reading its header may be the first thing
/// that fails.
fn checked(connection: Connection, path: &Path, reach: Reach) -> Result<(Connection, i32)> {
    connection
        .query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))
        .map_err(|e| open_failed(path, e))?;
    let version = match reach {
        Reach::All => schema::check(&connection, path)?,
        Reach::Log => schema::check_is_ours(&connection, path)?,
    };
    Ok((connection, version))
}

/// Opens the file for writing, as it is: [`crate::migrate`] brings its schema up to date. The
/// caller holds the app's lock; who checkpoints is decided by whether a sidecar may ever ship the
/// file.
///
/// # Errors
/// `NotFound`; `Invalid` for a file that is not Tidemill's or of a newer schema; what SQLite says.
pub fn open_writer(path: &Path, checkpoints: Checkpoints) -> Result<Connection> {
    writer(path, checkpoints, Reach::All)
}

/// As [`open_writer`], for a caller that touches the log's own tables only: `events`,
/// `tidemill_meta` and `tidemill_gaps`, which are the same in every schema version. A sidecar may
/// be older than its app, and takes any.
///
/// # Errors
/// As [`open_writer`], but for the schema version.
pub fn open_log_writer(path: &Path, checkpoints: Checkpoints) -> Result<Connection> {
    writer(path, checkpoints, Reach::Log)
}

fn writer(path: &Path, checkpoints: Checkpoints, reach: Reach) -> Result<Connection> {
    let connection = connect(path, path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let (connection, _) = checked(connection, path, reach)?;
    prepare_writer(&connection, checkpoints).map_err(|e| open_failed(path, e))?;
    Ok(connection)
}

fn prepare_writer(connection: &Connection, checkpoints: Checkpoints) -> rusqlite::Result<()> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    assert_eq!(mode, "wal", "a file on a disk can have a WAL");
    // recursive_triggers lets INSERT OR REPLACE meet the trigger that refuses deletes.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON;",
    )?;
    match checkpoints {
        Checkpoints::ByLitestream => {
            never_checkpoint(connection)?;
        }
        Checkpoints::Own => {}
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn never_checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |row| row.get::<_, i64>(0))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// Opens a file that others may be writing, for reading only.
///
/// # Errors
/// As [`open_writer`].
pub fn open_reader(path: &Path) -> Result<Connection> {
    reader(path, Reach::All)
}

/// As [`open_reader`], for a caller that reads the log's own tables only, as [`open_log_writer`]
/// says.
///
/// # Errors
/// As [`open_log_writer`].
pub fn open_log_reader(path: &Path) -> Result<Connection> {
    reader(path, Reach::Log)
}

fn reader(path: &Path, reach: Reach) -> Result<Connection> {
    let connection = connect(path, path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    never_checkpoint(&connection).map_err(|e| open_failed(path, e))?;
    let connection = only_reading(checked(connection, path, reach)?, path, reach)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn only_reading(
    (connection, version): (Connection, i32),
    path: &Path,
    reach: Reach,
) -> Result<Connection> {
    let failed = |e| open_failed(path, e);
    if reach == Reach::All {
        schema::stand_in(&connection, version).map_err(failed)?;
    }
    connection.execute_batch("PRAGMA query_only = ON").map_err(failed)?;
    Ok(connection)
}

/// Opens a restored file that has no writer, as it lies on the disk: no lock, no `-shm`, nothing
/// is created beside it, and its folder may be read-only.
///
/// # Errors
/// As [`open_writer`]; `Conflict` if a WAL lies beside it, because it would not be read.
pub fn open_snapshot(path: &Path) -> Result<Connection> {
    snapshot(path, Reach::All)
}

/// As [`open_snapshot`], for a caller that reads the log's own tables only, as [`open_log_writer`]
/// says.
///
/// # Errors
/// As [`open_snapshot`], but for the schema version.
pub fn open_log_snapshot(path: &Path) -> Result<Connection> {
    snapshot(path, Reach::Log)
}

fn snapshot(path: &Path, reach: Reach) -> Result<Connection> {
    if wal_bytes(path) > 0 {
        let what = format!("{} has a WAL beside it: it is not a snapshot", path.display());
        return Err(Error::new(ErrorKind::Conflict, what));
    }
    if !path.exists() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no file {}", path.display()),
        ));
    }
    let path_absolute = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
    let uri = PathBuf::from(format!("file:{}?immutable=1", percent_encoded(&path_absolute)));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    only_reading(checked(connect(path, &uri, flags)?, path, reach)?, path, reach)
}

/// Opens a file that a person named, for reading: one with a WAL as a live file, another as a
/// snapshot, so that a copy in a read-only folder can be read.
///
/// # Errors
/// As [`open_reader`].
pub fn open_any(path: &Path) -> Result<Connection> {
    let live = crate::Beside::new(path).wal().exists();
    if live { open_reader(path) } else { open_snapshot(path) }
}

fn wal_bytes(path: &Path) -> u64 {
    std::fs::metadata(crate::Beside::new(path).wal()).map_or(0, |meta| meta.len())
}

/// The path in an SQLite URI: every byte but the plain ones as `%XX`.
fn percent_encoded(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    text
}

/// Makes a new file with its schema and closes it, so that Litestream can take it before an app
/// opens it. The file and its folder are synced.
///
/// # Errors
/// `Conflict` if there is a file already; `NotFound` if its folder does not exist; what SQLite or
/// the file system say.
///
/// # Crash safety
/// After a crash there is either no file of this name, or the whole one.
pub fn create(path: &Path) -> Result<()> {
    let exists = || Error::new(ErrorKind::Conflict, format!("{} exists", path.display()));
    if path.exists() {
        return Err(exists());
    }
    let building = crate::Beside::new(path).with(".new");
    for leftover in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(crate::Beside::new(&building).with(leftover));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = connect(&building, &building, flags)?;
    prepare_writer(&connection, Checkpoints::Own)
        .and_then(|()| schema::install(&connection))
        .map_err(|e| open_failed(path, e))?;
    connection.close().map_err(|(_, e)| open_failed(path, e))?;
    let failed = |e: std::io::Error| Error::io("create", path, e);
    std::fs::File::open(&building).and_then(|file| file.sync_all()).map_err(failed)?;
    let cwd = rustix::fs::CWD;
    let no_replace = rustix::fs::RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(cwd, &building, cwd, path, no_replace) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(exists()),
        Err(e) => return Err(failed(e.into())),
    }
    sync_folder_of(path).map_err(failed)
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    std::fs::File::open(folder)?.sync_all()
}

/// Moves the whole WAL into the file and empties it, waiting for readers up to the busy timeout.
/// Returns whether it was done (SQLite's `busy` = 0). Only for a file that no Litestream has open.
///
/// # Errors
/// What SQLite says.
pub fn checkpoint_truncate(connection: &Connection) -> Result<bool> {
    let busy = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        .map_err(|e| sqlite("checkpoint the file", e))?;
    Ok(busy == 0)
}
