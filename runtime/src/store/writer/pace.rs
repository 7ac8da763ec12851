//! Leaves gaps between commits for Litestream.
//!
//! A writer that begins its next transaction the moment the last one ended starves Litestream's
//! checkpoint, which needs the write lock for a moment: the WAL then grows without end. So the
//! writer pauses between commits while a caller waits for a barrier, or while the WAL is large.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tidemill_eventlog::Checkpoints;

use crate::error::Error;

/// The gap: long enough for a waiter that tries the lock every few hundred microseconds, short
/// enough to leave hundreds of commits a second.
const GAP: Duration = Duration::from_millis(1);

/// 64 MiB of WAL in pages of 4 KiB. A busy writer makes some 20 MiB between two syncs of
/// Litestream, each of which may checkpoint; much more means that Litestream could not.
const WAL_PAGES_SOFT_MAX: i32 = 16_384;

/// Decides whether to pause after a commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    /// Whether a caller waits for a barrier.
    pub(crate) barrier_waits: Arc<AtomicBool>,
    /// How many pages of the WAL no checkpoint has moved yet; stays 0 if the writer checkpoints
    /// itself. The WAL's file size does not show this, because it never shrinks.
    wal_pages: Arc<AtomicI32>,
    #[cfg(test)]
    gaps: Arc<std::sync::atomic::AtomicU64>,
}

impl Pace {
    /// Makes SQLite report the WAL's size at each commit, if Litestream checkpoints.
    pub(crate) fn watch(
        &self,
        connection: &mut Connection,
        checkpoints: Checkpoints,
    ) -> Result<(), Error> {
        match checkpoints {
            // The hook would replace SQLite's own checkpoints.
            Checkpoints::Own => Ok(()),
            Checkpoints::ByLitestream => {
                let pages = Arc::clone(&self.wal_pages);
                let hook = move |_: &mut rusqlite::hooks::Wal, now: i32| {
                    pages.store(now, Ordering::Relaxed);
                    Ok(())
                };
                connection
                    .wal_hook(Some(hook))
                    .map_err(|e| tidemill_eventlog::sqlite("watch the WAL's size", e))
            }
        }
    }

    pub(super) fn after_commit(&self) {
        let wal_pages = self.wal_pages.load(Ordering::Relaxed);
        if leaves_gap(self.barrier_waits.load(Ordering::Relaxed), wal_pages) {
            #[cfg(test)]
            self.gaps.fetch_add(1, Ordering::Relaxed);
            std::thread::park_timeout(GAP);
        }
    }

    /// How many gaps were left.
    #[cfg(test)]
    pub(super) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Makes the WAL look as if it had this many pages.
    #[cfg(test)]
    pub(super) fn set_wal_pages(&self, pages: i32) {
        self.wal_pages.store(pages, Ordering::Relaxed);
    }
}

/// Whether Litestream needs a gap now.
fn leaves_gap(barrier_waits: bool, wal_pages: i32) -> bool {
    barrier_waits || wal_pages > WAL_PAGES_SOFT_MAX
}

#[cfg(test)]
mod tests {
    use tidemill_eventlog::{create, open_writer};

    use super::*;

    #[test]
    fn a_gap_is_left_for_a_barrier_and_for_a_large_wal() {
        assert!(!leaves_gap(false, 0));
        assert!(!leaves_gap(false, WAL_PAGES_SOFT_MAX));
        assert!(leaves_gap(false, WAL_PAGES_SOFT_MAX + 1));
        assert!(leaves_gap(true, 0));
    }

    #[test]
    fn the_wal_is_watched_only_where_litestream_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let pages = |name: &str, checkpoints| {
            let path = folder.path().join(name);
            create(&path).unwrap();
            let mut connection = open_writer(&path, checkpoints).unwrap();
            let pace = Pace::default();
            pace.watch(&mut connection, checkpoints).unwrap();
            let grow = "CREATE TABLE t AS SELECT zeroblob(100000) AS b";
            connection.execute_batch(grow).unwrap();
            pace.wal_pages.load(Ordering::Relaxed)
        };
        // 100 kB are 25 pages of 4 KiB.
        assert!(pages("shipped.db", Checkpoints::ByLitestream) >= 25);
        assert_eq!(pages("own.db", Checkpoints::Own), 0);
    }
}
