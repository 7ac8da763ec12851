//! Crashes at every commit: a sound app gives the same each time, and an unsound one is found out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use tidemill::testing::TestApp;
use tidemill::{App, Ctx, ErrorKind, Result, Retry, Step, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

async fn charge(_: Step, cents: u64) -> Result<u64> {
    Ok(cents * 2)
}

async fn part(ctx: Ctx, cents: u64) -> Result<u64> {
    ctx.sleep(DAY).await?;
    Ok(ctx.step("charge", charge, cents).await?)
}

async fn order(ctx: Ctx, cents: u64) -> Result<(u64, Timestamp, String)> {
    let first = ctx.step("charge", charge, cents).retry(Retry::attempts(4));
    let second = ctx.run("ship", async || Ok(1_u64));
    let (first, second) = tokio::join!(first, second);
    let parts = try_join_all((0..3).map(|n| ctx.child(part, cents + n))).await?;
    ctx.sleep(DAY * 400).await?;
    let at = ctx.now();
    let slow = ctx.step("slow", charge, 1).timeout(DAY);
    let late = u64::from(slow.await.is_err());
    let sum = first? + second? + parts.iter().sum::<u64>() + late;
    Ok((sum, at, ctx.uuid().to_string()))
}

fn app() -> App {
    App::new("t").workflow("order", order).workflow("part", part)
}

#[tokio::test]
async fn a_run_with_all_sorts_of_operations_survives_every_crash() {
    let app = TestApp::new(app).hang("slow");
    let report = app.crash_everywhere(order, 7).await.unwrap();
    assert!(report.commits > 12, "{report:?}");
    assert_eq!(report.crashes, 2 * report.commits);
}

#[tokio::test]
async fn a_run_that_fails_fails_the_same_after_every_crash() {
    let app = TestApp::new(app).fail_times("charge", 9, "no luck").hang("slow");
    let report = app.crash_everywhere(order, 7).await.unwrap();
    assert!(report.commits > 8, "{report:?}");
}

#[tokio::test]
async fn always_replaying_apps_survive_too() {
    let app = TestApp::new(app).hang("slow").always_replay();
    app.crash_everywhere(order, 7).await.unwrap();
}

/// Takes a decision from outside its log.
async fn moody(ctx: Ctx, _: ()) -> Result<u64> {
    let first = ctx.run("look", async || Ok(1_u64)).await?;
    let again = MOOD.fetch_add(1, Ordering::SeqCst);
    let name = if again == 0 { "smile" } else { "frown" };
    Ok(first + ctx.run(name, async || Ok(1_u64)).await?)
}

static MOOD: AtomicU32 = AtomicU32::new(0);

#[tokio::test]
async fn a_workflow_that_is_not_deterministic_is_told_where() {
    let app = TestApp::new(|| App::new("t").workflow("moody", moody));
    let error = app.crash_everywhere(moody, ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = error.to_string();
    assert!(error.contains("takes another way"), "{error}");
}

/// A body whose result is another one each time.
async fn count(step: Step, (): ()) -> Result<u32> {
    Ok(step.state::<Arc<AtomicU32>>().fetch_add(1, Ordering::SeqCst))
}

async fn counted(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("count", count, ()).await?)
}

#[tokio::test]
async fn a_result_that_a_crash_changes_is_told_with_the_commit_and_its_event() {
    // A new value for each process: what a crash takes away.
    let processes = Arc::new(AtomicU32::new(0));
    let made = move || {
        let process = processes.fetch_add(1, Ordering::SeqCst);
        App::new("t").state(Arc::new(AtomicU32::new(process))).workflow("counted", counted)
    };
    let error = TestApp::new(made).crash_everywhere(counted, ()).await.unwrap_err().to_string();
    assert!(error.starts_with("killed right before commit 1 (event 2, run_created"), "{error}");
    assert!(error.contains("\n  without the crash: completed with "), "{error}");
}

/// Calls a step that no other execution calls.
async fn wayward(ctx: Ctx, (): ()) -> Result<()> {
    let attempt = ctx.step("peek", peek, ()).await?;
    if attempt > 1 {
        ctx.run("apologise", async || Ok(())).await?;
    }
    Ok(())
}

async fn peek(step: Step, (): ()) -> Result<u32> {
    Ok(step.attempt())
}

#[tokio::test]
async fn a_step_that_only_a_crash_calls_is_told() {
    let app = TestApp::new(|| App::new("t").workflow("wayward", wayward));
    let error = app.crash_everywhere(wayward, ()).await.unwrap_err().to_string();
    assert!(error.starts_with("killed right after commit 2 "), "{error}");
    assert!(error.contains("`apologise` of run `run` with null was called, which"), "{error}");
}
