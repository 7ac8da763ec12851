//! Cancel, terminate, pause: what each reaches, who wins, and what is left for a clean-up. Traps that
//! others' users fell into are named for where they were reported.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tidemill_model::{BlockReasonKind, FailureKind, Requester, RunId, RunStatus};
use tokio::sync::Notify;

use super::crashes::crashed;
use super::place::{kinds, place, text, until};
use super::prefixes::{fsck, soon};
use crate::author::StepError;
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, ErrorKind, Node, Result, Retry, RunResult, StartRequest, Step};

const LONG: Duration = Duration::from_secs(86_400);

/// What bodies and tests tell each other.
#[derive(Default)]
struct Stage {
    begun: AtomicU32,
    ended: AtomicU32,
    refunds: AtomicU32,
    go: Notify,
    /// For a blocking body.
    free: (Mutex<bool>, Condvar),
}

type Shared = Arc<Stage>;

fn ada() -> Requester {
    Requester::default().by("ada").because("wrong input")
}

async fn start(node: &Node, workflow: &str) -> RunId {
    let request = StartRequest::new(workflow, ()).unwrap().id("r");
    node.start_request(request).await.unwrap().id
}

async fn failure(node: &Node, run: &RunId) -> tidemill_model::Failure {
    match soon(node.result(run)).await.unwrap() {
        RunResult::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// Closes the node and checks its file; every finished run replays.
async fn close(node: Node, path: &Path) {
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(path);
}

async fn hang(step: Step, (): ()) -> Result<()> {
    step.state::<Shared>().begun.fetch_add(1, Ordering::Relaxed);
    std::future::pending().await
}

/// Begins, waits for the test, and returns whatever it was asked.
async fn charge(step: Step, (): ()) -> Result<u32> {
    let stage = step.state::<Shared>();
    stage.begun.fetch_add(1, Ordering::Relaxed);
    stage.go.notified().await;
    stage.ended.fetch_add(1, Ordering::Relaxed);
    Ok(7)
}

async fn refund(step: Step, cents: u32) -> Result<u32> {
    let stage = step.state::<Shared>();
    let charged = stage.ended.load(Ordering::Relaxed);
    assert!(charged > 0, "it comes after the end of the charge");
    stage.refunds.fetch_add(1, Ordering::Relaxed);
    Ok(cents)
}

/// Charges, and refunds if it cannot ship.
async fn order(ctx: Ctx, (): ()) -> Result<()> {
    let cents = ctx.step("charge", charge, ()).await?;
    let shipped = ctx.sleep(LONG).named("ship").await;
    if shipped.is_err() {
        let undone = ctx.cleanup(|ctx| async move {
            ctx.sleep(Duration::from_millis(1)).await?;
            ctx.step("refund", refund, cents).await
        });
        undone.await?;
    }
    Ok(shipped?)
}

async fn sleeps(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(LONG).await?)
}

fn app(stage: &Shared) -> App {
    App::new("t")
        .state(Arc::clone(stage))
        .unload_after(Duration::ZERO)
        .workflow("order", order)
        .workflow("sleeps", sleeps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_run_that_left_memory_is_cancelled_and_says_by_whom() {
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).open(&place.path).await.unwrap();
    let run = start(&node, "sleeps").await;
    until(|| node.engine().registry.count() == 0).await;
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Cancelled);
    let failure = failure(&node, &run).await;
    assert_eq!(failure.kind, FailureKind::Cancelled);
    let says = "`sleep` was cancelled: the run was asked to end by ada: wrong input";
    assert_eq!(failure.message, says);
    // Who asks later is told what it is.
    let again = node.cancel(&run, ada()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert!(again.to_string().contains("it is cancelled"), "{again}");
    assert_eq!(
        node.cancel(&RunId::new("x").unwrap(), ada()).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let wanted = ["run_created", "run_started", "timer_started", "cancel_requested", "run_failed"];
    assert_eq!(kinds(&place.path, "r"), wanted);
    assert_eq!(text(&place.path, "SELECT status FROM timers"), "cancelled");
    close(node, &place.path).await;
}

/// Cancelled one second into a charge of three seconds: the charge is not cut off, its result counts,
/// and what undoes it comes after its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_step_ends_first_and_is_then_undone_once() {
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).open(&place.path).await.unwrap();
    let run = start(&node, "order").await;
    until(|| stage.begun.load(Ordering::Relaxed) == 1).await;
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Cancelling);
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Cancelling, "asked again");
    assert_eq!(text(&place.path, "SELECT status FROM runs"), "cancelling");
    stage.go.notify_one();
    assert_eq!(failure(&node, &run).await.kind, FailureKind::Cancelled);
    assert_eq!(stage.refunds.load(Ordering::Relaxed), 1);
    let steps = "SELECT group_concat(name || ' ' || status, ', ') FROM steps";
    assert_eq!(text(&place.path, steps), "charge completed, refund completed");
    close(node, &place.path).await;
}

/// The same with the machine lost in between: the charge was cut off, so nobody knows what it did. It
/// is attempted once more, with its token cancelled, and then undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_workers_attempt_is_brought_to_its_end_and_undone_once() {
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).open(&place.path).await.unwrap();
    let run = start(&node, "order").await;
    until(|| stage.begun.load(Ordering::Relaxed) == 1).await;
    let before = crashed(&place.path, 0);
    // Whether the cancel comes before the crash or after it.
    node.cancel(&run, ada()).await.unwrap();
    let after = crashed(&place.path, 1);
    stage.go.notify_one();
    node.shutdown().await.unwrap();
    for (path, is_asked) in [(before, false), (after, true)] {
        let stage = Shared::default();
        stage.go.notify_one();
        if !is_asked {
            // It begins again as usual, and is asked then.
            stage.go.notified().await;
        }
        let node = app(&stage).open(&path).await.unwrap();
        if !is_asked {
            until(|| stage.begun.load(Ordering::Relaxed) == 1).await;
            assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Cancelling);
            stage.go.notify_one();
        }
        assert_eq!(failure(&node, &run).await.kind, FailureKind::Cancelled);
        let [begun, ended, refunds] = [&stage.begun, &stage.ended, &stage.refunds];
        let counts = [begun, ended, refunds].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 1, 1], "asked before the crash: {is_asked}");
        close(node, &path).await;
    }
}

/// temporal documentation#1938, dust#16542: a body learns of a cancel through a heartbeat only. Here
/// its token is cancelled at once, and a body that does not look is dropped after the grace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_temporal_1938_a_body_is_told_at_once_and_one_that_hangs_is_dropped() {
    async fn listens(step: Step, (): ()) -> Result<u32> {
        step.state::<Shared>().begun.fetch_add(1, Ordering::Relaxed);
        step.cancellation().cancelled().await;
        Err("it stopped half way".into())
    }
    async fn both(ctx: Ctx, (): ()) -> Result<Vec<String>> {
        let retry = Retry::attempts(5).initial_delay(Duration::from_millis(1));
        let listens = ctx.step("listens", listens, ()).retry(retry).start();
        let hangs = ctx.step("hangs", hang, ()).start();
        let said = |error: StepError| {
            assert_eq!((error.kind(), error.attempts()), (FailureKind::Cancelled, 1));
            error.to_string()
        };
        Ok(vec![said(listens.await.unwrap_err()), said(hangs.await.unwrap_err())])
    }
    let (place, stage) = (place(), Shared::default());
    let app = app(&stage).grace(Duration::from_millis(1)).workflow("both", both);
    let node = app.open(&place.path).await.unwrap();
    let run = start(&node, "both").await;
    until(|| stage.begun.load(Ordering::Relaxed) == 2).await;
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Cancelling);
    let said: Vec<String> = soon(node.result(&run)).await.unwrap().output().unwrap();
    assert_eq!(said[0], "`listens` was cancelled: it stopped half way");
    assert!(said[1].contains("had not returned in time"), "{said:?}");
    // Its code returned an output: it is completed, and says that it was asked to end.
    let asked = "SELECT status || ' ' || (cancel ->> '$.by') FROM runs";
    assert_eq!(text(&place.path, asked), "completed ada");
    close(node, &place.path).await;
}

/// restate#3656: no effect during a back-off. And a step that waits for a thread never begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_restate_3656_what_is_queued_or_backs_off_ends_at_once() {
    async fn fails(step: Step, (): ()) -> Result<()> {
        step.state::<Shared>().ended.fetch_add(1, Ordering::Relaxed);
        Err("no luck".into())
    }
    async fn occupies(step: Step, (): ()) -> Result<()> {
        let stage = step.state::<Shared>();
        stage.begun.fetch_add(1, Ordering::Relaxed);
        let (free, wakes) = &stage.free;
        drop(wakes.wait_while(free.lock().unwrap(), |free| !*free).unwrap());
        Ok(())
    }
    async fn waits(ctx: Ctx, (): ()) -> Result<Vec<(FailureKind, u32)>> {
        let retry = Retry::attempts(5).initial_delay(LONG).max_delay(LONG);
        let backs_off = ctx.step("backs off", fails, ()).retry(retry).start();
        let queued = ctx.step("queued", hang, ()).blocking().start();
        let errors = [backs_off.await.unwrap_err(), queued.await.unwrap_err()];
        Ok(errors.iter().map(|error| (error.kind(), error.attempts())).collect())
    }
    async fn holds_the_pool(ctx: Ctx, (): ()) -> Result<()> {
        let many = (0..256).map(|_| ctx.step("occupies", occupies, ()).blocking());
        futures_util::future::try_join_all(many).await?;
        Ok(())
    }
    let (place, stage) = (place(), Shared::default());
    let app = app(&stage).workflow("waits", waits).workflow("holds", holds_the_pool);
    let node = app.open(&place.path).await.unwrap();
    let other = StartRequest::new("holds", ()).unwrap().id("other");
    let other = node.start_request(other).await.unwrap().id;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u32::try_from(threads).unwrap();
    until(|| stage.begun.load(Ordering::Relaxed) >= threads).await;
    let run = start(&node, "waits").await;
    let failed = "SELECT CAST(count(*) AS TEXT) FROM events WHERE kind = 'step_attempt_failed'";
    until(|| text(&place.path, failed) == "1").await;
    // Its body may still be on its way into the back-off.
    let told = node.cancel(&run, ada()).await.unwrap();
    assert!([RunStatus::Cancelling, RunStatus::Completed].contains(&told), "{told}");
    let ended: Vec<(FailureKind, u32)> = soon(node.result(&run)).await.unwrap().output().unwrap();
    assert_eq!(ended, [(FailureKind::Cancelled, 1), (FailureKind::Cancelled, 0)]);
    let steps = "SELECT group_concat(name || ' ' || status, ', ') FROM steps WHERE run = 'r'";
    assert_eq!(text(&place.path, steps), "backs off cancelled, queued cancelled");
    *stage.free.0.lock().unwrap() = true;
    stage.free.1.notify_all();
    soon(node.result(&other)).await.unwrap().output::<()>().unwrap();
    close(node, &place.path).await;
}

/// dbos-py#767: a cancel that loses against completion returns without a word. Here both are commits
/// of one driver, and the caller is told which was first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trap_dbos_767_cancel_races_completion_and_is_told_what_won() {
    async fn short(ctx: Ctx, (): ()) -> Result<u32> {
        Ok(ctx.run("short", async || Ok(7)).await?)
    }
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).workflow("short", short).open(&place.path).await.unwrap();
    let mut won = [0, 0];
    for number in 0_u32..300 {
        let request = StartRequest::new("short", ()).unwrap().id(&format!("s-{number}"));
        let run = node.start_request(request).await.unwrap().id;
        for _ in 0..number % 64 {
            tokio::task::yield_now().await;
        }
        if number % 16 == 15 {
            // However slow the machine is, some of them have ended.
            soon(node.result(&run)).await.unwrap();
        }
        match node.cancel(&run, ada()).await {
            Ok(told) => {
                won[0] += 1;
                assert!(
                    [RunStatus::Cancelling, RunStatus::Cancelled, RunStatus::Completed]
                        .contains(&told)
                );
                soon(node.result(&run)).await.unwrap();
                assert!(
                    kinds(&place.path, run.as_str()).iter().any(|kind| kind.starts_with("cancel_"))
                );
            }
            Err(error) => {
                won[1] += 1;
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert!(error.to_string().contains("it is completed"), "{error}");
                let ended = soon(node.result(&run)).await.unwrap();
                assert_eq!(ended.output::<u32>().unwrap(), 7);
                assert!(!kinds(&place.path, run.as_str()).contains(&"cancel_requested".to_owned()));
            }
        }
    }
    assert!(won.iter().all(|times| *times > 0), "{won:?}");
    close(node, &place.path).await;
}

/// dbos-py#425: a client that goes away cancels its waiter, and with it the run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_dbos_425_a_dropped_future_never_touches_the_run() {
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).open(&place.path).await.unwrap();
    let run = start(&node, "order").await;
    until(|| stage.begun.load(Ordering::Relaxed) == 1).await;
    let waits = tokio::time::timeout(Duration::from_millis(1), node.result(&run));
    assert!(waits.await.is_err(), "the run goes on");
    drop(node.run::<()>(&run));
    assert!(!kinds(&place.path, "r").contains(&"cancel_requested".to_owned()));
    // A caller that goes away has asked all the same.
    drop(tokio::time::timeout(Duration::ZERO, node.cancel(&run, ada())).await);
    until(|| kinds(&place.path, "r").contains(&"cancel_requested".to_owned())).await;
    stage.go.notify_one();
    assert_eq!(failure(&node, &run).await.kind, FailureKind::Cancelled);
    close(node, &place.path).await;
}

/// dbos-ts#1303: the cancel becomes a step's result, and the run cannot be resumed. inngest#2531: a
/// run that nothing can cancel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_inngest_2531_a_blocked_run_is_cancelled_when_it_can_be_told_or_terminated() {
    async fn breaks(ctx: Ctx, (): ()) -> Result<()> {
        let mended = ctx.run("look", async || Ok(())).await.is_ok();
        assert!(mended);
        panic!("a bug");
    }
    async fn mended(ctx: Ctx, (): ()) -> Result<()> {
        ctx.run("look", async || Ok(())).await?;
        Ok(ctx.sleep(LONG).await?)
    }
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).workflow("breaks", breaks).open(&place.path).await.unwrap();
    let run = start(&node, "breaks").await;
    assert!(matches!(soon(node.result(&run)).await.unwrap(), RunResult::Blocked(_)));
    assert_eq!(node.pause(&run, ada()).await.unwrap_err().kind(), ErrorKind::Conflict);
    // It is tried with the cancel, and breaks again: the cancel waits.
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Cancelling);
    until(|| text(&place.path, "SELECT status FROM runs") == "blocked").await;
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Blocked, "asked again");
    close(node, &place.path).await;

    let copy = crashed(&place.path, 0);
    let node = app(&stage).workflow("breaks", mended).open(&copy).await.unwrap();
    assert_eq!(failure(&node, &run).await.kind, FailureKind::Cancelled);
    assert!(kinds(&copy, "r").contains(&"cancel_requested".to_owned()), "its code was told");
    close(node, &copy).await;

    let node = app(&stage).workflow("breaks", breaks).open(&place.path).await.unwrap();
    assert_eq!(node.terminate(&run, ada()).await.unwrap(), RunStatus::Cancelled);
    let failure = failure(&node, &run).await;
    assert_eq!(failure.message, "it was terminated by ada: wrong input");
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_ends_the_process_is_given_up_by_a_cancel() {
    async fn deadly(ctx: Ctx, (): ()) -> Result<u32> {
        let error = ctx.step("deadly", hang, ()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Cancelled);
        Ok(error.attempts())
    }
    let (place, stage) = (place(), Shared::default());
    let app = || app(&stage).grace(Duration::ZERO).workflow("deadly", deadly);
    let (mut path, mut run) = (place.path.clone(), None);
    for crash in 0..5 {
        let node = app().open(&path).await.unwrap();
        run = Some(start(&node, "deadly").await);
        until(|| stage.begun.load(Ordering::Relaxed) == crash + 1).await;
        path = crashed(&path, usize::try_from(crash).unwrap());
        node.shutdown().await.unwrap();
    }
    let run = run.unwrap();
    let node = app().open(&path).await.unwrap();
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert_eq!(reason.kind, BlockReasonKind::Poison);
    let told = node.cancel(&run, ada()).await.unwrap();
    assert!([RunStatus::Cancelling, RunStatus::Completed].contains(&told), "{told}");
    until(|| text(&path, "SELECT status FROM runs") == "completed").await;
    let attempts: u32 = soon(node.result(&run)).await.unwrap().output().unwrap();
    assert_eq!(attempts, 5, "it may have done something each time");
    assert_eq!(stage.begun.load(Ordering::Relaxed), 5, "it did not begin again");
    close(node, &path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_never_began_ends_without_its_code() {
    let (place, stage) = (place(), Shared::default());
    let instruments = Instruments::default();
    // The start is written, and nothing after it.
    instruments.faults.fail(2..100_000);
    let environment = Environment::alone(&place.path);
    let node = Node::open_with(app(&stage), environment, instruments.clone()).await.unwrap();
    let run = start(&node, "order").await;
    until(|| instruments.faults.counts().1 > 0).await;
    let refused = node.cancel(&run, ada()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "the disk is full: {refused}");
    assert_eq!(kinds(&place.path, "r"), ["run_created"], "nothing of it is left");
    let copy = crashed(&place.path, 0);
    node.shutdown().await.unwrap();
    let node = app(&stage).open(&copy).await.unwrap();
    let told = node.cancel(&run, ada()).await.unwrap();
    assert!(told == RunStatus::Cancelled || told == RunStatus::Cancelling, "{told}");
    close(node, &copy).await;
}

/// A cancel goes down the tree, and each run ends after those below it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_cascades_and_waits_for_the_clean_up_of_children() {
    async fn tree(ctx: Ctx, depth: u32) -> Result<()> {
        let below = async {
            match depth.checked_sub(1) {
                Some(depth) => {
                    let both = [0, 1].map(|_| ctx.child::<(), _, _, _>("tree", depth));
                    futures_util::future::join_all(both).await.into_iter().collect()
                }
                None => ctx.sleep(LONG).await,
            }
        };
        let ended = below.await;
        ctx.cleanup(|ctx| async move { ctx.sleep(Duration::from_millis(2)).await }).await?;
        Ok(ended?)
    }
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).workflow("tree", tree).open(&place.path).await.unwrap();
    let request = StartRequest::new("tree", 3).unwrap().id("r");
    let run = node.start_request(request).await.unwrap().id;
    let waiting = "SELECT CAST(count(*) AS TEXT) FROM timers WHERE status = 'waiting'";
    until(|| text(&place.path, waiting) == "8").await;
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Cancelling);
    assert_eq!(failure(&node, &run).await.kind, FailureKind::Cancelled);
    let late = "SELECT CAST(count(*) AS TEXT) FROM runs c JOIN runs p ON p.run = c.parent
                WHERE c.ended_at > p.ended_at OR c.status <> 'cancelled'";
    assert_eq!(text(&place.path, late), "0", "no child outlives its parent");
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_does_not_look_at_its_errors_is_blocked() {
    async fn stubborn(ctx: Ctx, (): ()) -> Result<()> {
        loop {
            let _ = ctx.sleep(LONG).await;
        }
    }
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).workflow("stubborn", stubborn).open(&place.path).await.unwrap();
    let run = start(&node, "stubborn").await;
    until(|| kinds(&place.path, "r").contains(&"timer_started".to_owned())).await;
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Blocked);
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert_eq!(reason.kind, BlockReasonKind::Runaway);
    assert!(reason.advice.contains("terminate"), "{reason}");
    assert_eq!(node.terminate(&run, ada()).await.unwrap(), RunStatus::Cancelled);
    close(node, &place.path).await;
}

/// An error that has nothing to do with the cancel is a failure, and one of a child that was cancelled
/// by itself cancels nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_error_of_the_cancel_makes_a_run_cancelled() {
    async fn other(ctx: Ctx, (): ()) -> Result<()> {
        let _ = ctx.sleep(LONG).await;
        Err("the warehouse burned down".into())
    }
    async fn wraps(ctx: Ctx, (): ()) -> Result<()> {
        let ended = ctx.sleep(LONG).await;
        ended.map_err(|error| std::io::Error::other(error).into())
    }
    async fn parent(ctx: Ctx, (): ()) -> Result<()> {
        Ok(ctx.child::<(), _, _, _>("sleeps", ()).await?)
    }
    for (workflow, status) in [("other", "failed"), ("wraps", "cancelled"), ("parent", "failed")] {
        let (place, stage) = (place(), Shared::default());
        let app = app(&stage).workflow("other", other).workflow("wraps", wraps);
        let node = app.workflow("parent", parent).open(&place.path).await.unwrap();
        let run = start(&node, workflow).await;
        let timers = "SELECT CAST(count(*) AS TEXT) FROM timers";
        until(|| text(&place.path, timers) == "1").await;
        let asked = if workflow == "parent" { "r.1".parse().unwrap() } else { run.clone() };
        node.cancel(&asked, ada()).await.unwrap();
        soon(node.result(&run)).await.unwrap();
        assert_eq!(
            text(&place.path, "SELECT status FROM runs WHERE run = 'r'"),
            status,
            "{workflow}"
        );
        close(node, &place.path).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_run_lets_its_bodies_end_and_starts_nothing_until_it_is_resumed() {
    async fn two(ctx: Ctx, (): ()) -> Result<u32> {
        let cents = ctx.step("charge", charge, ()).await?;
        Ok(cents + ctx.step("charge", charge, ()).await?)
    }
    let (place, stage) = (place(), Shared::default());
    let app = || app(&stage).workflow("two", two);
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "two").await;
    until(|| stage.begun.load(Ordering::Relaxed) == 1).await;
    assert_eq!(node.pause(&run, ada()).await.unwrap(), RunStatus::Paused);
    assert_eq!(node.pause(&run, ada()).await.unwrap(), RunStatus::Paused, "asked again");
    stage.go.notify_one();
    until(|| kinds(&place.path, "r").contains(&"op_held".to_owned())).await;
    until(|| node.engine().registry.count() == 0).await;
    close(node, &place.path).await;
    // It stays so in the next process.
    let node = app().open(&place.path).await.unwrap();
    assert_eq!(text(&place.path, "SELECT status FROM runs"), "paused");
    node.resume(&run).await.unwrap();
    until(|| stage.begun.load(Ordering::Relaxed) == 2).await;
    stage.go.notify_one();
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 14);
    assert_eq!(stage.ended.load(Ordering::Relaxed), 2, "neither ran twice");
    close(node, &place.path).await;

    // A cancel reaches a paused run, and ends the pause.
    let place = self::place();
    let node = self::app(&stage).open(&place.path).await.unwrap();
    let run = start(&node, "sleeps").await;
    until(|| kinds(&place.path, "r").contains(&"timer_started".to_owned())).await;
    assert_eq!(node.pause(&run, ada()).await.unwrap(), RunStatus::Paused);
    assert_eq!(node.cancel(&run, ada()).await.unwrap(), RunStatus::Cancelling);
    assert_eq!(failure(&node, &run).await.kind, FailureKind::Cancelled);
    close(node, &place.path).await;
}

/// A pause takes an attempt away only as long as the log does not say that it began: otherwise the
/// log would tell of a crash that never was, and five pauses would be poison.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_no_crash() {
    async fn chain(ctx: Ctx, (): ()) -> Result<u32> {
        for _ in 0..400 {
            ctx.run("link", async || Ok(())).await?;
            ctx.run("blocking link", async || Ok(())).blocking().await?;
        }
        Ok(7)
    }
    let (place, stage) = (place(), Shared::default());
    let node = app(&stage).workflow("chain", chain).open(&place.path).await.unwrap();
    let run = start(&node, "chain").await;
    let mut pauses = 0;
    while pauses < 500 && node.pause(&run, ada()).await.is_ok() {
        pauses += 1;
        node.resume(&run).await.unwrap();
        for _ in 0..pauses % 128 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 7);
    assert!(pauses > 10, "{pauses}");
    assert!(!kinds(&place.path, "r").contains(&"step_restarted".to_owned()), "{pauses} pauses");
    close(node, &place.path).await;
}
