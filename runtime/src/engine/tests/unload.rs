//! Runs that leave memory while they wait, and what brings them back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidemill_eventlog::{Row, open_reader, query};
use tidemill_model::{BlockReasonKind, RunId, Seq};

use super::prefixes::{fsck, soon, write_prefix};
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, ErrorKind, Node, Result, Retry, RunResult, StartRequest, Step};

const HOUR: Duration = Duration::from_secs(3_600);

/// How often the code of a workflow was called.
type Calls = Arc<AtomicU32>;

async fn naps(ctx: Ctx, millis: Vec<u64>) -> Result<u32> {
    for nap in &millis {
        ctx.sleep(Duration::from_millis(*nap)).await?;
    }
    Ok(u32::try_from(millis.len())?)
}

async fn sleeps(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(HOUR).await?)
}

async fn parent(ctx: Ctx, naps: Vec<u64>) -> Result<u32> {
    let first = ctx.child::<u32, _, _, _>("naps", &naps).start();
    let second = ctx.child::<u32, _, _, _>("naps", naps).start();
    Ok(first.await? + second.await?)
}

/// Waits for a child that takes an hour, but not for long.
async fn gives_up(ctx: Ctx, (): ()) -> Result<()> {
    let child = ctx.child::<(), _, _, _>("sleeps", ());
    tokio::select! {
        biased;
        done = child => Ok(done?),
        slept = ctx.sleep(Duration::from_millis(1_000)) => Ok(slept?),
    }
}

/// Two steps at once that fail a few times each, with a back-off of some milliseconds between.
async fn tries(ctx: Ctx, (failures, millis): (u32, u64)) -> Result<u32> {
    let delay = Duration::from_millis(millis);
    let retry = Retry::attempts(failures + 1).initial_delay(delay).max_delay(delay).no_jitter();
    let one = ctx.step("fails", fails, failures).retry(retry.clone());
    let other = ctx.step("fails", fails, failures).retry(retry);
    let (one, other) = tokio::join!(one, other);
    Ok(one? + other?)
}

async fn fails(step: Step, failures: u32) -> Result<u32> {
    if step.attempt() <= failures { Err("on purpose".into()) } else { Ok(step.attempt()) }
}

fn app() -> App {
    App::new("t")
        .unload_after(Duration::ZERO)
        .workflow("naps", naps)
        .workflow("sleeps", sleeps)
        .workflow("parent", parent)
        .workflow("gives_up", gives_up)
        .workflow("tries", tries)
}

fn number(path: &Path, sql: &str) -> u32 {
    open_reader(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

async fn nothing_loaded(node: &Node) {
    soon(async {
        while node.engine().registry.count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Waits until a query of the file gives the wanted number.
async fn in_the_file(path: &Path, sql: &str, wanted: u32) {
    soon(async {
        while number(path, sql) != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Makes a copy of a file whose process died before it wrote the first event for which `is_next`.
fn died_before(path: &Path, from: &Path, is_next: impl Fn(&Row) -> bool) {
    let rows = query::events(&open_reader(from).unwrap(), None, Seq::ZERO, u32::MAX).unwrap();
    let end = rows.iter().position(is_next).expect("it was written");
    write_prefix(path, &rows[..end]);
}

fn id(text: &str) -> RunId {
    RunId::new(text).unwrap()
}

#[tokio::test]
async fn a_run_that_waits_leaves_memory_and_its_timer_brings_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    let request = StartRequest::new("naps", [5, 1, 30, 2]).unwrap().id("n");
    let run = node.start_request(request).await.unwrap().id;
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 4);
    nothing_loaded(&node).await;
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    let taken_up = "SELECT count(*) FROM events WHERE kind = 'run_started'";
    assert_eq!(number(&path, taken_up), 1, "one process took it up, however often it came back");
    fsck(&path);
}

#[tokio::test]
async fn the_end_of_a_child_brings_its_parent_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    for number in 0..8 {
        let naps = vec![10 + number, 10, number];
        let request = StartRequest::new("parent", naps).unwrap().id(&format!("p{number}"));
        node.start_request(request).await.unwrap();
    }
    // The test does not ask for their results, because that would load them, too.
    let done = "SELECT count(*) FROM runs WHERE workflow = 'parent' AND output = '6'";
    in_the_file(&path, done, 8).await;
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    fsck(&path);
}

#[tokio::test]
async fn a_child_that_is_not_in_memory_is_cancelled_by_who_dropped_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    let run =
        node.start_request(StartRequest::new("gives_up", ()).unwrap().id("g")).await.unwrap().id;
    soon(node.result(&run)).await.unwrap().output::<()>().unwrap();
    let RunResult::Failed(failure) = soon(node.result(&id("g.1"))).await.unwrap() else {
        panic!("it was cancelled")
    };
    assert_eq!(failure.kind, tidemill_model::FailureKind::Cancelled);
    nothing_loaded(&node).await;
    node.shutdown().await.unwrap();
    fsck(&path);
}

/// While its run is in memory, a sleep takes as long as it was asked to, whatever the wall clock
/// says.
#[tokio::test]
async fn a_sleep_of_a_run_in_memory_does_not_heed_the_wall_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let (app, instruments) = (App::new("t").workflow("naps", naps), Instruments::default());
    let node = Node::open_with(app, Environment::alone(&path), instruments.clone()).await.unwrap();
    let run = node.start_request(StartRequest::new("naps", [2_000]).unwrap()).await.unwrap().id;
    // Its own timer, and then the one after which it would leave memory.
    soon(async {
        while node.engine().timers.waiting() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    instruments.clock.step_wall(-3_600_000_000);
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 1);
    node.shutdown().await.unwrap();
    fsck(&path);
}

/// The next process neither loads a run that only waits nor writes anything for it.
#[tokio::test]
async fn a_start_leaves_alone_what_only_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    for number in 0..20 {
        let request = StartRequest::new("sleeps", ()).unwrap().id(&format!("s{number}"));
        node.start_request(request).await.unwrap();
    }
    // Long enough that a slow machine sees it wait, too.
    node.start_request(StartRequest::new("naps", [3_000]).unwrap().id("n")).await.unwrap();
    in_the_file(&path, "SELECT count(*) FROM runs WHERE status = 'suspended'", 21).await;
    node.shutdown().await.unwrap();
    let newest = "SELECT max(seq) FROM events";
    let before = number(&path, newest);

    let node = app().open(&path).await.unwrap();
    assert_eq!(soon(node.result(&id("n"))).await.unwrap().output::<u32>().unwrap(), 1);
    nothing_loaded(&node).await;
    let of_others = format!("SELECT count(*) FROM events WHERE seq > {before} AND run <> 'n'");
    assert_eq!(number(&path, &of_others), 0);
    // Started, fired, completed.
    assert_eq!(number(&path, newest), before + 3);
    node.shutdown().await.unwrap();
    fsck(&path);
}

/// The process died after a child's end, before its parent observed it: the parent, which only
/// waits, is brought back.
#[tokio::test]
async fn a_start_finds_the_end_that_a_parent_has_not_observed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("workflow.db"), folder.path().join("crash.db"));
    let node = app().open(&path).await.unwrap();
    node.start_request(StartRequest::new("parent", [5]).unwrap().id("p")).await.unwrap();
    in_the_file(&path, "SELECT count(*) FROM runs WHERE output = '2'", 1).await;
    node.shutdown().await.unwrap();
    died_before(&copy, &path, |row| row.kind == "child_completed");
    let waiting = "SELECT count(*) FROM runs WHERE run = 'p' AND status = 'suspended'";
    assert_eq!(number(&copy, waiting), 1);

    let node = app().open(&copy).await.unwrap();
    in_the_file(&copy, "SELECT count(*) FROM runs WHERE output = '2'", 1).await;
    node.shutdown().await.unwrap();
    fsck(&copy);
}

/// The process died after a parent dropped its child, before the child was cancelled: a child that
/// only waits is cancelled all the same.
#[tokio::test]
async fn a_start_finds_the_child_for_which_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("workflow.db"), folder.path().join("crash.db"));
    let node = app().open(&path).await.unwrap();
    node.start_request(StartRequest::new("gives_up", ()).unwrap().id("g")).await.unwrap();
    let cancelled = "SELECT count(*) FROM runs WHERE run = 'g.1' AND status = 'cancelled'";
    in_the_file(&path, cancelled, 1).await;
    node.shutdown().await.unwrap();
    let is_cancelled = |row: &Row| row.run == Some(id("g.1")) && row.kind == "cancel_requested";
    died_before(&copy, &path, is_cancelled);
    let waiting = "SELECT count(*) FROM runs WHERE run = 'g.1' AND status = 'suspended'";
    assert_eq!(number(&copy, waiting), 1);

    let node = app().open(&copy).await.unwrap();
    in_the_file(&copy, cancelled, 1).await;
    node.shutdown().await.unwrap();
    fsck(&copy);
}

#[tokio::test]
async fn a_blocked_run_leaves_memory_is_shown_as_blocked_and_can_be_resumed() {
    async fn panics(ctx: Ctx, (): ()) -> Result<u32> {
        ctx.run("count", async || Result::<_>::Ok(())).await?;
        panic!("a mistake");
    }
    async fn mended(ctx: Ctx, (): ()) -> Result<u32> {
        ctx.run("count", async || Result::<_>::Ok(())).await?;
        Ok(7)
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().workflow("w", panics).open(&path).await.unwrap();
    let run = node.start_request(StartRequest::new("w", ()).unwrap().id("w")).await.unwrap().id;
    for _ in 0..3 {
        let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else {
            panic!("it is blocked")
        };
        assert_eq!(reason.kind, BlockReasonKind::Panic);
        nothing_loaded(&node).await;
    }
    node.resume(&run).await.unwrap();
    assert!(matches!(soon(node.result(&run)).await.unwrap(), RunResult::Blocked(_)));
    node.shutdown().await.unwrap();

    // The next process tries it again without a `resume`.
    let node = app().workflow("w", mended).open(&path).await.unwrap();
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 7);
    let sleeping = node.start_request(StartRequest::new("sleeps", ()).unwrap()).await.unwrap().id;
    nothing_loaded(&node).await;
    for (run, says) in [(&run, "has ended"), (&sleeping, "is neither blocked nor paused")] {
        let error = node.resume(run).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(node.resume(&id("nobody")).await.unwrap_err().kind(), ErrorKind::NotFound);
    node.shutdown().await.unwrap();
    fsck(&path);
}

/// A caller that waits for a run does not keep it in memory, and gets its end.
#[tokio::test]
async fn who_waits_for_a_run_hears_of_its_end_whether_it_is_in_memory_or_not() {
    async fn counted(ctx: Ctx, calls: u64) -> Result<()> {
        ctx.sleep(Duration::from_millis(calls)).await?;
        ctx.sleep(Duration::from_millis(calls)).await?;
        Ok(())
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let calls = Calls::default();
    let count = Arc::clone(&calls);
    let workflow = move |ctx: Ctx, nap: u64| {
        count.fetch_add(1, Ordering::SeqCst);
        counted(ctx, nap)
    };
    let node = app().workflow("counted", workflow).open(&path).await.unwrap();
    let run = node.start_request(StartRequest::new("counted", 400).unwrap()).await.unwrap().id;
    let waiters = (0..10).map(|_| {
        let (node, run) = (node.clone(), run.clone());
        tokio::spawn(async move { node.result(&run).await })
    });
    let waiters: Vec<_> = waiters.collect();
    for waiter in waiters {
        soon(waiter).await.unwrap().unwrap().output::<()>().unwrap();
    }
    assert!(calls.load(Ordering::SeqCst) >= 3, "it left memory twice, at each of its waits");
    node.shutdown().await.unwrap();
    fsck(&path);
}

#[tokio::test]
async fn a_run_whose_steps_are_in_a_back_off_leaves_memory_and_comes_back_when_it_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    let request = StartRequest::new("tries", (1, 1_000)).unwrap().id("t");
    node.start_request(request).await.unwrap();
    in_the_file(&path, "SELECT count(*) FROM events WHERE kind = 'step_attempt_failed'", 2).await;
    nothing_loaded(&node).await;
    let begun = "SELECT count(*) FROM events WHERE kind = 'step_attempt_started'";
    assert_eq!(number(&path, begun), 0, "it left in the back-off, not after it");
    // The test does not ask for the result, because that would load the run, too.
    in_the_file(&path, "SELECT count(*) FROM runs WHERE output = '4'", 1).await;
    nothing_loaded(&node).await;
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    let taken_up = "SELECT count(*) FROM events WHERE kind IN ('run_started', 'step_restarted')";
    assert_eq!(number(&path, taken_up), 1, "one process took it up and cut nothing off");
    fsck(&path);
}

/// Back-offs that end while their run leaves memory: no attempt is lost, and none is made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_begins_while_its_run_leaves_memory_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    for run in 0..40_u64 {
        let request = StartRequest::new("tries", (5, 1 + run % 4)).unwrap();
        node.start_request(request.id(&format!("t{run}"))).await.unwrap();
    }
    in_the_file(&path, "SELECT count(*) FROM runs WHERE output = '12'", 40).await;
    node.shutdown().await.unwrap();
    let begun = "SELECT count(*) FROM events WHERE kind = 'step_attempt_started'";
    assert_eq!(number(&path, begun), 40 * 2 * 5);
    let failed = "SELECT count(*) FROM events WHERE kind = 'step_attempt_failed'";
    assert_eq!(number(&path, failed), 40 * 2 * 5);
    let restarted = "SELECT count(*) FROM events WHERE kind = 'step_restarted'";
    assert_eq!(number(&path, restarted), 0);
    fsck(&path);
}

#[tokio::test]
async fn a_back_off_that_outlives_its_process_is_found_by_the_next_and_leaves_memory_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    let request = StartRequest::new("tries", (1, 1_500)).unwrap().id("t");
    node.start_request(request).await.unwrap();
    in_the_file(&path, "SELECT count(*) FROM events WHERE kind = 'step_attempt_failed'", 2).await;
    nothing_loaded(&node).await;
    node.shutdown().await.unwrap();

    let node = app().open(&path).await.unwrap();
    in_the_file(&path, "SELECT count(*) FROM events WHERE kind = 'run_started'", 2).await;
    nothing_loaded(&node).await;
    in_the_file(&path, "SELECT count(*) FROM runs WHERE output = '4'", 1).await;
    node.shutdown().await.unwrap();
    fsck(&path);
}
