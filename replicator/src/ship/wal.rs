//! Reports changes of the WAL, by inotify on its directory, and how much of it is unshipped.
//!
//! The watch is on the directory and not on the file, because the WAL is deleted and made again.
//! Nothing polls: an idle node's watcher sleeps in the kernel. Reading the WAL causes no change.
//!
//! Failure: if the kernel drops events (its queue overflows) that counts as a change. If the
//! directory goes away, [`WalWatch::changed`] reports it and the node must end. Changes are
//! coalesced: after a change was reported, the next one means that something happened since.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tidemill_eventlog::Beside;
use tokio::sync::watch;

/// Why the WAL is not watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// Watching could not begin.
    #[error("cannot watch the directory path={}: {source}", path.display())]
    Start {
        /// The directory.
        path: PathBuf,
        /// The kernel's error, often that `fs.inotify.max_user_instances` is used up.
        source: notify::Error,
    },
    /// The watcher ended: the directory is gone.
    #[error("the directory path={} is no longer watched: it was removed or moved", path.display())]
    Ended {
        /// The directory.
        path: PathBuf,
    },
}

/// A watch over one database's WAL. Ends when dropped.
#[derive(Debug)]
pub(crate) struct WalWatch {
    changes: watch::Receiver<FolderEvent>,
    folder: PathBuf,
    /// Held for its thread, which ends with it.
    _watcher: RecommendedWatcher,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FolderEvent {
    Change,
    FolderGone,
}

impl WalWatch {
    /// Begins to watch. The database need not exist yet, its folder must.
    ///
    /// # Errors
    /// [`WatchError::Start`].
    pub(crate) fn start(beside: &Beside) -> Result<WalWatch, WatchError> {
        let folder = beside.folder().to_owned();
        let failed = |source| WatchError::Start { path: beside.folder().to_owned(), source };
        let (tell, changes) = watch::channel(FolderEvent::Change);
        let (wal, watched) = (beside.wal(), folder.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let seen = match event {
                Ok(event) => concerns(&event, &wal, &watched),
                Err(e) => {
                    tracing::warn!(error = %e, "watching the WAL failed");
                    Some(FolderEvent::Change)
                }
            };
            if let Some(seen) = seen {
                tell.send_replace(seen);
            }
        })
        .map_err(failed)?;
        watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(failed)?;
        Ok(WalWatch { changes, folder, _watcher: watcher })
    }

    /// Waits for a change since the last call returned, or since the watch began.
    ///
    /// # Errors
    /// [`WatchError::Ended`] if the directory is gone.
    ///
    /// # Cancel safety
    /// No change is lost.
    pub(crate) async fn changed(&mut self) -> Result<(), WatchError> {
        let ended = WatchError::Ended { path: self.folder.clone() };
        match self.changes.changed().await {
            Ok(()) if *self.changes.borrow_and_update() == FolderEvent::Change => Ok(()),
            _ => Err(ended),
        }
    }
}

/// What an event of the directory means for the WAL; `None` for opening, reading, and the other
/// files beside the database.
fn concerns(event: &Event, wal: &Path, folder: &Path) -> Option<FolderEvent> {
    if event.need_rescan() {
        return Some(FolderEvent::Change);
    }
    let names = |path: &Path| event.paths.iter().any(|named| named == path);
    match event.kind {
        EventKind::Remove(_) if names(folder) => Some(FolderEvent::FolderGone),
        EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Access(_) => None,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) if names(wal) => {
            Some(FolderEvent::Change)
        }
        _ => None,
    }
}

/// The size of the WAL file in bytes; 0 if there is none. The file keeps its size when SQLite
/// begins it again: see [`WalEnd`] for what is in it.
pub(crate) fn wal_bytes(beside: &Beside) -> u64 {
    std::fs::metadata(beside.wal()).map_or(0, |meta| meta.len())
}

const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;
/// The two copies of the index's head, which are valid when they are equal.
const INDEX_HEAD_BYTES: usize = 96;
const WAL_MAGIC: [u32; 2] = [0x377f_0682, 0x377f_0683];

/// Where the frames of the WAL's present generation end: a gauge for the lag, not a proof.
///
/// Frames are counted whose salt is that of the header, committed or not (SQLite's file format,
/// "The Write-Ahead Log"). Reading costs one small read per new frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalEnd {
    salts: [u8; 8],
    /// The length of a frame.
    frame: u64,
    offset: u64,
    /// Where the last frame ends that ends a commit.
    committed: u64,
}

impl WalEnd {
    /// Reads the present end, continuing from an `earlier` one of the same generation. `None` if
    /// there is no WAL with frames.
    pub(crate) fn read(beside: &Beside, earlier: Option<&WalEnd>) -> Option<WalEnd> {
        let file = File::open(beside.wal()).ok()?;
        let mut header = [0; 32];
        file.read_exact_at(&mut header, 0).ok()?;
        let word = |at: usize| {
            let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_be_bytes)
        };
        let page = word(8);
        if !WAL_MAGIC.contains(&word(0)) || page < 512 {
            return None;
        }
        let salts: [u8; 8] = header.get(16..24)?.try_into().ok()?;
        let known = earlier.filter(|earlier| earlier.salts == salts);
        let frame = FRAME_HEADER_BYTES + u64::from(page);
        // Frames after the last commit may have been overwritten since.
        let mut committed = known.map_or(WAL_HEADER_BYTES, |earlier| earlier.committed);
        let mut offset = committed;
        let mut head = [0; 16];
        while file.read_exact_at(&mut head, offset).is_ok() && head.get(8..16) == Some(&salts[..]) {
            offset += frame;
            if head.get(4..8) != Some(&[0; 4]) {
                committed = offset;
            }
        }
        Some(WalEnd { salts, frame, offset, committed })
    }

    /// Whether the writer has published each commit up to here. If a writer dies after it has
    /// written a commit's frames and before it has published them, the commit never took place: the
    /// next writer overwrites it, unless nobody has the file open then. Litestream ships it all the
    /// same.
    ///
    /// SQLite's index of the WAL says what is published (file format, "WAL-Index Format"). An index
    /// of another generation is a newer one, which begins only when everything before is published.
    pub(crate) fn is_published(&self, beside: &Beside) -> bool {
        let mut head = [0; INDEX_HEAD_BYTES];
        let read = File::open(beside.shm()).and_then(|file| file.read_exact_at(&mut head, 0));
        if let Err(error) = read {
            // Without an index no process has the file open, so none is in the middle of a commit.
            return error.kind() == std::io::ErrorKind::NotFound;
        }
        let (first, second) = head.split_at(INDEX_HEAD_BYTES / 2);
        let told = first.get(16..20).and_then(|bytes| bytes.try_into().ok());
        let told = told.map_or(0, u32::from_ne_bytes);
        let is_whole = first == second && first.get(12) == Some(&1);
        let end = WAL_HEADER_BYTES + u64::from(told) * self.frame;
        is_whole && (first.get(32..40) != Some(&self.salts[..]) || end >= self.committed)
    }

    /// How many bytes follow `shipped`, the end that was read before the last upload; all of them
    /// if the WAL began again since, or if nothing was shipped.
    pub(crate) fn bytes_since(&self, shipped: Option<&WalEnd>) -> u64 {
        let from = shipped.filter(|shipped| shipped.salts == self.salts);
        self.offset.saturating_sub(from.map_or(WAL_HEADER_BYTES, |shipped| shipped.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::time::Duration;
    use tidemill_eventlog::{Checkpoints, checkpoint_truncate, create, open_writer};

    fn database() -> (tempfile::TempDir, Beside, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        create(beside.db()).unwrap();
        let connection = open_writer(beside.db(), Checkpoints::ByLitestream).unwrap();
        connection.execute_batch("CREATE TABLE mine (x)").unwrap();
        (dir, beside, connection)
    }

    async fn quiet(watch: &mut WalWatch) {
        // Reads until nothing more comes: the events of earlier writes may still be on their way.
        while tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_ok() {}
    }

    #[tokio::test]
    async fn a_commit_is_a_change_and_a_read_is_none() {
        let (_dir, beside, connection) = database();
        let mut watch = WalWatch::start(&beside).unwrap();
        quiet(&mut watch).await;
        connection.execute("INSERT INTO mine VALUES (1)", []).unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
        quiet(&mut watch).await;
        connection.query_row("SELECT count(*) FROM mine", [], |row| row.get::<_, i64>(0)).unwrap();
        std::fs::read(beside.wal()).unwrap();
        std::fs::write(beside.node_state(), "{}").unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
        assert!(silence.is_err(), "a look at the WAL must not wake anybody");
    }

    #[tokio::test]
    async fn a_wal_that_is_made_again_is_seen() {
        let (_dir, beside, connection) = database();
        let mut watch = WalWatch::start(&beside).unwrap();
        drop(connection);
        std::fs::remove_file(beside.wal()).unwrap();
        quiet(&mut watch).await;
        let connection = open_writer(beside.db(), Checkpoints::ByLitestream).unwrap();
        connection.execute_batch("CREATE TABLE other (x)").unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_an_error() {
        let (dir, beside, connection) = database();
        let mut watch = WalWatch::start(&beside).unwrap();
        drop(connection);
        drop(dir);
        let ended = async { while watch.changed().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
    }

    #[test]
    fn the_end_follows_the_frames_and_knows_a_new_generation() {
        let (_dir, beside, connection) = database();
        let first = WalEnd::read(&beside, None).unwrap();
        assert_eq!(first.offset, wal_bytes(&beside));
        assert_eq!(first.bytes_since(None), wal_bytes(&beside) - WAL_HEADER_BYTES);
        connection.execute("INSERT INTO mine VALUES (zeroblob(9000))", []).unwrap();
        let second = WalEnd::read(&beside, Some(&first)).unwrap();
        assert_eq!(second, WalEnd::read(&beside, None).unwrap());
        assert_eq!(second.bytes_since(Some(&first)), wal_bytes(&beside) - first.offset);
        // A passive checkpoint keeps the file's size and lets the next commit begin it again.
        connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0))
            .unwrap();
        connection.execute("INSERT INTO mine VALUES (1)", []).unwrap();
        let again = WalEnd::read(&beside, Some(&second)).unwrap();
        assert!(again.offset < wal_bytes(&beside));
        assert_eq!(again.bytes_since(Some(&second)), again.offset - WAL_HEADER_BYTES);
        assert!(checkpoint_truncate(&connection).unwrap());
        assert_eq!(WalEnd::read(&beside, Some(&again)), None);
    }

    #[test]
    fn a_commit_is_published_when_the_index_says_so() {
        let (_dir, beside, connection) = database();
        let before = std::fs::read(beside.shm()).unwrap();
        connection.execute("INSERT INTO mine VALUES (1)", []).unwrap();
        let end = WalEnd::read(&beside, None).unwrap();
        assert!(end.is_published(&beside));
        // As it is while a commit's frames are written and the writer waits for the disk.
        let index = File::options().write(true).open(beside.shm()).unwrap();
        let after = std::fs::read(beside.shm()).unwrap();
        index.write_all_at(&before, 0).unwrap();
        assert!(!end.is_published(&beside));
        index.write_all_at(&after, 0).unwrap();
        assert!(end.is_published(&beside));
        // A transaction that spilt pages and was rolled back leaves frames of no commit.
        connection
            .execute_batch("PRAGMA cache_size = 1; BEGIN; INSERT INTO mine VALUES (zeroblob(900000)); ROLLBACK")
            .unwrap();
        let spilt = WalEnd::read(&beside, Some(&end)).unwrap();
        assert!(spilt.bytes_since(Some(&end)) > 0 && spilt.is_published(&beside));
        connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0))
            .unwrap();
        connection.execute("INSERT INTO mine VALUES (1)", []).unwrap();
        assert!(spilt.is_published(&beside), "a new generation began");
    }
}
