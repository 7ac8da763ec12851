//! Blocked runs: each cause blocks with its own message, loses nothing, and ends when the cause is
//! fixed.

use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use tidemill::{App, Ctx, ErrorKind, Node, Result, RunId, RunResult, StartRequest, Step};
use tidemill_model::{BlockReason, BlockReasonKind as Kind};

use crate::common::{MILLI, Place, fsck, soon, sql};

async fn start(node: &Node, workflow: &str) -> RunId {
    node.start_request(StartRequest::new(workflow, ()).unwrap()).await.unwrap().id
}

async fn blocked(node: &Node, run: &RunId) -> BlockReason {
    match soon(node.result(run)).await.unwrap() {
        RunResult::Blocked(reason) => reason,
        other => panic!("not blocked: {other:?}"),
    }
}

/// Runs a workflow that is wrong in itself; its reason is recorded and shown.
async fn wrong(app: App, kind: Kind, asked: &str) {
    let place = Place::new();
    let node = place.open(app).await;
    let run = start(&node, "wrong").await;
    let reason = blocked(&node, &run).await;
    assert_eq!(reason.kind, kind, "{reason:?}");
    let said = reason.asked.clone().unwrap_or_default();
    assert!(said.contains(asked), "{said} should say {asked}");
    assert!(reason.advice.contains("resume the run"), "{}", reason.advice);
    node.shutdown().await.unwrap();
    fsck(&place);
    assert_eq!(sql::<String>(&place, "SELECT status FROM runs"), "blocked");
    let stored: String = sql(&place, "SELECT blocked FROM runs");
    assert_eq!(serde_json::from_str::<BlockReason>(&stored).unwrap(), reason);
}

async fn nothing(_: Step, (): ()) -> Result<()> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_what_is_not_durable() {
    async fn tokio_sleep(ctx: Ctx, (): ()) -> Result<()> {
        ctx.step("a", nothing, ()).await?;
        tokio::time::sleep(MILLI).await;
        Ok(())
    }
    wrong(App::new("t").workflow("wrong", tokio_sleep), Kind::ForeignWait, "not an operation")
        .await;

    async fn never(_: Ctx, (): ()) -> Result<()> {
        pending().await
    }
    wrong(App::new("t").workflow("wrong", never), Kind::ForeignWait, "not an operation").await;

    async fn beside_a_step(ctx: Ctx, (): ()) -> Result<()> {
        let long = ctx.sleep(Duration::from_secs(1000));
        let foreign = tokio::spawn(tokio::time::sleep(MILLI));
        let (slept, joined) = tokio::join!(long, foreign);
        joined?;
        Ok(slept?)
    }
    let app = App::new("t").workflow("wrong", beside_a_step);
    wrong(app, Kind::ForeignWait, "not an operation").await;

    async fn yields(ctx: Ctx, (): ()) -> Result<()> {
        let (slept, ()) =
            tokio::join!(ctx.sleep(Duration::from_secs(1000)), tokio::task::yield_now());
        Ok(slept?)
    }
    wrong(App::new("t").workflow("wrong", yields), Kind::ForeignWait, "not an operation").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_outside_the_runs_turn() {
    async fn in_a_task(ctx: Ctx, (): ()) -> Result<()> {
        let theirs = ctx.clone();
        tokio::spawn(async move { theirs.step("a", nothing, ()).await });
        Ok(ctx.sleep(Duration::from_secs(1000)).await?)
    }
    let app = App::new("t").workflow("wrong", in_a_task);
    wrong(app, Kind::Misuse, "ctx.step() `a` was called outside the run's own turn").await;

    async fn polled_in_a_task(ctx: Ctx, (): ()) -> Result<()> {
        tokio::spawn(ctx.step("a", nothing, ()));
        Ok(ctx.sleep(Duration::from_secs(1000)).await?)
    }
    let app = App::new("t").workflow("wrong", polled_in_a_task);
    wrong(app, Kind::Misuse, "operation 1 `a` was started outside the run's own turn").await;

    async fn in_a_body(ctx: Ctx, (): ()) -> Result<()> {
        let theirs = ctx.clone();
        let body = async move || Ok(theirs.sleep(MILLI).await?);
        Ok(ctx.run("a", body).await?)
    }
    let app = App::new("t").workflow("wrong", in_a_body);
    wrong(app, Kind::Misuse, "ctx.sleep() `sleep` was called outside the run's own turn").await;

    async fn dropped_elsewhere(ctx: Ctx, (): ()) -> Result<()> {
        let call = ctx.step("a", nothing, ()).start();
        std::thread::spawn(move || drop(call));
        Ok(ctx.sleep(Duration::from_secs(1000)).await?)
    }
    let app = App::new("t").workflow("wrong", dropped_elsewhere);
    wrong(app, Kind::Misuse, "operation 1 `a` was dropped outside the run's own turn").await;

    async fn bad_name(ctx: Ctx, (): ()) -> Result<()> {
        Ok(ctx.step("a\nb", nothing, ()).await?)
    }
    wrong(App::new("t").workflow("wrong", bad_name), Kind::Misuse, "invalid name").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_and_endless_wakes() {
    async fn panics(ctx: Ctx, (): ()) -> Result<()> {
        ctx.step("a", nothing, ()).await?;
        panic!("on purpose");
    }
    wrong(App::new("t").workflow("wrong", panics), Kind::Panic, "panicked: on purpose").await;

    async fn late_option(ctx: Ctx, (): ()) -> Result<()> {
        Ok(ctx.step("a", nothing, ()).start().blocking().await?)
    }
    let said = "options of `a` are set after it was started";
    wrong(App::new("t").workflow("wrong", late_option), Kind::Panic, said).await;

    async fn endless(_: Ctx, (): ()) -> Result<()> {
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
    wrong(App::new("t").workflow("wrong", endless), Kind::Runaway, "more than 10000 times").await;
}

async fn base(ctx: Ctx, (): ()) -> Result<u32> {
    let a = ctx.step("a", number, 1).await?;
    ctx.sleep(Duration::from_secs(86_400)).await?;
    Ok(a)
}
async fn other_name(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("b", number, 1).await?)
}
async fn other_input(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("a", number, 2).await?)
}
async fn other_kind(ctx: Ctx, (): ()) -> Result<u32> {
    ctx.sleep(MILLI).await?;
    Ok(1)
}
async fn more(ctx: Ctx, (): ()) -> Result<u32> {
    let (a, b) = tokio::join!(ctx.step("a", number, 1), ctx.step("b", number, 1));
    Ok(a? + b?)
}
async fn less(_: Ctx, (): ()) -> Result<u32> {
    Ok(1)
}
async fn fewer(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("a", number, 1).await?)
}
async fn other_output(ctx: Ctx, (): ()) -> Result<u32> {
    async fn text(_: Step, _: u32) -> Result<String> {
        Ok(String::new())
    }
    ctx.step("a", text, 1).await?;
    Ok(1)
}
async fn other_workflow_input(_: Ctx, _: u32) -> Result<u32> {
    Ok(1)
}

async fn number(_: Step, n: u32) -> Result<u32> {
    Ok(n)
}

/// Programs whose workflow `w` is another than `base`, how each is blocked, what the log has and
/// what the code asks for.
fn changed() -> Vec<(App, Kind, &'static str, &'static str)> {
    let app = || App::new("t");
    let w = "w";
    vec![
        (
            app().workflow(w, other_name),
            Kind::Nondeterminism,
            "step_started 1 `a` with 1",
            "step_started 1 `b` with 1",
        ),
        (
            app().workflow(w, other_input),
            Kind::Nondeterminism,
            "step_started 1 `a` with 1",
            "step_started 1 `a` with 2",
        ),
        (
            app().workflow(w, other_kind),
            Kind::Nondeterminism,
            "step_started 1 `a` with 1",
            "timer_started 1 `sleep`",
        ),
        (
            app().workflow(w, more),
            Kind::Nondeterminism,
            "nothing more before the next event",
            "step_started 2 `b` with 1",
        ),
        (
            app().workflow(w, less),
            Kind::Nondeterminism,
            "step_started 1 `a` with 1",
            "run_completed with 1",
        ),
        (
            app().workflow(w, fewer),
            Kind::Nondeterminism,
            "timer_started 2 `sleep`",
            "run_completed with 1",
        ),
        (
            app().workflow(w, other_output),
            Kind::Nondeterminism,
            "the output of `a`: 1",
            "an output of another type",
        ),
        (
            app().workflow(w, other_workflow_input),
            Kind::Nondeterminism,
            "the input null",
            "an input of another type",
        ),
        (app().workflow("v", base), Kind::UnknownWorkflow, "workflow `w`", "one of v"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_does_something_else_than_the_log() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("w", base)).await;
    let run = start(&node, "w").await;
    let slept = "SELECT count(*) FROM events WHERE kind = 'timer_started'";
    crate::common::until(|| sql::<i64>(&place, slept) == 1).await;
    node.shutdown().await.unwrap();
    for (app, kind, logged, asked) in changed() {
        let node = place.open(app).await;
        let reason = blocked(&node, &run).await;
        assert_eq!(reason.kind, kind, "{reason:?}");
        assert_eq!(reason.logged.as_deref(), Some(logged));
        assert!(reason.asked.as_deref().unwrap().starts_with(asked), "{reason:?}");
        let report = node.check(&run).await.unwrap();
        assert_eq!(report.divergence.as_ref(), Some(&reason));
        node.shutdown().await.unwrap();
        fsck(&place);
    }
    let base = App::new("t").workflow("w", base);
    assert_eq!(base.check_run(&place.file(), &run).unwrap().divergence, None);
    let node = place.open(base).await;
    let open = "SELECT status FROM runs";
    crate::common::until(|| sql::<String>(&place, open) == "suspended").await;
    let steps = "SELECT count(*) FROM events WHERE kind LIKE 'step_%'";
    assert_eq!(sql::<i64>(&place, steps), 2, "nothing ran again");
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_run_goes_on_when_it_is_resumed_and_loses_no_result() {
    #[derive(Clone, Default)]
    struct Broken(Arc<AtomicU32>, Arc<Mutex<Option<tokio::sync::oneshot::Receiver<()>>>>);
    async fn slow(step: Step, (): ()) -> Result<u32> {
        step.state::<Broken>().0.fetch_add(1, Ordering::SeqCst);
        let wait = step.state::<Broken>().1.lock().unwrap().take();
        if let Some(wait) = wait {
            wait.await?;
        }
        Ok(7)
    }
    let (release, held) = tokio::sync::oneshot::channel();
    let broken = Broken(Arc::default(), Arc::new(Mutex::new(Some(held))));
    let mended = Arc::new(AtomicU32::new(0));
    let workflow = {
        let mended = Arc::clone(&mended);
        move |ctx: Ctx, (): ()| {
            let mended = Arc::clone(&mended);
            async move {
                let slow = ctx.step("slow", slow, ()).start();
                ctx.step("quick", nothing, ()).await?;
                assert!(mended.load(Ordering::SeqCst) == 1, "not mended");
                let n = slow.await?;
                Result::<u32>::Ok(n)
            }
        }
    };
    let place = Place::new();
    let node = place.open(App::new("t").state(broken.clone()).workflow("w", workflow)).await;
    let run = start(&node, "w").await;
    assert_eq!(blocked(&node, &run).await.kind, Kind::Panic);
    node.resume(&run).await.unwrap();
    assert_eq!(blocked(&node, &run).await.kind, Kind::Panic, "it is not mended yet");
    release.send(()).unwrap();
    mended.store(1, Ordering::SeqCst);
    node.resume(&run).await.unwrap();
    let ended = soon(node.result(&run)).await.unwrap();
    assert_eq!(ended.output::<u32>().unwrap(), 7);
    assert_eq!(broken.0.load(Ordering::SeqCst), 1, "the body ran once");
    let ended = node.resume(&run).await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Conflict);
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_arrive_together_with_the_one_that_blocks_are_kept() {
    const STEPS: u32 = 20;
    async fn together(step: Step, n: u32) -> Result<u32> {
        let arrived = step.state::<Arc<AtomicU32>>();
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < STEPS {
            tokio::task::yield_now().await;
        }
        Ok(n)
    }
    let mended = Arc::new(AtomicU32::new(0));
    let workflow = {
        let mended = Arc::clone(&mended);
        move |ctx: Ctx, (): ()| {
            let mended = Arc::clone(&mended);
            async move {
                let calls = (0..STEPS).map(|n| {
                    let (call, mended) = (ctx.step("together", together, n), Arc::clone(&mended));
                    async move {
                        let n = call.await?;
                        assert!(mended.load(Ordering::SeqCst) == 1, "not mended");
                        Result::<u32>::Ok(n)
                    }
                });
                let all = futures_util::future::try_join_all(calls).await?;
                Result::<u32>::Ok(all.into_iter().sum())
            }
        }
    };
    let (place, bodies) = (Place::new(), Arc::new(AtomicU32::new(0)));
    let app = App::new("t").state(Arc::clone(&bodies)).workflow("w", workflow);
    let node = place.open(app).await;
    let run = start(&node, "w").await;
    assert_eq!(blocked(&node, &run).await.kind, Kind::Panic);
    mended.store(1, Ordering::SeqCst);
    node.resume(&run).await.unwrap();
    let ended = soon(node.result(&run)).await.unwrap();
    assert_eq!(ended.output::<u32>().unwrap(), (0..STEPS).sum::<u32>());
    assert_eq!(bodies.load(Ordering::SeqCst), STEPS, "no body ran again");
    node.shutdown().await.unwrap();
    fsck(&place);
}

/// The run's own waker is known by whose turn it is, not by which thread: woken within another
/// run's turn it would be polled at a moment that no log knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waker_that_another_run_wakes() {
    static WAKER: Mutex<Option<Waker>> = Mutex::new(None);
    async fn leaves_its_waker(ctx: Ctx, (): ()) -> Result<()> {
        let sleep = ctx.sleep(Duration::from_secs(3600)).start();
        poll_fn(|cx| {
            *WAKER.lock().unwrap() = Some(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
        Ok(sleep.await?)
    }
    async fn wakes_it(_: Ctx, (): ()) -> Result<()> {
        // None when it is replayed.
        if let Some(waker) = WAKER.lock().unwrap().take() {
            waker.wake();
        }
        Ok(())
    }
    async fn wakes_itself_later(ctx: Ctx, (): ()) -> Result<()> {
        let mut kept = poll_fn(|cx| Poll::Ready(Some(cx.waker().clone()))).await;
        ctx.step("nothing", nothing, ()).await?;
        if let Some(waker) = kept.take() {
            waker.wake();
        }
        Ok(ctx.step("nothing", nothing, ()).await?)
    }
    let place = Place::new();
    let app = App::new("t")
        .workflow("leaves", leaves_its_waker)
        .workflow("wakes", wakes_it)
        .workflow("itself", wakes_itself_later);
    let node = place.open(app).await;
    let run = start(&node, "leaves").await;
    crate::common::until(|| WAKER.lock().unwrap().is_some()).await;
    crate::common::outcome(&node, "wakes", ()).await.output::<()>().unwrap();
    assert_eq!(blocked(&node, &run).await.kind, Kind::ForeignWait);
    crate::common::outcome(&node, "itself", ()).await.output::<()>().unwrap();
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "and what wakes itself replays as it ran");
    fsck(&place);
}
