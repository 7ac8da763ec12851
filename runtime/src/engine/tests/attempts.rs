//! What fails an attempt, what ends a step at once, and what does neither.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_eventlog::open_reader;

use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, Node, Result, Retry, RunResult, StartRequest, Step};

fn count(path: &Path, kind: &str) -> i64 {
    let sql = "SELECT count(*) FROM events WHERE kind = ?1";
    open_reader(path).unwrap().query_row(sql, [kind], |row| row.get(0)).unwrap()
}

/// Records a number of checkpoints, with an author's `?` after each.
async fn train(step: Step, epochs: u32) -> Result<u32> {
    let first = step.last_checkpoint::<u32>()?.unwrap_or(0);
    for epoch in first + 1..=epochs {
        step.checkpoint(epoch).await?;
    }
    Ok(step.attempt())
}

async fn training(ctx: Ctx, blocking: bool) -> Result<u32> {
    let call = ctx.step("train", train, 20);
    Ok(if blocking { call.blocking().await? } else { call.await? })
}

async fn train_with(path: &Path, instruments: Instruments, blocking: bool) -> Node {
    let app = App::new("t").workflow("training", training);
    let node = Node::open_with(app, Environment::alone(path), instruments).await.unwrap();
    node.start_request(StartRequest::new("training", blocking).unwrap().id("r")).await.unwrap();
    node
}

async fn trained(node: &Node) -> u32 {
    soon(node.result(&"r".parse().unwrap())).await.unwrap().output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_waits_for_the_disk_as_a_result_does() {
    for blocking in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        let instruments = Instruments::default();
        // The start and the run's first turn are written; of the rest every other commit fails.
        instruments.faults.fail((3..200).filter(|commit| commit % 4 != 0));
        let node = train_with(&path, instruments.clone(), blocking).await;
        assert_eq!(trained(&node).await, 1, "no attempt failed");
        node.shutdown().await.unwrap();
        assert!(instruments.faults.counts().1 > 20, "commits failed on purpose");
        assert_eq!((count(&path, "checkpoint"), count(&path, "step_failed")), (20, 0));
        fsck(&path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_waits_while_sqlite_itself_says_that_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let instruments = Instruments::default();
    let app = App::new("t").workflow("large", large).workflow("other", other);
    let environment = Environment::alone(&path);
    let node = Node::open_with(app, environment, instruments.clone()).await.unwrap();
    node.start_request(StartRequest::new("large", ()).unwrap().id("r")).await.unwrap();
    soon(async {
        while count(&path, "checkpoint") < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // It cannot grow any more.
    instruments.faults.limit_pages(1);
    // Among this many refused commits there are some of the body's records, too.
    soon(async {
        let mut refused = 0;
        while refused < 20 {
            let input = "x".repeat(50_000);
            let Err(error) = node.start_request(StartRequest::new("other", input).unwrap()).await
            else {
                continue;
            };
            assert!(error.to_string().contains("the disk is full"), "{error}");
            refused += 1;
        }
    })
    .await;
    let before = count(&path, "checkpoint");
    instruments.faults.limit_pages(1_000_000);
    assert_eq!(trained(&node).await, 1, "no attempt failed");
    node.shutdown().await.unwrap();
    assert!(before < 200, "it was full while there was more to record");
    assert_eq!((count(&path, "checkpoint"), count(&path, "step_failed")), (200, 0));
    fsck(&path);
}

/// Checkpoints that fill pages.
async fn fill(step: Step, (): ()) -> Result<u32> {
    for _ in 0..200 {
        step.checkpoint("x".repeat(20_000)).await?;
    }
    Ok(step.attempt())
}

async fn large(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("fill", fill, ()).await?)
}

async fn other(_: Ctx, _: String) -> Result<()> {
    Ok(())
}

type Begun = Arc<AtomicU32>;

struct Client;

async fn needs_state(step: Step, (): ()) -> Result<()> {
    step.state::<Begun>().fetch_add(1, Ordering::Relaxed);
    let _ = step.state::<Client>();
    Ok(())
}

/// Encodes as a number and decodes from a text, as after a change of the code.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "u32", from = "String")]
struct Odd;

impl From<Odd> for u32 {
    fn from(_: Odd) -> u32 {
        4
    }
}

impl From<String> for Odd {
    fn from(_: String) -> Odd {
        Odd
    }
}

async fn takes_odd(step: Step, _: Odd) -> Result<()> {
    step.state::<Begun>().fetch_add(1, Ordering::Relaxed);
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Case {
    reads: bool,
    blocking: bool,
}

async fn hopeless(ctx: Ctx, Case { reads, blocking }: Case) -> Result<()> {
    let call = match reads {
        true => ctx.step("needs state", needs_state, ()),
        false => ctx.step("reads odd", takes_odd, Odd),
    };
    // A retry would wait for longer than this test does.
    let call = call.retry(Retry::attempts(5).initial_delay(Duration::from_secs(3_600)));
    let call = if blocking { call.blocking() } else { call };
    Ok(call.await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_attempt_can_change_is_final_at_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let begun = Begun::default();
    let app = App::new("t").state(Arc::clone(&begun)).workflow("hopeless", hopeless);
    let node = app.open(&path).await.unwrap();
    for (reads, why) in [(true, "give it to App::state"), (false, "is not what the step takes")] {
        for blocking in [false, true] {
            let request = StartRequest::new("hopeless", Case { reads, blocking }).unwrap();
            let run = node.start_request(request).await.unwrap().id;
            let RunResult::Failed(failure) = soon(node.result(&run)).await.unwrap() else {
                panic!("it cannot succeed");
            };
            let text = format!("{failure:?}");
            assert!(text.contains(why), "{text}");
        }
    }
    node.shutdown().await.unwrap();
    assert_eq!((count(&path, "step_failed"), count(&path, "step_attempt_failed")), (4, 0));
    assert_eq!(begun.load(Ordering::Relaxed), 2, "each that can begin did so once");
}
