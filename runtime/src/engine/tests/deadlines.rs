//! Runs that are cancelled at their deadline: whatever they do then, in whichever process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tidemill_eventlog::{Checkpoints, make_own, open_writer};
use tidemill_model::{FailureKind, InstanceId, NodeId, Requester, RunStatus, Timestamp};

use super::crashes::crashed;
use super::place::{Place, kinds, place, text, until};
use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{
    App, Ctx, Environment, ErrorKind, ForkRequest, Node, Result, RunResult, StartRequest, Step,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Default)]
struct Stage {
    refunds: AtomicU32,
    is_mended: AtomicBool,
}

async fn sleeps(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(DAY).await?)
}

async fn refund(step: Step, (): ()) -> Result<()> {
    step.state::<Arc<Stage>>().refunds.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Waits for a child, and cleans up after it.
async fn parent(ctx: Ctx, (): ()) -> Result<()> {
    let child = ctx.child(cleans, ()).await;
    ctx.cleanup(|ctx| async move { ctx.step("refund", refund, ()).await }).await?;
    Ok(child?)
}

async fn cleans(ctx: Ctx, (): ()) -> Result<()> {
    let slept = ctx.sleep(DAY).await;
    ctx.cleanup(|ctx| async move { ctx.step("refund", refund, ()).await }).await?;
    Ok(slept?)
}

/// Gives its child a second, and a run of its own, too.
async fn impatient(ctx: Ctx, (): ()) -> Result<FailureKind> {
    let time = Duration::from_millis(1_200);
    let spawned = ctx.spawn(cleans, ()).id("spawned").within(time).await?;
    assert_eq!(spawned.as_str(), "spawned");
    Ok(ctx.child(cleans, ()).within(time).await.unwrap_err().kind())
}

async fn eternal(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.child(cleans, ()).within(Duration::MAX).await?)
}

async fn quick(_: Ctx, (): ()) -> Result<u32> {
    Ok(7)
}

fn app(stage: &Arc<Stage>) -> App {
    let mended = Arc::clone(stage);
    let breaks = move |ctx: Ctx, (): ()| {
        let stage = Arc::clone(&mended);
        async move {
            assert!(stage.is_mended.load(Ordering::SeqCst), "a bug");
            Result::<()>::Ok(ctx.sleep(DAY).await?)
        }
    };
    App::new("t")
        .state(Arc::clone(stage))
        .unload_after(Duration::ZERO)
        .workflow("sleeps", sleeps)
        .workflow("parent", parent)
        .workflow("cleans", cleans)
        .workflow("quick", quick)
        .workflow("impatient", impatient)
        .workflow("eternal", eternal)
        .workflow("breaks", breaks)
}

async fn open(path: &Path, stage: &Arc<Stage>, instruments: &Instruments) -> Node {
    let environment = Environment::alone(path);
    Node::open_with(app(stage), environment, instruments.clone()).await.unwrap()
}

/// The clocks of a machine on which so much more time has passed.
fn later(time: Duration) -> Instruments {
    let instruments = Instruments::default();
    instruments.clock.step_wall(i64::try_from(time.as_micros()).unwrap());
    instruments
}

async fn start(node: &Node, workflow: &str, id: &str, within: Duration) {
    let request = StartRequest::new(workflow, ()).unwrap().id(id).within(within);
    node.start_request(request).await.unwrap();
}

async fn result(node: &Node, run: &str) -> RunResult {
    soon(node.result(&run.parse().unwrap())).await.unwrap()
}

/// That the run was cancelled by its deadline.
async fn is_late(node: &Node, path: &Path, run: &str) {
    let RunResult::Failed(failure) = result(node, run).await else {
        panic!("{run} has not failed")
    };
    assert_eq!(failure.kind, FailureKind::Cancelled, "{run}: {failure}");
    let requester = text(path, &format!("SELECT cancel FROM runs WHERE run = '{run}'"));
    let deadline = text(path, &format!("SELECT deadline FROM runs WHERE run = '{run}'"));
    assert_eq!(requester, format!(r#"{{"deadline":"{deadline}"}}"#), "{run}");
}

fn status(path: &Path, run: &str) -> String {
    text(path, &format!("SELECT status FROM runs WHERE run = '{run}'"))
}

async fn close(node: Node, path: &Path) {
    node.shutdown().await.unwrap();
    fsck(path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_run_cleans_up_and_so_do_its_children() {
    let (place, stage) = (place(), Arc::<Stage>::default());
    let node = open(&place.path, &stage, &Instruments::default()).await;
    start(&node, "parent", "p", Duration::from_millis(1_500)).await;
    start(&node, "quick", "q", Duration::from_millis(1_500)).await;
    is_late(&node, &place.path, "p").await;
    assert_eq!(stage.refunds.load(Ordering::SeqCst), 2);
    let requester = text(&place.path, "SELECT cancel FROM runs WHERE run = 'p.1'");
    assert_eq!(requester, r#"{"parent":"p"}"#);
    assert_eq!(result(&node, "q").await.output::<u32>().unwrap(), 7, "it was in time");
    close(node, &place.path).await;
}

/// A run of each kind, given an hour, and the file as a crash leaves it.
async fn in_every_state(stage: &Arc<Stage>) -> Place {
    let place = place();
    let node = open(&place.path, stage, &Instruments::default()).await;
    start(&node, "sleeps", "paused", HOUR).await;
    node.pause(&"paused".parse().unwrap(), Requester::default()).await.unwrap();
    start(&node, "breaks", "blocked", HOUR).await;
    assert!(matches!(result(&node, "blocked").await, RunResult::Blocked(_)));
    start(&node, "sleeps", "sleeping", HOUR).await;
    start(&node, "sleeps", "has-time", DAY).await;
    until(|| kinds(&place.path, "has-time").len() == 3).await;
    until(|| node.engine().registry.count() == 0).await;
    close(node, &place.path).await;
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_reaches_sleeping_paused_and_blocked_runs_in_the_next_process() {
    let stage = Arc::<Stage>::default();
    let place = in_every_state(&stage).await;
    let node = open(&place.path, &stage, &later(HOUR)).await;
    is_late(&node, &place.path, "sleeping").await;
    is_late(&node, &place.path, "paused").await;
    // Its code cannot be told; it ends when it can.
    let asked = || kinds(&place.path, "blocked").contains(&"cancel_held".to_owned());
    until(asked).await;
    stage.is_mended.store(true, Ordering::SeqCst);
    // Its code may have been tried again since, and has ended then.
    if let Err(error) = node.resume(&"blocked".parse().unwrap()).await {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    is_late(&node, &place.path, "blocked").await;
    assert_eq!(status(&place.path, "has-time"), "suspended");
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_a_crash_kept_from_beginning_is_late_in_the_next_process() {
    let (place, stage) = (place(), Arc::<Stage>::default());
    let instruments = Instruments::default();
    // The start is written, and nothing after it.
    instruments.faults.fail(2..100_000);
    let node = open(&place.path, &stage, &instruments).await;
    start(&node, "sleeps", "r", HOUR).await;
    let copy = crashed(&place.path, 0);
    node.shutdown().await.unwrap();
    let node = open(&copy, &stage, &later(HOUR)).await;
    is_late(&node, &copy, "r").await;
    close(node, &copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_cannot_be_recorded_is_tried_again() {
    let (place, stage) = (place(), Arc::<Stage>::default());
    let node = open(&place.path, &stage, &Instruments::default()).await;
    start(&node, "cleans", "r", HOUR).await;
    until(|| kinds(&place.path, "r").len() == 3).await;
    close(node, &place.path).await;
    let instruments = later(HOUR);
    // The process begins, and then the disk is full for some time.
    instruments.faults.fail(2..12);
    let node = open(&place.path, &stage, &instruments).await;
    is_late(&node, &place.path, "r").await;
    assert!(instruments.faults.counts().1 >= 10, "commits failed on purpose");
    assert_eq!(stage.refunds.load(Ordering::SeqCst), 1);
    close(node, &place.path).await;
}

/// The clock of the machine that a copy was made of says nothing about the copy: its clean-ups would be
/// done a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_run_has_no_deadline_until_it_is_let_go() {
    let stage = Arc::<Stage>::default();
    let place = in_every_state(&stage).await;
    let file = open_writer(&place.path, Checkpoints::Own).unwrap();
    let (name, id) = (NodeId::new("copy").unwrap(), InstanceId::from_random([9; 16]));
    let (_, parked) = make_own(&file, &name, id, Timestamp::from_micros(1).unwrap()).unwrap();
    assert_eq!(parked, 4);
    drop(file);
    let node = open(&place.path, &stage, &later(HOUR)).await;
    start(&node, "sleeps", "r", Duration::from_millis(100)).await;
    // It comes after the others in the list.
    is_late(&node, &place.path, "r").await;
    assert_eq!(status(&place.path, "sleeping"), "blocked");
    assert!(!kinds(&place.path, "sleeping").iter().any(|kind| kind.starts_with("cancel")));
    node.resume(&"sleeping".parse().unwrap()).await.unwrap();
    is_late(&node, &place.path, "sleeping").await;
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_has_as_much_time_as_its_run_had() {
    let (place, stage) = (place(), Arc::<Stage>::default());
    let node = open(&place.path, &stage, &Instruments::default()).await;
    start(&node, "cleans", "r", Duration::from_millis(1_200)).await;
    is_late(&node, &place.path, "r").await;
    let request = ForkRequest::at("0").id("f");
    node.fork(&"r".parse().unwrap(), request).await.unwrap();
    is_late(&node, &place.path, "f").await;
    let [of_run, of_fork] = ["r", "f"]
        .map(|run| text(&place.path, &format!("SELECT deadline FROM runs WHERE run = '{run}'")));
    assert!(of_fork > of_run, "{of_fork} is not later than {of_run}");
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_no_run_can_have_is_refused_and_a_repeat_keeps_the_first() {
    let (place, stage) = (place(), Arc::<Stage>::default());
    let node = open(&place.path, &stage, &Instruments::default()).await;
    for time in [Duration::ZERO, DAY * 365 * 101, Duration::MAX] {
        let request = StartRequest::new("quick", ()).unwrap().within(time);
        let refused = node.start_request(request).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains("a run may be given 1ms to 36525d"), "{refused}");
    }
    start(&node, "sleeps", "r", HOUR).await;
    let deadline = || text(&place.path, "SELECT deadline FROM runs WHERE run = 'r'");
    let first = deadline();
    start(&node, "sleeps", "r", DAY).await;
    assert_eq!(deadline(), first);
    let cancelled = node.cancel(&"r".parse().unwrap(), Requester::default()).await.unwrap();
    assert!([RunStatus::Cancelled, RunStatus::Cancelling].contains(&cancelled));
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_gives_a_child_its_time() {
    let (place, stage) = (place(), Arc::<Stage>::default());
    let node = open(&place.path, &stage, &Instruments::default()).await;
    start(&node, "impatient", "p", DAY).await;
    let kind = result(&node, "p").await.output::<FailureKind>().unwrap();
    assert_eq!(kind, FailureKind::Cancelled);
    is_late(&node, &place.path, "p.2").await;
    is_late(&node, &place.path, "spawned").await;
    assert_eq!(stage.refunds.load(Ordering::SeqCst), 2);
    start(&node, "eternal", "e", DAY).await;
    let RunResult::Blocked(reason) = result(&node, "e").await else { panic!("it has its child") };
    assert!(reason.why().contains("a run may be given 1ms to 36525d"), "{reason}");
    close(node, &place.path).await;
}
