//! What authors see of a node: runs start, do their steps once, wait, branch and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidemill::{
    App, Ctx, ErrorKind, FailureKind, Node, Result, Retry, RunResult, StartRequest, Step, StepError,
};

const MILLI: Duration = Duration::from_millis(1);

/// A folder with a node's file.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    async fn open(&self, app: App) -> Node {
        app.open(self.0.path().join("workflow.db")).await.unwrap()
    }
}

async fn outcome(node: &Node, workflow: &str, input: impl serde::Serialize) -> RunResult {
    let run = node.start(StartRequest::new(workflow, input).unwrap()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), node.result(&run.id)).await.unwrap().unwrap()
}

async fn double(_: Step, n: u64) -> Result<u64> {
    Ok(n * 2)
}

async fn chain(ctx: Ctx, steps: u64) -> Result<u64> {
    let mut n = 1;
    for _ in 0..steps {
        n = ctx.step("double", double, n).await?;
    }
    Ok(n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_run_one_after_another() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("chain", chain)).await;
    assert_eq!(outcome(&node, "chain", 10).await.output::<u64>().unwrap(), 1024);
    node.shutdown().await.unwrap();
}
