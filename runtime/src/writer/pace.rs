//! Leaving Litestream a gap.
//!
//! A writer that begins its next transaction the moment the last one ended starves Litestream's
//! checkpoint, which needs the write lock for a moment: the WAL then grows without end. So the
//! writer pauses between commits while somebody waits for a barrier, or while the WAL is large.

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
/// Litestream, each of which may checkpoint; much more than that means that it could not.
const WAL_PAGES_SOFT_MAX: i32 = 16_384;

/// Decides whether to pause after a commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    /// Somebody waits for a barrier.
    pub(crate) barrier_waits: Arc<AtomicBool>,
    /// How many pages the WAL holds that no checkpoint has moved yet; stays 0 if the writer does
    /// that itself. The WAL's size as a file says nothing: it never shrinks.
    wal_pages: Arc<AtomicI32>,
}

impl Pace {
    /// Lets SQLite tell the WAL's size at each commit if somebody else checkpoints.
    pub(crate) fn watch(
        &self,
        connection: &mut Connection,
        checkpoints: Checkpoints,
    ) -> Result<(), Error> {
        match checkpoints {
            // The hook would take the place of SQLite's own checkpoints.
            Checkpoints::Own => Ok(()),
            Checkpoints::ByLitestream => {
                let pages = Arc::clone(&self.wal_pages);
                let hook = move |_: &mut rusqlite::hooks::Wal, now: i32| {
                    pages.store(now, Ordering::Relaxed);
                    Ok(())
                };
                connection.wal_hook(Some(hook)).map_err(|e| {
                    Error::from(tidemill_eventlog::Error::sqlite("watch the WAL's size", e))
                })
            }
        }
    }

    pub(super) fn after_commit(&self) {
        let is_large = self.wal_pages.load(Ordering::Relaxed) > WAL_PAGES_SOFT_MAX;
        if is_large || self.barrier_waits.load(Ordering::Relaxed) {
            std::thread::park_timeout(GAP);
        }
    }
}
