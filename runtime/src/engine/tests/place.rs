//! Where a test keeps its file, and what it reads there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemill_eventlog::open_reader;

use super::prefixes::soon;

/// A folder of its own, which goes with it.
pub(super) struct Place {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
}

pub(super) fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    Place { _folder: folder, path }
}

/// The one text that a query finds.
pub(super) fn text(path: &Path, sql: &str) -> String {
    open_reader(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The kinds of a run's events, in their order.
pub(super) fn kinds(path: &Path, run: &str) -> Vec<String> {
    let connection = open_reader(path).unwrap();
    let sql = "SELECT kind FROM events WHERE run = ?1 ORDER BY seq";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([run], |row| row.get(0)).unwrap();
    rows.map(|kind| kind.unwrap()).collect()
}

/// Waits until it is so.
pub(super) async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
