//! Children that outlive their parents, and how many children live at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tidemill_eventlog::{Checkpoints, due, open_reader, open_writer};
use tidemill_model::{
    BlockReasonKind, FailureKind, PruneRequest, Retention, RunId, RunStatus, Seq,
};

use super::place::{Place, kinds, place, text, until};
use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::testing::TestApp;
use crate::{
    App, Ctx, Environment, Node, Requester, Result, RunResult, SignalRequest, StartRequest, Step,
};

const LONG: Duration = Duration::from_secs(86_400);

/// How often the work of a child was done.
type Done = Arc<AtomicU32>;

async fn work(step: Step, n: u32) -> Result<u32> {
    step.state::<Done>().fetch_add(1, Ordering::Relaxed);
    Ok(n)
}

/// Waits for a word, and then does its work.
async fn child(ctx: Ctx, n: u32) -> Result<u32> {
    ctx.signal::<bool>("go").await?;
    Ok(ctx.step("work", work, n).await?)
}

async fn quick(ctx: Ctx, n: u32) -> Result<u32> {
    ctx.sleep(Duration::from_millis(2)).await?;
    Ok(n)
}

/// One child that outlives it and one that does not, and an end of its own choice.
async fn parent(ctx: Ctx, then: String) -> Result<u32> {
    let outlives = ctx.child(child, 1).outlives_parent().id(&format!("{}-on", ctx.run_id()));
    let mut outlives = outlives.start();
    let cancelled = ctx.child(child, 2).id(&format!("{}-off", ctx.run_id())).start();
    match then.as_str() {
        "waits" => Ok(outlives.await? + cancelled.await?),
        "fails" => {
            ctx.sleep(Duration::from_millis(1)).await?;
            Err("sold out".into())
        }
        "drops" => {
            let lost = tidemill_select(&ctx, &mut outlives).await?;
            drop((outlives, cancelled));
            Ok(lost)
        }
        _ => Ok(0),
    }
}

async fn tidemill_select(ctx: &Ctx, child: &mut crate::Child<u32>) -> Result<u32> {
    crate::select! {
        n = child => Ok(n?),
        _ = ctx.sleep(Duration::from_millis(1)) => Ok(9),
    }
}

/// Started and dropped in one poll.
async fn hasty(ctx: Ctx, (): ()) -> Result<()> {
    drop(ctx.child(child, 1).id("hasty-on").outlives_parent().start());
    drop(ctx.child(child, 2).id("hasty-off").start());
    Ok(())
}

/// The same in a turn of several commits, of which a later one drops them.
async fn hasty_in_parts(ctx: Ctx, (): ()) -> Result<()> {
    let on = ctx.child(child, 1).id("parts-on").outlives_parent().start();
    let off = ctx.child(child, 2).id("parts-off").start();
    let timers: Vec<_> = (0..20).map(|_| ctx.sleep(LONG).start()).collect();
    drop((on, off, timers));
    Ok(())
}

fn app(done: &Done) -> App {
    App::new("t")
        .state(Arc::clone(done))
        .unload_after(Duration::ZERO)
        .workflow("child", child)
        .workflow("quick", quick)
        .workflow("parent", parent)
        .workflow("hasty", hasty)
        .workflow("parts", hasty_in_parts)
}

fn id(run: &str) -> RunId {
    RunId::new(run).unwrap()
}

async fn start(node: &Node, workflow: &str, input: serde_json::Value, id: &str) -> RunId {
    let request = StartRequest::new(workflow, input).unwrap().id(id);
    node.start_request(request).await.unwrap().id
}

async fn close(node: Node, path: &Path) {
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(path);
}

async fn goes_on(node: &Node, run: &str, done: &Done) {
    let before = done.load(Ordering::Relaxed);
    node.signal(&id(run), SignalRequest::new("go", true).unwrap()).await.unwrap();
    assert_eq!(soon(node.result(&id(run))).await.unwrap().output::<u32>().unwrap(), 1);
    assert_eq!(done.load(Ordering::Relaxed), before + 1, "its work is done once");
}

fn waits(path: &Path, run: &str) -> bool {
    kinds(path, run).iter().any(|kind| kind == "signal_started")
}

fn unwanted(path: &Path) -> usize {
    due::unwanted(&open_reader(path).unwrap(), Seq::ZERO, 100).unwrap().len()
}

/// temporal's `PARENT_CLOSE_POLICY_ABANDON` with each way in which a parent closes: no cascade reaches
/// the child, in this process or in one that takes the file up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_outlives_each_end_of_its_parent_and_another_does_not() {
    let (Place { path, .. }, done) = (&place(), Done::default());
    let node = app(&done).open(path).await.unwrap();
    let ways = [("fail", "fails"), ("drop", "drops"), ("cancel", "waits"), ("shoot", "waits")];
    for (name, then) in ways {
        let run = start(&node, "parent", then.into(), name).await;
        let (on, off) = (format!("{name}-on"), format!("{name}-off"));
        let by = || Requester::default().by("a test");
        if then == "waits" {
            until(|| waits(path, &on) && waits(path, &off)).await;
        }
        match name {
            "cancel" => drop(node.cancel(&run, by()).await.unwrap()),
            "shoot" => drop(node.terminate(&run, by()).await.unwrap()),
            _ => {}
        }
        drop(soon(node.result(&run)).await.unwrap());
        let RunResult::Failed(failure) = soon(node.result(&id(&off))).await.unwrap() else {
            panic!("{off} went on")
        };
        assert_eq!(failure.kind, FailureKind::Cancelled, "{off}");
        until(|| waits(path, &on)).await;
        let row = format!("SELECT awaited || '' FROM tidemill_runs WHERE run = '{on}'");
        assert_eq!(text(path, &row), "2");
    }
    assert_eq!(unwanted(path), 0);
    close(node, path).await;
    let node = app(&done).open(path).await.unwrap();
    for (name, _) in ways {
        goes_on(&node, &format!("{name}-on"), &done).await;
    }
    assert_eq!(text(path, "SELECT max(awaited) || '' FROM tidemill_runs"), "0");
    close(node, path).await;
}

/// A cancel does not wait for a child that nobody asks to clean up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_for_a_child_that_outlives_ends_with_the_cancel_itself() {
    async fn waits_for_one(ctx: Ctx, (): ()) -> Result<u32> {
        Ok(ctx.child(child, 1).id("on").outlives_parent().await?)
    }
    let (Place { path, .. }, done) = (&place(), Done::default());
    let node = app(&done).workflow("one", waits_for_one).open(path).await.unwrap();
    let run = start(&node, "one", serde_json::Value::Null, "r").await;
    until(|| waits(path, "on")).await;
    assert_eq!(node.cancel(&run, Requester::default()).await.unwrap(), RunStatus::Cancelled);
    let wanted = ["run_created", "run_started", "child_started", "cancel_requested", "run_failed"];
    assert_eq!(kinds(path, "r"), wanted);
    let resolves =
        "SELECT data ->> '$.resolves.1' || '' FROM events WHERE kind = 'cancel_requested'";
    assert_eq!(text(path, resolves), "0");
    goes_on(&node, "on", &done).await;
    assert_eq!(kinds(path, "r"), wanted, "nobody is told of the child's end");
    close(node, path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_started_and_dropped_at_once_begins_only_if_it_outlives() {
    let (Place { path, .. }, done) = (&place(), Done::default());
    let node = app(&done).open(path).await.unwrap();
    for way in ["hasty", "parts"] {
        let run = start(&node, way, serde_json::Value::Null, way).await;
        soon(node.result(&run)).await.unwrap().output::<()>().unwrap();
        let off = format!("{way}-off");
        drop(soon(node.result(&id(&off))).await.unwrap());
        assert!(!waits(path, &off), "it ended before it began");
        goes_on(&node, &format!("{way}-on"), &done).await;
    }
    assert!(kinds(path, "parts").iter().any(|kind| kind == "turn_parted"));
    close(node, path).await;
}

/// Code that changes its mind while a child lives continues: what the child was started with counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_decides_whether_a_child_outlives_and_not_the_code_that_replays_it() {
    async fn outlives(ctx: Ctx, (): ()) -> Result<u32> {
        Ok(ctx.child(child, 1).id("on").outlives_parent().await?)
    }
    async fn does_not(ctx: Ctx, (): ()) -> Result<u32> {
        Ok(ctx.child(child, 1).id("on").await?)
    }
    let (Place { path, .. }, done) = (&place(), Done::default());
    let node = app(&done).workflow("w", outlives).open(path).await.unwrap();
    let run = start(&node, "w", serde_json::Value::Null, "r").await;
    until(|| waits(path, "on")).await;
    close(node, path).await;
    let node = app(&done).workflow("w", does_not).open(path).await.unwrap();
    assert_eq!(node.cancel(&run, Requester::default()).await.unwrap(), RunStatus::Cancelled);
    goes_on(&node, "on", &done).await;
    close(node, path).await;
}

/// A family leaves whole: the parent stays until the child that outlived it has ended, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_keeps_a_parent_whose_child_lives_on() {
    let (Place { path, .. }, done) = (&place(), Done::default());
    let node = app(&done).open(path).await.unwrap();
    let run = start(&node, "parent", "fails".into(), "r").await;
    drop(soon(node.result(&run)).await.unwrap());
    drop(soon(node.result(&id("r-off"))).await.unwrap());
    close(node, path).await;
    let later = async |hours: i64| {
        let instruments = Instruments::default();
        instruments.clock.step_wall(hours * 3_600_000_000);
        Node::open_with(app(&done), Environment::alone(path), instruments).await.unwrap()
    };
    let prune = async |node: &Node| {
        let keep = Some(Retention::new(vec!["1h".parse().unwrap()]).unwrap());
        let request = PruneRequest { keep, dry_run: false };
        soon(node.prune(request, Duration::from_secs(3_600))).await.unwrap()
    };
    let node = later(2).await;
    // The newest row of a log stays.
    start(&node, "child", 7.into(), "newer").await;
    until(|| waits(path, "newer")).await;
    let report = prune(&node).await;
    assert_eq!((report.runs, report.stays.not_ended), (0, 1), "{report:?}");
    goes_on(&node, "r-on", &done).await;
    close(node, path).await;
    let node = later(4).await;
    start(&node, "child", 7.into(), "newest").await;
    until(|| waits(path, "newest")).await;
    assert_eq!(prune(&node).await.runs, 3);
    close(node, path).await;
}

#[tokio::test]
async fn a_child_outlives_its_parent_whatever_commit_a_crash_is_at() {
    async fn loses(ctx: Ctx, (): ()) -> Result<u32> {
        let child = ctx.child::<u32, _, _, _>("works", 1).outlives_parent();
        crate::select! {
            n = child => Ok(n?),
            _ = ctx.sleep(Duration::from_millis(3)) => Ok(0),
        }
    }
    async fn works(ctx: Ctx, n: u32) -> Result<u32> {
        ctx.sleep(LONG).await?;
        Ok(ctx.step("work", work, n).await?)
    }
    let done = Done::default();
    let app = TestApp::new(move || app(&done).workflow("loses", loses).workflow("works", works));
    let report = app.crash_everywhere(loses, ()).await.unwrap();
    assert!(report.commits >= 6, "{report:?}");
}

async fn all_at_once(ctx: Ctx, children: u32) -> Result<u32> {
    let all = try_join_all((0..children).map(|n| ctx.child(quick, n))).await?;
    Ok(all.into_iter().sum())
}

async fn few_at_a_time(ctx: Ctx, children: u32) -> Result<u32> {
    let all = stream::iter(0..children).map(|n| ctx.child(quick, n)).buffer_unordered(3);
    Ok(all.try_collect::<Vec<_>>().await?.into_iter().sum())
}

/// Starts one after another, and looks at them only at the end.
async fn piles_up(ctx: Ctx, children: u32) -> Result<u32> {
    let mut open = Vec::new();
    for n in 0..children {
        open.push(ctx.child(child, n).id(&format!("pile-{n}")).start());
        ctx.run("next", async || Ok(())).await?;
    }
    Ok(try_join_all(open).await?.into_iter().sum())
}

fn bounded(done: &Done, max: usize) -> App {
    app(done)
        .workflow("all", all_at_once)
        .workflow("few", few_at_a_time)
        .workflow("pile", piles_up)
        .live_children_max(max)
}

/// What asks for too many is blocked before it has started one of them, and goes on once it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_children_at_once_block_their_parent_and_none_of_them_starts() {
    let (Place { path, .. }, done) = (&place(), Done::default());
    let node = bounded(&done, 5).open(path).await.unwrap();
    let run = start(&node, "all", 6.into(), "r").await;
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert_eq!(reason.kind, BlockReasonKind::Limit);
    let asked = reason.asked.unwrap();
    for part in ["6 more children when 0 live", "live_children=5"] {
        assert!(asked.contains(part), "{asked}");
    }
    assert!(reason.advice.contains("App::live_children_max"), "{}", reason.advice);
    assert_eq!(text(path, "SELECT count(*) || '' FROM runs"), "1");
    for (id, workflow, children) in [("s", "all", 5), ("t", "few", 20)] {
        let run = start(&node, workflow, children.into(), id).await;
        soon(node.result(&run)).await.unwrap().output::<u32>().unwrap();
    }
    close(node, path).await;
    let node = bounded(&done, 6).open(path).await.unwrap();
    until(|| text(path, "SELECT status FROM runs WHERE run = 'r'") == "completed").await;
    close(node, path).await;
}

/// The children that have ended meanwhile make room, although a blocked run has observed none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_blocked_by_its_live_children_goes_on_once_they_have_ended() {
    let (Place { path, .. }, done) = (&place(), Done::default());
    let node = bounded(&done, 2).open(path).await.unwrap();
    let run = start(&node, "pile", 3.into(), "r").await;
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert_eq!(reason.kind, BlockReasonKind::Limit);
    assert!(reason.asked.unwrap().contains("1 more children when 2 live"));
    node.resume(&run).await.unwrap();
    until(|| kinds(path, "r").iter().filter(|kind| *kind == "run_blocked").count() == 2).await;
    let go = || SignalRequest::new("go", true).unwrap();
    node.signal(&id("pile-0"), go()).await.unwrap();
    drop(soon(node.result(&id("pile-0"))).await.unwrap());
    node.resume(&run).await.unwrap();
    for n in 1..3 {
        let child = format!("pile-{n}");
        until(|| waits(path, &child)).await;
        node.signal(&id(&child), go()).await.unwrap();
    }
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 3);
    close(node, path).await;
}

#[tokio::test]
async fn a_bound_that_cannot_be_is_refused_when_the_program_is_opened() {
    let Place { path, .. } = &place();
    for max in [0, 1_000_001] {
        let error = App::new("t").live_children_max(max).open(path).await.unwrap_err();
        assert!(error.to_string().contains("App::live_children_max"), "{error}");
    }
}

/// A file in which something else has changed `awaited` is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsck_finds_a_child_whose_row_says_that_nobody_waits_though_it_lives_on() {
    let (Place { path, .. }, done) = (&place(), Done::default());
    let node = app(&done).open(path).await.unwrap();
    let run = start(&node, "parent", "fails".into(), "r").await;
    drop(soon(node.result(&run)).await.unwrap());
    drop(soon(node.result(&id("r-off"))).await.unwrap());
    until(|| waits(path, "r-on")).await;
    close(node, path).await;
    let file = open_writer(path, Checkpoints::Own).unwrap();
    file.execute("UPDATE tidemill_runs SET awaited = 0 WHERE run = 'r-on'", []).unwrap();
    drop(file);
    assert_eq!(unwanted(path), 1);
    let findings = tidemill_eventlog::fsck(&open_reader(path).unwrap()).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
}
