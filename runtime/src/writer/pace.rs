//! Leaving Litestream a gap.
//!
//! A writer that begins its next transaction the moment the last one ended starves Litestream's
//! checkpoint, which needs the write lock for a moment: the WAL then grows without end. So the
//! writer pauses between commits while somebody waits for a barrier, or while the WAL is large.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The gap: long enough for a waiter that polls the lock every few hundred microseconds, short
/// enough to leave hundreds of commits a second.
const GAP: Duration = Duration::from_millis(1);

/// Over this the WAL is larger than Litestream's checkpoints keep it in rest (1,000 pages, 4 MiB).
const WAL_BYTES_SOFT_MAX: u64 = 16 * 1024 * 1024;

/// The WAL's size is looked up once in so many commits: a look costs a microsecond or two, and so
/// many commits write well below the limit.
const COMMITS_BETWEEN_LOOKS: u32 = 64;

/// Decides whether to pause after a commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    /// The WAL that somebody else checkpoints; none if the writer does it itself.
    pub(crate) wal: Option<PathBuf>,
    /// Somebody waits for a barrier.
    pub(crate) barrier_waits: Arc<AtomicBool>,
    commits: u32,
    wal_is_large: bool,
}

impl Pace {
    /// A pace for a WAL that Litestream checkpoints.
    pub(crate) fn shared(wal: PathBuf) -> Pace {
        Pace { wal: Some(wal), ..Pace::default() }
    }

    pub(super) fn after_commit(&mut self) {
        let Some(wal) = &self.wal else { return };
        self.commits = self.commits.wrapping_add(1);
        if self.commits.is_multiple_of(COMMITS_BETWEEN_LOOKS) {
            let bytes = std::fs::metadata(wal).map_or(0, |meta| meta.len());
            self.wal_is_large = bytes > WAL_BYTES_SOFT_MAX;
        }
        if self.wal_is_large || self.barrier_waits.load(Ordering::Relaxed) {
            std::thread::park_timeout(GAP);
        }
    }
}
