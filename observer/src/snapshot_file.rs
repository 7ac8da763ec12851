//! A source as a file that another program can open.
//!
//! A snapshot in the cache already is one: it is used in place, and held there while it is in use.
//! Any other source is copied, as of one moment, into a temporary folder, because a program may be
//! writing a user's file, and a node's answer is not a file on this disk. The file is read-only, so
//! that the program that opens it cannot change what others see.
//!
//! On failure or cancellation the temporary folder is removed. A killed process may leave a folder
//! `tidemill-snapshot-…` in the system's temporary folder; it can be deleted.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::restore_to::copy_database;
use crate::snapshot::{Access, Snapshot};
use crate::source::Source;

/// An open source and the file that it is in, for as long as this lives.
#[derive(Debug)]
pub struct SnapshotFile {
    snapshot: Snapshot,
    path: PathBuf,
    /// Deleted when this is dropped; declared last, so after the connection is closed.
    _folder: Option<TempDir>,
}

impl SnapshotFile {
    /// The open source.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The file: nothing changes it, and no WAL lies beside it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Access {
    /// Opens a source as a file that another program can open.
    ///
    /// # Errors
    /// As [`Access::open`], and what making a copy says: it takes as much room in the folder for
    /// temporary files (`TMPDIR`) as the file is large.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open_file(&self, source: &Source) -> Result<SnapshotFile> {
        let snapshot = self.open(source).await?;
        if let Some(place) = snapshot.place() {
            let path = place.to_owned();
            return Ok(SnapshotFile { snapshot, path, _folder: None });
        }
        let folder = tempfile::Builder::new()
            .prefix("tidemill-snapshot-")
            .tempdir()
            .map_err(|e| Error::io("make a folder in", &std::env::temp_dir(), e))?;
        let path = folder.path().join("workflow.db");
        copy_database(snapshot.connection(), &path).await?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444))
            .map_err(|e| Error::io("protect", &path, e))?;
        let connection = tidemill_eventlog::open_snapshot(&path)?;
        let snapshot = Snapshot::of_copy(connection, snapshot.origin().clone());
        Ok(SnapshotFile { snapshot, path, _folder: Some(folder) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::testing::file;

    fn access(folder: &Path) -> Access {
        Access {
            s3: tidemill_bucket::Settings::default(),
            cache: Cache::new(folder.to_owned()),
            litestream: None,
            token: None,
            now: tidemill_eventlog::host::wall_now(),
        }
    }

    #[tokio::test]
    async fn a_users_file_is_copied_and_left_as_it_is() {
        let (dir, path) = file();
        let before = std::fs::read(&path).unwrap();
        let opened = access(dir.path()).open_file(&Source::File(path.clone())).await.unwrap();
        let copy = opened.path().to_owned();
        assert_ne!(copy, path);
        let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
        let sql = "SELECT count(*) FROM events";
        let count = |of: &rusqlite::Connection| of.query_row(sql, [], |row| row.get::<_, i64>(0));
        let there = count(&tidemill_eventlog::open_any(&path).unwrap()).unwrap();
        assert!(there > 0);
        assert_eq!(count(opened.snapshot().connection()).unwrap(), there);
        assert_eq!(count(&tidemill_eventlog::open_any(&copy).unwrap()).unwrap(), there);
        drop(opened);
        assert!(!copy.parent().unwrap().exists(), "{}", copy.display());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
