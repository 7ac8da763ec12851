//! Operations that are dropped as soon as they are started.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidemill_eventlog::open_reader;

use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, Node, Result, StartRequest, Step};

type Begun = Arc<AtomicU32>;

async fn note(step: Step, (): ()) -> Result<()> {
    step.state::<Begun>().fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn child(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.step("note", note, ()).await?)
}

/// Starts a child and a step and drops both in one turn, again and again.
async fn fickle(ctx: Ctx, times: u32) -> Result<()> {
    for _ in 0..times {
        drop(ctx.child::<(), _, _, _>("child", ()).start());
        drop(ctx.step("note", note, ()).start());
        // A turn of its own for each.
        ctx.run("between", async || Result::<()>::Ok(())).await?;
    }
    Ok(())
}

fn kinds_of_children(path: &Path) -> Vec<String> {
    let connection = open_reader(path).unwrap();
    let sql = "SELECT group_concat(kind, ' ') FROM (SELECT run, kind FROM events
        WHERE run LIKE 'f.%' ORDER BY seq) GROUP BY run";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(|kinds| kinds.unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_in_the_turn_that_starts_it_never_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let begun = Begun::default();
    let app =
        App::new("t").state(Arc::clone(&begun)).workflow("fickle", fickle).workflow("child", child);
    let node = app.open(&path).await.unwrap();
    let times = 40;
    let run =
        node.start_request(StartRequest::new("fickle", times).unwrap().id("f")).await.unwrap().id;
    soon(node.result(&run)).await.unwrap().output::<()>().unwrap();
    for number in 0..times {
        // Each is the first of three operations.
        let child = format!("f.{}", 3 * number + 1).parse().unwrap();
        soon(node.result(&child)).await.unwrap();
    }
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    let kinds = kinds_of_children(&path);
    assert_eq!(kinds.len(), usize::try_from(times).unwrap());
    assert!(kinds.iter().all(|kinds| kinds == "run_created cancel_held run_failed"), "{kinds:?}");
    assert_eq!(begun.load(Ordering::Relaxed), 0, "a body began");
    fsck(&path);
}

/// Drops a child and goes on for long.
async fn patient(ctx: Ctx, (): ()) -> Result<()> {
    drop(ctx.child::<(), _, _, _>("child", ()).start());
    Ok(ctx.sleep(Duration::from_secs(3_600)).await?)
}

fn patient_app(begun: &Begun) -> App {
    App::new("t").state(Arc::clone(begun)).workflow("patient", patient).workflow("child", child)
}

/// The process dies between the commit in which the parent drops its child and the child's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_was_dropped_before_a_crash_does_not_begin_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("workflow.db"), folder.path().join("crash.db"));
    let (begun, instruments) = (Begun::default(), Instruments::default());
    // The start and the parent's first turn are written, and nothing after them.
    instruments.faults.fail(3..100_000);
    let environment = Environment::alone(&path);
    let node = Node::open_with(patient_app(&begun), environment, instruments.clone()).await;
    let node = node.unwrap();
    node.start_request(StartRequest::new("patient", ()).unwrap().id("f")).await.unwrap();
    soon(async {
        while instruments.faults.counts().1 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(kinds_of_children(&path), ["run_created"]);
    let connection = open_reader(&path).unwrap();
    connection.backup("main", &copy, None::<fn(rusqlite::backup::Progress)>).unwrap();
    node.shutdown().await.unwrap();

    let node = patient_app(&begun).open(&copy).await.unwrap();
    soon(node.result(&"f.1".parse().unwrap())).await.unwrap();
    node.shutdown().await.unwrap();
    assert_eq!(kinds_of_children(&copy), ["run_created cancel_held run_failed"]);
    assert_eq!(begun.load(Ordering::Relaxed), 0, "a body began");
    fsck(&copy);
}
