//! Makes a consistent copy of the file as of one moment.
//!
//! SQLite's backup API copies the file into one beside the database, in one read transaction, so
//! writers continue meanwhile. The copy is unlinked as soon as it is open, so the disk keeps
//! nothing of it. Crash: the next copy replaces an unfinished one. Shutdown: copying stops within
//! one batch of pages.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, closed};

/// Pages copied between two checks whether the node closes: 16 MiB, some tens of milliseconds.
const BATCH_PAGES: i32 = 4_096;

fn failed(what: &str, e: io::Error) -> Error {
    Error::caused(ErrorKind::Unavailable, format_args!("cannot {what} for a snapshot"), e)
}

/// Copies the whole database and returns the copy, already unlinked.
pub(super) fn backup(
    file: &Connection,
    path: &Path,
    closing: &CancellationToken,
) -> Result<File, Error> {
    let _cleanup = Unlink(path.to_owned());
    remove(path).map_err(|e| failed("replace an old copy", e))?;
    let copied =
        |e| Error::caused(ErrorKind::Unavailable, "cannot copy the file for a snapshot", e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut copy = Connection::open_with_flags(path, flags).map_err(copied)?;
    copy.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF").map_err(copied)?;
    // One read transaction around all batches makes the copy one moment, and keeps writes from
    // restarting it.
    let moment = file.unchecked_transaction().map_err(copied)?;
    moment.query_row("SELECT count(*) FROM tidemill_meta", [], |_| Ok(())).map_err(copied)?;
    copy_pages(&moment, &mut copy, closing, copied)?;
    drop(moment);
    copy.close().map_err(|(_, e)| copied(e))?;
    File::open(path).map_err(|e| failed("open the copy", e))
}

fn copy_pages(
    from: &Connection,
    to: &mut Connection,
    closing: &CancellationToken,
    copied: impl Fn(rusqlite::Error) -> Error,
) -> Result<(), Error> {
    use rusqlite::backup::{Backup, StepResult};
    let backup = Backup::new(from, to).map_err(&copied)?;
    while !closing.is_cancelled() {
        match backup.step(BATCH_PAGES).map_err(&copied)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => {
                let what = "the file was locked while it was copied for a snapshot: try again";
                return Err(Error::new(ErrorKind::Unavailable, what));
            }
        }
    }
    Err(closed())
}

struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove a snapshot's copy");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tidemill_eventlog::{Checkpoints, create, open_reader, open_snapshot, open_writer};

    use super::*;

    /// A file of several batches, in a table whose rows must stay equal.
    fn large(folder: &Path) -> PathBuf {
        let path = folder.join("workflow.db");
        create(&path).unwrap();
        let writer = open_writer(&path, Checkpoints::Own).unwrap();
        writer
            .execute_batch(
                "CREATE TABLE mine (n INTEGER, filler BLOB); WITH RECURSIVE c (i) AS (SELECT 1
                 UNION ALL SELECT i + 1 FROM c WHERE i < 400)
                 INSERT INTO mine SELECT 0, zeroblob(100000) FROM c",
            )
            .unwrap();
        path
    }

    #[test]
    fn a_copy_of_many_batches_is_of_one_moment_while_a_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = large(folder.path());
        let (done, closing) = (AtomicBool::new(false), CancellationToken::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let writer = open_writer(&path, Checkpoints::Own).unwrap();
                while !done.load(Ordering::Relaxed) {
                    writer.execute_batch("UPDATE mine SET n = n + 1").unwrap();
                }
            });
            let reader = open_reader(&path).unwrap();
            let name = folder.path().join("copy");
            let copied = backup(&reader, &name, &closing);
            done.store(true, Ordering::Relaxed);
            let mut copied = copied.unwrap();
            assert!(!name.exists());
            let mut named = File::create(folder.path().join("named")).unwrap();
            io::copy(&mut copied, &mut named).unwrap();
        });
        let copy = open_snapshot(&folder.path().join("named")).unwrap();
        let count = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(DISTINCT n) FROM mine"), 1);
        assert_eq!(count("SELECT count(*) FROM mine"), 400);
        assert!(tidemill_eventlog::fsck(&copy).unwrap().is_clean());
    }

    #[test]
    fn a_copy_is_given_up_when_the_node_closes() {
        let folder = tempfile::tempdir().unwrap();
        let path = large(folder.path());
        let closing = CancellationToken::new();
        closing.cancel();
        let name = folder.path().join("copy");
        let error = backup(&open_reader(&path).unwrap(), &name, &closing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(!name.exists());
    }
}
