//! Processes that die during a step: what counts as poison and what does not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemill_eventlog::{Checkpoints, open_writer};
use tidemill_model::{BlockReasonKind, RunId};

use super::prefixes::{fsck, soon};
use crate::{App, Ctx, Node, Result, RunResult, StartRequest, Step};

async fn hang(step: Step, checkpoints: bool) -> Result<()> {
    if checkpoints {
        step.checkpoint(step.attempt()).await?;
    }
    std::future::pending().await
}

async fn deadly(ctx: Ctx, checkpoints: bool) -> Result<()> {
    Ok(ctx.step("hang", hang, checkpoints).await?)
}

fn app() -> App {
    // Its body never returns: a stop need not wait for it.
    App::new("t").workflow("deadly", deadly).grace(Duration::ZERO)
}

fn count(path: &Path, kind: &str) -> i64 {
    let connection = tidemill_eventlog::open_reader(path).unwrap();
    let sql = "SELECT count(*) FROM events WHERE kind = ?1";
    connection.query_row(sql, [kind], |row| row.get(0)).unwrap()
}

async fn until(path: &Path, kind: &str, at_least: i64) {
    soon(async {
        while count(path, kind) < at_least {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The file as a crash at this moment leaves it, under a new name.
pub(super) fn crashed(path: &Path, number: usize) -> PathBuf {
    let copy = path.with_file_name(format!("crash-{number}.db"));
    let connection = tidemill_eventlog::open_reader(path).unwrap();
    connection.backup("main", &copy, None::<fn(rusqlite::backup::Progress)>).unwrap();
    copy
}

struct Crashing {
    path: PathBuf,
    run: RunId,
    number: usize,
}

impl Crashing {
    async fn begin(folder: &Path, checkpoints: bool) -> Crashing {
        let path = folder.join("crash-0.db");
        let node = app().open(&path).await.unwrap();
        let run =
            node.start_request(StartRequest::new("deadly", checkpoints).unwrap()).await.unwrap().id;
        until(&path, "step_started", 1).await;
        if checkpoints {
            until(&path, "checkpoint", 1).await;
        }
        let mut this = Crashing { path, run, number: 0 };
        this.crash(&node).await;
        this
    }

    /// Continues with a copy of the file as it is now, and drops the process that had it.
    async fn crash(&mut self, node: &Node) {
        self.number += 1;
        let copy = crashed(&self.path, self.number);
        node.shutdown().await.unwrap();
        self.path = copy;
    }

    async fn open(&self) -> Node {
        app().open(&self.path).await.unwrap()
    }

    /// Opens, waits until the step runs again, and crashes.
    async fn again(&mut self, checkpoints: i64) {
        let restarts = count(&self.path, "step_restarted");
        let node = self.open().await;
        until(&self.path, "step_restarted", restarts + 1).await;
        until(&self.path, "checkpoint", checkpoints).await;
        self.crash(&node).await;
    }

    async fn assert_blocked(&self, node: &Node) {
        match soon(node.result(&self.run)).await.unwrap() {
            RunResult::Blocked(reason) => {
                assert_eq!(reason.kind, BlockReasonKind::Poison);
                assert!(reason.logged.unwrap().contains("died 5 times in a row"));
            }
            other => panic!("it is not blocked: {other:?}"),
        }
    }

    /// Opens a process in which the step runs again instead of being blocked.
    async fn open_and_run(&self) -> Node {
        let of = |kind| count(&self.path, kind);
        let (restarts, blocked) = (of("step_restarted"), of("run_blocked"));
        let node = self.open().await;
        until(&self.path, "step_restarted", restarts + 1).await;
        assert_eq!(of("run_blocked"), blocked);
        node
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_crashes_during_a_step_block_the_run_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut crashing = Crashing::begin(folder.path(), false).await;
    for _ in 1..5 {
        crashing.again(0).await;
    }
    let node = crashing.open().await;
    crashing.assert_blocked(&node).await;
    crashing.crash(&node).await;
    let node = crashing.open().await;
    crashing.assert_blocked(&node).await;
    assert_eq!(count(&crashing.path, "run_blocked"), 1, "and says so once");
    node.resume(&crashing.run).await.unwrap();
    until(&crashing.path, "step_restarted", 5).await;
    crashing.crash(&node).await;
    crashing.again(0).await;
    // Resuming it began the count again.
    let node = crashing.open_and_run().await;
    node.shutdown().await.unwrap();
    fsck(&crashing.path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_and_clean_ends_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut crashing = Crashing::begin(folder.path(), true).await;
    for checkpoints in 2..8 {
        crashing.again(checkpoints).await;
    }
    // Each process recorded a checkpoint.
    let node = crashing.open_and_run().await;
    node.shutdown().await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut crashing = Crashing::begin(folder.path(), false).await;
    for _ in 1..4 {
        crashing.again(0).await;
    }
    let node = crashing.open().await;
    until(&crashing.path, "step_restarted", 4).await;
    node.shutdown().await.unwrap();
    let node = crashing.open().await;
    until(&crashing.path, "step_restarted", 5).await;
    crashing.crash(&node).await;
    // A clean end began the count again.
    let node = crashing.open_and_run().await;
    node.shutdown().await.unwrap();
    fsck(&crashing.path);
}

/// The process before was of another boot or another owner: its crashes do not count, later ones
/// do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reboots_and_take_overs_do_not_count() {
    for (what, other) in [("boot", "'00000000-0000-4000-8000-000000000000'"), ("epoch", "7")] {
        let folder = tempfile::tempdir().unwrap();
        let mut crashing = Crashing::begin(folder.path(), false).await;
        for _ in 1..5 {
            crashing.again(0).await;
        }
        let connection = open_writer(&crashing.path, Checkpoints::Own).unwrap();
        let sql = format!(
            "UPDATE tidemill_meta SET value = json_set(value, '$.{what}', {other}) \
             WHERE key = 'process'"
        );
        assert_eq!(connection.execute(&sql, []).unwrap(), 1);
        drop(connection);
        // One more within one boot and owner would be blocked.
        for _ in 0..5 {
            crashing.again(0).await;
        }
        assert_eq!(count(&crashing.path, "run_blocked"), 0, "{what}");
        let node = crashing.open().await;
        let ended = soon(node.result(&crashing.run)).await.unwrap();
        assert!(matches!(ended, RunResult::Blocked(_)), "another {what}, and five more: {ended:?}");
        node.shutdown().await.unwrap();
        fsck(&crashing.path);
    }
}
