//! Runs whose turns the file refuses: only they are blocked, and no other run is disturbed.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tidemill_eventlog::{Checkpoints, open_writer};
use tidemill_model::{BlockReason, BlockReasonKind, RunId};
use tokio::sync::oneshot;

use super::place::{place, text};
use super::prefixes::{fsck, soon};
use crate::engine::asks::Ask;
use crate::engine::inbox::Control;
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, ErrorKind, Node, Result, RunResult, StartRequest, Step};

const HOUR: Duration = Duration::from_secs(3_600);

async fn number(_: Step, n: u32) -> Result<u32> {
    Ok(n)
}

async fn chain(ctx: Ctx, steps: u32) -> Result<u32> {
    for n in 0..steps {
        ctx.step("number", number, n).await?;
    }
    Ok(steps)
}

/// Two steps, of which the author's trigger refuses the second.
async fn forbidden(ctx: Ctx, (): ()) -> Result<u32> {
    let first = ctx.step("number", number, 1).await?;
    Ok(first + ctx.step("forbidden", number, 2).await?)
}

async fn waits(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(HOUR).await?)
}

/// Panics; the fixed version waits.
async fn panics(_: Ctx, (): ()) -> Result<()> {
    panic!("on purpose")
}

/// Waits for a child that is blocked, until it has had enough.
async fn parent(ctx: Ctx, (): ()) -> Result<()> {
    let child = ctx.child::<(), _, _, _>("panics", ()).start();
    ctx.sleep(HOUR).await?;
    Ok(child.await?)
}

async fn open(path: &Path) -> Node {
    open_with(path, Instruments::default()).await
}

async fn open_with(path: &Path, instruments: Instruments) -> Node {
    let app = App::new("t")
        .workflow("chain", chain)
        .workflow("forbidden", forbidden)
        .workflow("waits", waits)
        .workflow("panics", panics)
        .workflow("parent", parent);
    Node::open_with(app, Environment::alone(path), instruments).await.unwrap()
}

/// Another connection to the node's file, as an author's `sqlite3` would be.
fn by_hand(path: &Path) -> Connection {
    open_writer(path, Checkpoints::Own).unwrap()
}

async fn start(node: &Node, workflow: &str, id: &str) -> RunId {
    node.start_request(StartRequest::new(workflow, ()).unwrap().id(id)).await.unwrap().id
}

async fn blocked(node: &Node, run: &RunId) -> BlockReason {
    match soon(node.result(run)).await.unwrap() {
        RunResult::Blocked(reason) => reason,
        other => panic!("{run} is not blocked: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_is_refused_three_times_blocks_its_run_and_no_other() {
    let (place, instruments) = (place(), Instruments::default());
    let node = open_with(&place.path, instruments.clone()).await;
    let other = by_hand(&place.path);
    other
        .execute_batch(
            "CREATE TRIGGER t BEFORE INSERT ON events WHEN NEW.name = 'forbidden' AND
             NEW.kind = 'step_started'
             BEGIN SELECT RAISE(ABORT, 'not in this house'); END;",
        )
        .unwrap();
    let mut bad = vec![start(&node, "forbidden", "bad").await];
    blocked(&node, &bad[0]).await;
    // The end of its first step, whose turn is refused, is held once the block is written.
    let held = "SELECT CAST(count(*) AS TEXT) FROM events WHERE kind = 'op_held'";
    soon(async {
        while text(&place.path, held) != "1" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // Its creation, the start of its first step, the turn that is refused, the block, the held end.
    assert_eq!(instruments.faults.counts().0, 1 + 1 + 3 + 1 + 1, "it is tried three times");
    for n in 0..8 {
        bad.push(start(&node, "forbidden", &format!("bad-{n}")).await);
        let run = node.start_request(StartRequest::new("chain", 20).unwrap()).await.unwrap().id;
        assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 20);
    }
    for run in &bad {
        let reason = blocked(&node, run).await;
        assert_eq!(reason.kind, BlockReasonKind::Refused, "{reason:?}");
        let asked = reason.asked.unwrap();
        assert!(
            asked.contains("refused its turn 3 times") && asked.contains("not in this house"),
            "{asked}"
        );
    }
    assert_eq!((node.runs_refused(), node.refusing()), (0, None), "each block was written");
    let blocked = "SELECT CAST(count(*) AS TEXT) FROM runs WHERE status = 'blocked'";
    assert_eq!(text(&place.path, blocked), "9");
    fsck(&place.path);
    other.execute_batch("DROP TRIGGER t").unwrap();
    for run in &bad {
        soon(node.resume(run)).await.unwrap();
        assert_eq!(soon(node.result(run)).await.unwrap().output::<u32>().unwrap(), 3);
    }
    let ran = "SELECT CAST(count(*) AS TEXT) FROM events WHERE kind = 'step_started' AND \
               name = 'number' AND run LIKE 'bad%'";
    assert_eq!(text(&place.path, ran), "9", "the first steps were not begun again");
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_cannot_be_written_is_held_and_shown() {
    let place = place();
    let node = open(&place.path).await;
    let other = by_hand(&place.path);
    other
        .execute_batch(
            "CREATE TRIGGER t BEFORE INSERT ON events WHEN NEW.run = 'bad' AND \
             NEW.kind <> 'run_created' BEGIN SELECT RAISE(ABORT, 'not in this house'); END;",
        )
        .unwrap();
    let bad = start(&node, "forbidden", "bad").await;
    let reason = blocked(&node, &bad).await;
    assert_eq!(reason.kind, BlockReasonKind::Refused, "{reason:?}");
    assert_eq!(node.runs_refused(), 1);
    assert_eq!(node.held_block(&bad).as_ref(), Some(&reason));
    assert_eq!(node.held_blocks().into_keys().collect::<Vec<_>>(), std::slice::from_ref(&bad));
    assert_eq!(text(&place.path, "SELECT status FROM runs"), "pending");
    soon(node.resume(&bad)).await.unwrap();
    assert_eq!(blocked(&node, &bad).await, reason, "it is not mended");
    other.execute_batch("DROP TRIGGER t").unwrap();
    soon(node.resume(&bad)).await.unwrap();
    assert_eq!(soon(node.result(&bad)).await.unwrap().output::<u32>().unwrap(), 3);
    assert_eq!((node.runs_refused(), node.held_block(&bad)), (0, None));
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

/// An id whose row cannot be read is an error for a request of that id, and not for other starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_row_is_an_error_for_who_asks_for_it_alone() {
    let place = place();
    let node = open(&place.path).await;
    start(&node, "waits", "damaged").await;
    let other = by_hand(&place.path);
    let damage = "UPDATE tidemill_runs SET labels = 'odd' WHERE run = 'damaged'";
    assert_eq!(other.execute(damage, []).unwrap(), 1);
    let asks = (0..20).map(|n| {
        let node = node.clone();
        tokio::spawn(async move {
            let request = StartRequest::new("chain", 5).unwrap();
            match n % 2 {
                0 => node.start_request(request.id("damaged")).await.map(|_| 0),
                _ => {
                    let run = node.start_request(request).await?.id;
                    soon(node.result(&run)).await?.output::<u32>()
                }
            }
        })
    });
    for (n, asked) in futures_util::future::join_all(asks).await.into_iter().enumerate() {
        match (n % 2, asked.unwrap()) {
            (0, Err(error)) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
            (_, answer) => assert_eq!(answer.unwrap(), 5),
        }
    }
    node.shutdown().await.unwrap();
}

/// A resume and a cancel in one mail: the run is cancelled.
#[tokio::test]
async fn a_cancel_that_comes_with_a_resume_is_not_lost() {
    let place = place();
    let node = open(&place.path).await;
    start(&node, "parent", "p").await;
    let child: RunId = "p.1".parse().unwrap();
    soon(async {
        while node.engine().registry.loaded(&child).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(blocked(&node, &child).await.kind, BlockReasonKind::Panic);
    let run = node.engine().registry.loaded(&child).unwrap();
    let (reply, answer) = oneshot::channel();
    // One thread and no await in between: the driver finds both.
    run.inbox.control(Control::Resume(reply));
    run.inbox.control(Control::Ask(Ask::of_parent(&"p".parse().unwrap())));
    soon(answer).await.unwrap().unwrap();
    // It panicked before it did anything, so there is nothing to clean up.
    soon(async {
        while text(&place.path, "SELECT status FROM runs WHERE run = 'p.1'") != "cancelled" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    node.shutdown().await.unwrap();
    fsck(&place.path);
}
