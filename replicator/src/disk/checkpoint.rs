//! The sidecar's own writes to the database, while neither an app nor Litestream has it open.
//!
//! All of it is blocking: call it from a thread that may block. Crash: each step may be repeated.

use std::fs;
use std::io;

use tidemill_eventlog::{Beside, Checkpoints, Error, ErrorKind, FileLock, Meta};
use tidemill_model::{Epoch, InstanceId, NodeId};

use crate::disk::files::{self, FileError};
use crate::disk::open_by;

/// Moves the whole WAL into the file and empties it: the heart of the cure.
///
/// A dead app may have left frames in the WAL that it never published; Litestream would ship them.
/// This function first recovers the WAL as SQLite does, so that those frames are discarded or
/// committed, and then empties it. If another process has a transaction open, SQLite waits up to
/// 5 s; the caller may try again. If the file does not exist, nothing happens.
///
/// # Errors
/// `Unavailable` if a reader or writer still holds the file, with its name; what SQLite says.
pub(crate) fn truncate_wal(beside: &Beside, _locks: &BothLocks<'_>) -> Result<(), Error> {
    if !beside.db().exists() {
        return Ok(());
    }
    let connection = tidemill_eventlog::open_log_writer(beside.db(), Checkpoints::ByLitestream)?;
    if tidemill_eventlog::checkpoint_truncate(&connection)? {
        return Ok(());
    }
    let message = format!(
        "{} has a transaction open on {}: end it, nothing is shipped before",
        open_by::named(&open_by::in_transaction(beside)),
        beside.db().display()
    );
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// Records in the file that it belongs to this epoch and is shipped, and checkpoints that record
/// out of the WAL. Called before Litestream starts in a new epoch, and not again in the same one.
///
/// # Errors
/// As [`truncate_wal`].
pub(crate) fn mark_shipped(
    beside: &Beside,
    locks: &BothLocks<'_>,
    node: &NodeId,
    epoch: Epoch,
    instance: &InstanceId,
) -> Result<(), Error> {
    {
        let connection =
            tidemill_eventlog::open_log_writer(beside.db(), Checkpoints::ByLitestream)?;
        Meta::mark_shipped(&connection, node, epoch, instance)?;
    }
    truncate_wal(beside, locks)
}

/// Deletes Litestream's own state. Called before its first start under a new prefix, and never
/// while the prefix stays, because its next upload could then leave a hole.
///
/// # Errors
/// The file system's.
///
/// # Crash safety
/// A part may be left: repeat it before Litestream starts, as the state file's stage demands.
pub(crate) fn remove_litestream_state(
    beside: &Beside,
    _node_lock: &FileLock,
) -> Result<(), FileError> {
    let meta = beside.litestream_meta();
    match fs::remove_dir_all(&meta) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(FileError::new("delete", &meta, e)),
    }
    files::sync_folder(beside.folder())
}

/// Both locks, as proof that neither an app, nor another sidecar, nor a Litestream has the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BothLocks<'a> {
    _node: &'a FileLock,
    _app: &'a FileLock,
}

impl<'a> BothLocks<'a> {
    /// The proof for the files of `beside`.
    ///
    /// The node lock is inherited by Litestream, so holding it does not prove that our own
    /// Litestream is dead: its owner must have seen it end.
    ///
    /// # Panics
    /// If these are not the locks of `beside`.
    pub(crate) fn new(beside: &Beside, node: &'a FileLock, app: &'a FileLock) -> BothLocks<'a> {
        assert_eq!(node.path(), beside.node_lock(), "the node lock belongs to the database");
        assert_eq!(app.path(), beside.app_lock(), "the app lock belongs to the database");
        BothLocks { _node: node, _app: app }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_eventlog::{create, open_reader, open_writer};

    struct Held {
        _dir: tempfile::TempDir,
        beside: Beside,
        node: FileLock,
        app: FileLock,
    }

    fn held() -> Held {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        create(beside.db()).unwrap();
        let node = FileLock::take(&beside.node_lock()).unwrap();
        let app = FileLock::take(&beside.app_lock()).unwrap();
        Held { _dir: dir, beside, node, app }
    }

    #[test]
    fn the_wal_is_emptied_and_the_file_says_whose_it_is() {
        let held = held();
        let locks = BothLocks::new(&held.beside, &held.node, &held.app);
        let (node, epoch) = (NodeId::new("n1").unwrap(), Epoch::new(3).unwrap());
        let instance = InstanceId::from_random([1; 16]);
        mark_shipped(&held.beside, &locks, &node, epoch, &instance).unwrap();
        assert_eq!(crate::ship::wal::wal_bytes(&held.beside), 0);
        let meta = Meta::read(&open_reader(held.beside.db()).unwrap()).unwrap();
        assert!(meta.shipped);
        assert_eq!(
            (meta.node, meta.epoch, meta.instance),
            (Some(node), Some(epoch), Some(instance))
        );
    }

    #[test]
    fn a_reader_that_stays_is_reported_and_one_that_went_is_no_matter() {
        let held = held();
        let locks = BothLocks::new(&held.beside, &held.node, &held.app);
        let writer = open_writer(held.beside.db(), Checkpoints::ByLitestream).unwrap();
        let reader = open_reader(held.beside.db()).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
        reader.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
        writer.execute_batch("CREATE TABLE mine (x); INSERT INTO mine VALUES (1)").unwrap();
        let error = truncate_wal(&held.beside, &locks).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        // The reader is this process itself, which is not named to itself.
        let said = error.to_string();
        assert!(said.starts_with("another process has a transaction open on "), "{said}");
        drop(reader);
        truncate_wal(&held.beside, &locks).unwrap();
        assert_eq!(crate::ship::wal::wal_bytes(&held.beside), 0);
    }

    #[test]
    fn litestreams_state_is_deleted_whole() {
        let held = held();
        remove_litestream_state(&held.beside, &held.node).unwrap();
        let inner = held.beside.litestream_meta().join("ltx/0");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("x.ltx"), "x").unwrap();
        remove_litestream_state(&held.beside, &held.node).unwrap();
        assert!(!held.beside.litestream_meta().exists());
    }
}
