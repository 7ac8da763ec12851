//! Operations that are dropped as soon as they are started.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tidemill_eventlog::open_reader;

use super::prefixes::{fsck, soon};
use crate::{App, Ctx, Result, StartRequest, Step};

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
        drop(ctx.child::<()>("child", ()).start());
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
    let run = node.start(StartRequest::new("fickle", times).unwrap().id("f")).await.unwrap().id;
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
    assert!(kinds.iter().all(|kinds| kinds == "run_created run_failed"), "{kinds:?}");
    assert_eq!(begun.load(Ordering::Relaxed), 0, "a body began");
    fsck(&path);
}
