//! Commits that fail on purpose, for tests; in other builds these functions do nothing.

#[cfg(test)]
use std::sync::{Arc, Mutex, PoisonError};

/// Which commits fail.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    plan: Arc<Mutex<Plan>>,
}

#[cfg(test)]
#[derive(Default)]
struct Plan {
    commits: u64,
    fail: std::collections::BTreeSet<u64>,
    failed: u64,
    watch: Option<Box<dyn FnMut() + Send>>,
    pages_max: Option<u32>,
}

impl Faults {
    /// Whether the commit that comes now fails as on a full disk.
    #[cfg(not(test))]
    pub(super) fn next_fails(&self) -> bool {
        false
    }

    /// Whether the commit that comes now fails as on a full disk.
    #[cfg(test)]
    pub(super) fn next_fails(&self) -> bool {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.commits += 1;
        if let Some(watch) = plan.watch.as_mut() {
            watch();
        }
        let now = plan.commits;
        let fails = plan.fail.remove(&now);
        plan.failed += u64::from(fails);
        fails
    }

    /// Sets how large the file may be: SQLite itself then says that the disk is full.
    #[cfg(not(test))]
    pub(super) fn before_transaction(&self, _: &rusqlite::Connection) {}

    /// Sets how large the file may be: SQLite itself then says that the disk is full.
    #[cfg(test)]
    pub(super) fn before_transaction(&self, connection: &rusqlite::Connection) {
        let set = self.plan.lock().unwrap_or_else(PoisonError::into_inner).pages_max.take();
        if let Some(pages) = set {
            let sql = format!("PRAGMA max_page_count = {pages}");
            connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap();
        }
    }

    /// Limits the file to this many pages from the next transaction on.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).pages_max = Some(pages);
    }

    /// Calls this before each commit.
    #[cfg(test)]
    pub(crate) fn watch(&self, watch: impl FnMut() + Send + 'static) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).watch = Some(Box::new(watch));
    }

    /// Makes the commits of these numbers, from 1, fail.
    #[cfg(test)]
    pub(crate) fn fail(&self, commits: impl IntoIterator<Item = u64>) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).fail.extend(commits);
    }

    /// How many commits were tried, and how many of them failed on purpose.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64) {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        (plan.commits, plan.failed)
    }
}
