//! Helpers of the tests of the authoring API.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use tidemill::{App, Node, RunResult, StartRequest};

pub(crate) const MILLI: Duration = Duration::from_millis(1);

/// A folder with a node's file.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("workflow.db")
    }

    pub(crate) async fn open(&self, app: App) -> Node {
        app.open(self.file()).await.unwrap()
    }
}

/// Starts a run and waits for its end.
pub(crate) async fn outcome(
    node: &Node,
    workflow: &str,
    input: impl serde::Serialize,
) -> RunResult {
    let run = node.start_request(StartRequest::new(workflow, input).unwrap()).await.unwrap();
    soon(node.result(&run.id)).await.unwrap()
}

/// Bounds a wait, so that a test that hangs says where.
pub(crate) async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it ends in time")
}

/// Waits for a condition by polling it.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(MILLI).await;
        }
    })
    .await;
}

/// A query on the node's file, for what only the log shows.
pub(crate) fn sql<T: rusqlite::types::FromSql>(place: &Place, query: &str) -> T {
    let connection = tidemill_eventlog::open_reader(&place.file()).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

/// The file is whole and its projections are what the events say.
pub(crate) fn fsck(place: &Place) {
    let connection = tidemill_eventlog::open_reader(&place.file()).unwrap();
    let report = tidemill_eventlog::fsck(&connection).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
}
