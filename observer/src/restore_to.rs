//! Writes a source to a new file of the user's: `tidemill restore`.
//!
//! The file appears under its name only after it was verified, by a link that fails if the name
//! is taken. A name with a `-wal` or `-shm` beside it is refused too: SQLite would read the
//! stranger's WAL as this file's.
//!
//! On failure, cancellation or a crash nothing of that name exists; after a crash a folder named
//! `.tidemill-restore-…` beside it may be left and can be deleted.

use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use serde::Serialize;
use tidemill_eventlog::{Checkpoints, Head, OwnCopy};
use tidemill_model::{InstanceId, NodeId};

use crate::bucket_point::BucketPoint;
use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::{Access, Origin};
use crate::source::Source;
use crate::verified::verify_file;

/// Pages that are copied before other tasks get their turn: 4 MiB, a few milliseconds.
const PAGES_A_STEP: i32 = 1_024;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredFile {
    /// The file.
    pub path: PathBuf,
    /// Where it came from.
    pub origin: Origin,
    /// The newest event in it, after the whole log was verified.
    pub head: Head,
    /// The node that it is now, if it is one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnNode>,
}

/// What a copy became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnNode {
    /// Which node, and what it is a copy of.
    #[serde(flatten)]
    pub copy: OwnCopy,
    /// How many of its runs are parked: all that had not ended.
    pub parked: u64,
}

/// A name for a copy that becomes a node of its own, with what makes it unlike every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnName {
    /// The node's name.
    pub name: NodeId,
    /// Random.
    pub id: InstanceId,
}

impl Access {
    /// Writes `source` to the new file `to`: as it was, or as a node of its own whose unfinished runs
    /// are parked.
    ///
    /// # Errors
    /// `Conflict` if `to` exists, or a WAL beside it; `Corrupt` if what would be written is
    /// damaged; else as [`Access::open`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn restore_to(
        &self,
        source: &Source,
        to: &Path,
        own: Option<OwnName>,
    ) -> Result<RestoredFile> {
        refuse_taken(to)?;
        let parent = folder_of(to);
        if !parent.is_dir() {
            let message = format!("there is no folder {}: make it first", parent.display());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let (origin, head, own) = if let Source::Bucket(url) = source {
            let point = BucketPoint::find(self, url).await?;
            let restored = point.restore(self, parent).await?;
            let head = head_of(restored.path())?;
            let own = self.make_own(restored.path(), own)?;
            place(restored.path(), to)?;
            (point.origin(), head, own)
        } else {
            let snapshot = self.open(source).await?;
            let folder = tempfile::Builder::new()
                .prefix(tidemill_bucket::RESTORE_DIR_PREFIX)
                .tempdir_in(parent)
                .map_err(|e| Error::io("make a folder in", parent, e))?;
            let copy = folder.path().join("workflow.db");
            copy_database(snapshot.connection(), &copy).await?;
            let head = verify_file(&copy).await?;
            let own = self.make_own(&copy, own)?;
            place(&copy, to)?;
            (snapshot.origin().clone(), head, own)
        };
        Ok(RestoredFile { path: to.to_owned(), origin, head, own })
    }

    /// Makes a file that has no name yet a node of its own, if that is wanted. After a crash here
    /// nothing of the wanted name exists.
    fn make_own(&self, file: &Path, own: Option<OwnName>) -> Result<Option<OwnNode>> {
        let Some(OwnName { name, id }) = own else { return Ok(None) };
        let connection = tidemill_eventlog::open_writer(file, Checkpoints::Own)?;
        tidemill_eventlog::migrate(&connection)?;
        let (copy, parked) = tidemill_eventlog::make_own(&connection, &name, id, self.now)?;
        tidemill_eventlog::verify(&connection)?;
        // Everything has to be in the file: only that gets its name.
        if !tidemill_eventlog::checkpoint_truncate(&connection)? {
            let message = format!("{} is in use", file.display());
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let failed = |(_, e)| tidemill_eventlog::sqlite("close the copy", e);
        connection.close().map_err(failed)?;
        Ok(Some(OwnNode { copy, parked }))
    }
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

pub(crate) fn refuse_taken(to: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = to.as_os_str().to_owned();
        name.push(suffix);
        let name = PathBuf::from(name);
        if name.symlink_metadata().is_ok() {
            let message = format!("{} exists: nothing is overwritten", name.display());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
    }
    Ok(())
}

fn head_of(path: &Path) -> Result<Head> {
    tidemill_eventlog::head(&tidemill_eventlog::open_snapshot(path)?)
}

/// Gives the file its name unless the name is taken, and syncs it.
pub(crate) fn place(file: &Path, to: &Path) -> Result<()> {
    refuse_taken(to)?;
    let failed = |e: std::io::Error| Error::io("write", to, e);
    std::fs::File::open(file).and_then(|file| file.sync_all()).map_err(failed)?;
    let (cwd, no_replace) = (rustix::fs::CWD, rustix::fs::RenameFlags::NOREPLACE);
    rustix::fs::renameat_with(cwd, file, cwd, to, no_replace).map_err(|e| failed(e.into()))?;
    std::fs::File::open(folder_of(to)).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// A consistent copy of a file that may be written meanwhile.
///
/// # Cancel safety
/// When the future is dropped, the copy is not whole.
pub(crate) async fn copy_database(from: &rusqlite::Connection, to: &Path) -> Result<()> {
    let failed = |e| tidemill_eventlog::sqlite("copy the file", e);
    let flags =
        rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_CREATE;
    let mut copy = rusqlite::Connection::open_with_flags(to, flags).map_err(failed)?;
    // One read transaction around the copy keeps a writer's commits from restarting it.
    let snapshot = from.unchecked_transaction().map_err(failed)?;
    snapshot.query_row("SELECT count(*) FROM tidemill_meta", [], |_| Ok(())).map_err(failed)?;
    let backup = Backup::new(&snapshot, &mut copy).map_err(failed)?;
    loop {
        match backup.step(PAGES_A_STEP).map_err(failed)? {
            StepResult::Done => break,
            StepResult::More => {}
            _ => {
                let what = "the file was locked while it was copied: try again";
                return Err(Error::new(ErrorKind::Unavailable, what));
            }
        }
        // A signal ends a copy of many gigabytes, too.
        tokio::task::yield_now().await;
    }
    drop(backup);
    drop(snapshot);
    copy.close().map_err(|(_, e)| failed(e))
}

#[cfg(test)]
mod tests;
