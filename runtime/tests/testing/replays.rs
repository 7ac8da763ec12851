//! Fresh replays before each turn, and histories.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidemill::testing::TestApp;
use tidemill::{App, Ctx, ErrorKind, Result, Retry, Step};

async fn charge(_: Step, cents: u64) -> Result<u64> {
    Ok(cents)
}

async fn order(ctx: Ctx, cents: u64) -> Result<u64> {
    let charged = ctx.step("charge", charge, cents).retry(Retry::attempts(2)).await?;
    ctx.sleep(Duration::from_secs(3_600)).named("cool-down").await?;
    let part = ctx.child(part, charged).await?;
    let _ = ctx.now();
    Ok(part)
}

async fn part(ctx: Ctx, cents: u64) -> Result<u64> {
    Ok(ctx.step("charge", charge, cents).await?)
}

/// How often the workflow's code was called.
static BEGUN: AtomicU32 = AtomicU32::new(0);

async fn steps(ctx: Ctx, count: u64) -> Result<u64> {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    let mut sum = 0;
    for cents in 0..count {
        sum += ctx.step("charge", charge, cents).await?;
        ctx.sleep(Duration::from_secs(1)).await?;
    }
    Ok(sum)
}

fn app() -> App {
    App::new("t").workflow("order", order).workflow("part", part).workflow("steps", steps)
}

#[tokio::test]
async fn each_turn_follows_a_fresh_replay() {
    let app = TestApp::new(app).always_replay().open().await.unwrap();
    assert_eq!(app.run(steps, 5).await.unwrap(), 10);
    // Ten turns after the first, the last of which ends the run; and replays of what has ended.
    assert!(BEGUN.load(Ordering::SeqCst) > 10);
    assert_eq!(app.calls("charge").len(), 5, "no body runs again");
    assert_eq!(app.run(order, 7).await.unwrap(), 7);
    app.shutdown().await.unwrap();
}

static TURNS: AtomicU32 = AtomicU32::new(0);

/// Names a step by how often the code was called.
async fn moody(ctx: Ctx, _: ()) -> Result<()> {
    let name = format!("step-{}", TURNS.fetch_add(1, Ordering::SeqCst));
    ctx.run(&name, async || Ok(())).await?;
    ctx.sleep(Duration::from_secs(1)).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_deterministic_is_blocked_at_its_next_turn() {
    let app = TestApp::new(|| App::new("t").workflow("moody", moody)).always_replay();
    let app = app.open().await.unwrap();
    let error = app.run(moody, ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = error.to_string();
    assert!(error.contains("is blocked") && error.contains("step-0"), "{error}");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_history_of_a_run_is_the_same_each_time() {
    for _ in 0..2 {
        let app = TestApp::new(app).fail_times("charge", 1, "no luck").open().await.unwrap();
        let run = app.start(order, 7).await.unwrap();
        assert!(run.result().await.is_err(), "the part has no retry");
        let history = app.history(run.id()).await.unwrap();
        history.matches("tests/testing/histories/order.txt").unwrap();
        app.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_run_that_does_something_else_shows_it() {
    let app = TestApp::new(app).open().await.unwrap();
    let run = app.start(order, 7).await.unwrap();
    run.result().await.unwrap();
    let history = app.history(run.id()).await.unwrap();
    let error = history.matches("tests/testing/histories/order.txt").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = error.to_string();
    assert!(error.contains("\n- step_attempt_failed 1 charge attempt=1"), "{error}");
    assert!(error.contains("\n+ run_completed output=7\n"), "{error}");
    let missing = app.history(&"nobody".parse().unwrap()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    app.shutdown().await.unwrap();
}
