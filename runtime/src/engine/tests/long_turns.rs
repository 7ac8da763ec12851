//! Turns of many rows, which take several commits (tests cut them after 8 rows), and many runs that
//! begin in one moment.

use std::path::Path;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tidemill_eventlog::open_reader;

use super::place::text;
use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, Node, Result, StartRequest};

const HOUR: Duration = Duration::from_secs(3_600);

async fn quick(_: Ctx, (): ()) -> Result<()> {
    Ok(())
}

/// Many timers, and in the end a step that takes long.
async fn timers_and_a_step(ctx: Ctx, (): ()) -> Result<()> {
    ctx.run("first", async || Result::<_>::Ok(())).await?;
    let timers: Vec<_> = (0..20).map(|_| ctx.sleep(HOUR).start()).collect();
    ctx.run("long", async || -> Result<()> {
        tokio::time::sleep(HOUR).await;
        Ok(())
    })
    .await?;
    drop(timers);
    Ok(())
}

async fn naps(ctx: Ctx, millis: u64) -> Result<usize> {
    let naps = (0..30).map(|_| ctx.sleep(Duration::from_millis(millis)));
    Ok(try_join_all(naps).await?.len())
}

/// Starts a child and drops it in a later part of the same turn.
async fn thinks_better(ctx: Ctx, (): ()) -> Result<()> {
    let child = ctx.child::<(), _, _, _>("quick", ()).start();
    let timers: Vec<_> = (0..20).map(|_| ctx.sleep(HOUR).start()).collect();
    drop(child);
    ctx.run("last", async || Result::<_>::Ok(())).await?;
    drop(timers);
    Ok(())
}

fn app() -> App {
    App::new("t")
        .grace(Duration::ZERO)
        .workflow("quick", quick)
        .workflow("timers_and_a_step", timers_and_a_step)
        .workflow("naps", naps)
        .workflow("thinks_better", thinks_better)
}

async fn in_the_file(path: &Path, sql: &str, wanted: &str) {
    soon(async {
        while text(path, sql) != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_part_of_a_turn_says_where_the_run_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    node.start_request(StartRequest::new("timers_and_a_step", ()).unwrap()).await.unwrap();
    let started = "SELECT CAST(count(*) AS TEXT) FROM events WHERE kind = 'step_started'";
    in_the_file(&path, started, "2").await;
    assert_eq!(
        text(&path, "SELECT status FROM runs"),
        "running",
        "not suspended, as a part before"
    );
    node.shutdown().await.unwrap();
    fsck(&path);
}

/// The process dies between two parts of a turn: the file is whole, and the run goes on by itself,
/// whatever else it waits for.
#[tokio::test]
async fn a_turn_of_which_only_the_first_parts_were_written_goes_on() {
    for written in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("workflow.db"), folder.path().join("crash.db"));
        let instruments = Instruments::default();
        instruments.faults.fail(1 + written..100_000);
        let environment = Environment::alone(&path);
        let node = Node::open_with(app(), environment, instruments.clone()).await.unwrap();
        let request = StartRequest::new("naps", 3_600_000).unwrap().id("n");
        let started = soon(node.start_request(request.clone())).await;
        soon(async {
            while instruments.faults.counts().1 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let connection = open_reader(&path).unwrap();
        connection.backup("main", &copy, None::<fn(rusqlite::backup::Progress)>).unwrap();
        node.shutdown().await.unwrap();
        fsck(&copy);

        let node = app().open(&copy).await.unwrap();
        if started.is_err() {
            node.start_request(request).await.unwrap();
        }
        // Nobody asks for it, and no timer of it is due for an hour.
        let timers = "SELECT CAST(count(*) AS TEXT) FROM events WHERE kind = 'timer_started'";
        in_the_file(&copy, timers, "30").await;
        in_the_file(&copy, "SELECT status FROM runs", "suspended").await;
        node.shutdown().await.unwrap();
        fsck(&copy);
    }
}

#[tokio::test]
async fn a_child_that_a_later_part_of_the_turn_drops_never_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    for number in 0..10 {
        let request = StartRequest::new("thinks_better", ()).unwrap().id(&format!("t{number}"));
        let run = node.start_request(request).await.unwrap().id;
        soon(node.result(&run)).await.unwrap().output::<()>().unwrap();
    }
    let cancelled = "SELECT CAST(count(*) AS TEXT) FROM children WHERE status = 'cancelled'";
    in_the_file(&path, cancelled, "10").await;
    let begun = "SELECT CAST(count(*) AS TEXT) FROM events \
                 WHERE kind = 'run_started' AND run LIKE 't%.1'";
    assert_eq!(text(&path, begun), "0");
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    fsck(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_runs_than_are_loaded_at_a_time_begin_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    let all = crate::engine::LOADS_MAX * 3;
    let starts = (0..all).map(|_| node.start_request(StartRequest::new("quick", ()).unwrap()));
    assert!(join_all(starts).await.iter().all(std::result::Result::is_ok));
    // Nobody asks for their results: that would load them.
    let completed = "SELECT CAST(count(*) AS TEXT) FROM runs WHERE status = 'completed'";
    in_the_file(&path, completed, &all.to_string()).await;
    node.shutdown().await.unwrap();
    fsck(&path);
}
