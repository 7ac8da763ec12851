//! Operations that are made outside their run's turn and awaited in it: nothing of them is ever
//! written, the run is blocked and names the call and its thread, and other runs continue.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidemill::{App, Ctx, Node, Result, RunId, RunResult, StartRequest, Step};
use tidemill_model::{BlockReason, BlockReasonKind};

use crate::common::{Place, fsck, soon, sql};

const SECOND: Duration = Duration::from_secs(1);

async fn number(_: Step, n: u32) -> Result<u32> {
    Ok(n)
}

/// Does something on a thread of its own and waits for it, as `par_iter` and the like do.
fn elsewhere<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().name("elsewhere".to_owned()).spawn(what).unwrap();
    thread.join().unwrap()
}

async fn steps(ctx: Ctx, (): ()) -> Result<u32> {
    let theirs = ctx.clone();
    let off = elsewhere(move || theirs.step("off", number, 1));
    let on = ctx.step("on", number, 2);
    let (off, on) = tokio::join!(off, on);
    Ok(off? + on?)
}

async fn timers(ctx: Ctx, (): ()) -> Result<()> {
    let theirs = ctx.clone();
    let off = elsewhere(move || theirs.sleep(SECOND));
    let on = ctx.sleep(SECOND);
    let (off, on) = tokio::join!(off, on);
    off?;
    Ok(on?)
}

async fn children(ctx: Ctx, (): ()) -> Result<u32> {
    let theirs = ctx.clone();
    let off = elsewhere(move || theirs.child::<u32, _, _, _>("healthy", 1).start());
    let on = ctx.child::<u32, _, _, _>("healthy", 1).start();
    let (off, on) = tokio::join!(off, on);
    Ok(off? + on?)
}

async fn many_threads(ctx: Ctx, (): ()) -> Result<u32> {
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let theirs = ctx.clone();
            std::thread::Builder::new()
                .name("elsewhere".to_owned())
                .spawn(move || theirs.step("off", number, n))
                .unwrap()
        })
        .collect();
    let calls = threads.into_iter().map(|thread| thread.join().unwrap());
    let all = futures_util::future::try_join_all(calls).await?;
    Ok(all.into_iter().sum())
}

/// The mistake comes in a later turn, whose input counts and whose acts do not.
async fn later(ctx: Ctx, (): ()) -> Result<u32> {
    let first = ctx.step("first", number, 1).await?;
    let theirs = ctx.clone();
    let off = elsewhere(move || theirs.step("off", number, 1));
    let (off, on) = tokio::join!(off, ctx.step("on", number, 2));
    Ok(first + off? + on?)
}

/// Ends with an output in the very poll in which it made the mistake.
async fn at_its_end(ctx: Ctx, (): ()) -> Result<u32> {
    let theirs = ctx.clone();
    drop(elsewhere(move || theirs.step("off", number, 1)));
    Ok(7)
}

async fn healthy(ctx: Ctx, steps: u32) -> Result<u32> {
    let mut sum = 0;
    for n in 0..steps {
        sum += ctx.step("number", number, n).await?;
    }
    Ok(sum)
}

async fn start(node: &Node, workflow: &str, input: impl serde::Serialize) -> RunId {
    node.start_request(StartRequest::new(workflow, input).unwrap().id(workflow)).await.unwrap().id
}

async fn blocked(node: &Node, run: &RunId) -> BlockReason {
    match soon(node.result(run)).await.unwrap() {
        RunResult::Blocked(reason) => reason,
        other => panic!("not blocked: {other:?}"),
    }
}

/// Runs a workflow that makes the mistake, beside one that does not.
async fn mistaken(app: App, workflow: &str, said: &str, kinds: &str) {
    let place = Place::new();
    let node = place.open(app.workflow("healthy", healthy)).await;
    let (run, neighbour) =
        tokio::join!(start(&node, workflow, ()), start(&node, "healthy", 50_u32));
    let reason = blocked(&node, &run).await;
    assert_eq!(reason.kind, BlockReasonKind::Misuse, "{reason:?}");
    let asked = reason.asked.as_deref().unwrap();
    assert_eq!(asked, format!("{said} outside the run's own turn, on thread `elsewhere`"));
    let sum = soon(node.result(&neighbour)).await.unwrap().output::<u32>().unwrap();
    assert_eq!(sum, (0..50).sum::<u32>());
    node.resume(&run).await.unwrap();
    assert_eq!(blocked(&node, &run).await, reason, "it is not mended");
    node.shutdown().await.unwrap();
    let logged: String = sql(
        &place,
        &format!(
            "SELECT group_concat(kind, ' ') FROM (SELECT kind FROM events WHERE run = '{workflow}' \
             ORDER BY seq)"
        ),
    );
    assert_eq!(logged, format!("{kinds} run_blocked run_resumed run_blocked"));
    assert_eq!(sql::<i64>(&place, "SELECT count(*) FROM events WHERE name = 'off'"), 0);
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_made_on_another_thread_leaves_no_event() {
    let app = || App::new("t");
    let step = "ctx.step() `off` was called";
    mistaken(app().workflow("steps", steps), "steps", step, "run_created").await;
    let timer = "ctx.sleep() `sleep` was called";
    mistaken(app().workflow("timers", timers), "timers", timer, "run_created").await;
    let child = "ctx.child() `healthy` was called";
    mistaken(app().workflow("children", children), "children", child, "run_created").await;
    mistaken(app().workflow("many", many_threads), "many", step, "run_created").await;
    let one_step = "run_created run_started step_started step_completed";
    mistaken(app().workflow("later", later), "later", step, one_step).await;
    mistaken(app().workflow("end", at_its_end), "end", step, "run_created").await;
}

/// What the workflow below was given, in its turn and outside it.
static GIVEN: Mutex<Vec<(uuid::Uuid, u64)>> = Mutex::new(Vec::new());

async fn random(ctx: Ctx, on_turn: bool) -> Result<()> {
    let give = |ctx: &Ctx| {
        let given = (ctx.uuid(), ctx.random());
        GIVEN.lock().unwrap_or_else(PoisonError::into_inner).push(given);
    };
    for _ in 0..2 {
        if on_turn {
            give(&ctx);
        } else {
            let theirs = ctx.clone();
            elsewhere(move || give(&theirs));
        }
    }
    Ok(())
}

async fn time(ctx: Ctx, (): ()) -> Result<String> {
    let theirs = ctx.clone();
    Ok(elsewhere(move || theirs.now()).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_on_another_thread_is_of_no_operation() {
    let place = Place::new();
    let app = App::new("t").workflow("random", random).workflow("time", time);
    let node = place.open(app).await;
    let started = StartRequest::new("random", true).unwrap().id("on");
    let on = node.start_request(started).await.unwrap().id;
    soon(node.result(&on)).await.unwrap().output::<()>().unwrap();
    let off = start(&node, "random", false).await;
    let said = blocked(&node, &off).await.asked.unwrap();
    assert!(said.starts_with("ctx.uuid() was called outside"), "{said}");
    let run = start(&node, "time", ()).await;
    let said = blocked(&node, &run).await.asked.unwrap();
    assert!(said.starts_with("ctx.now() was called outside"), "{said}");
    node.shutdown().await.unwrap();
    assert_eq!(sql::<i64>(&place, "SELECT count(*) FROM events WHERE kind = 'now'"), 0);
    // Two pairs in the turn, the same two in a shadow replay of a debug build, two outside it.
    let given = GIVEN.lock().unwrap().clone();
    let (uuids, numbers): (BTreeSet<_>, BTreeSet<_>) = given.iter().copied().unzip();
    assert_eq!((uuids.len(), numbers.len()), (4, 4), "{given:?}");
    fsck(&place);
}

/// A call before the `async` block is in the turn: the workflow is called within it.
fn before_the_block(ctx: Ctx, (): ()) -> impl Future<Output = Result<u32>> {
    let first = ctx.step("first", number, 1);
    async move {
        let (first, second) = tokio::join!(first, ctx.step("second", number, 2));
        Ok(first? + second?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_made_before_the_async_block_is_like_any_other() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("before", before_the_block)).await;
    let run = start(&node, "before", ()).await;
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 3);
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    let ops = "SELECT group_concat(op || name) FROM (SELECT op, name FROM events \
               WHERE kind = 'step_started' ORDER BY seq)";
    assert_eq!(sql::<String>(&place, ops), "1first,2second");
    fsck(&place);
}

/// The workflow waits for a task, and the task does what names the mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_awaited_is_named_by_what_it_calls() {
    async fn awaits_a_task(ctx: Ctx, (): ()) -> Result<u32> {
        let theirs = ctx.clone();
        let task = tokio::spawn(async move { theirs.step("fetch", number, 1).await });
        Ok(task.await??)
    }
    async fn later(ctx: Ctx, (): ()) -> Result<u32> {
        ctx.step("first", number, 1).await?;
        awaits_a_task(ctx, ()).await
    }
    let place = Place::new();
    let app = || App::new("t").workflow("task", awaits_a_task).workflow("later", later);
    let mut reasons = Vec::new();
    for _ in 0..2 {
        let node = place.open(app()).await;
        for workflow in ["task", "later"] {
            let run = start(&node, workflow, ()).await;
            let reason = blocked(&node, &run).await;
            let asked = reason.asked.as_deref().unwrap();
            let said = "ctx.step() `fetch` was called outside the run's own turn";
            assert!(asked.starts_with(said), "{asked}");
            reasons.push(reason);
        }
        node.shutdown().await.unwrap();
    }
    let times = "SELECT count(*) FROM events WHERE kind = 'run_blocked'";
    assert_eq!(sql::<i64>(&place, times), 2, "the second process says the same: {reasons:?}");
    fsck(&place);
}
