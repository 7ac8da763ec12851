//! Runs that are cancelled and paused in virtual time.

use std::time::Duration;

use tidemill::testing::TestApp;
use tidemill::{App, Ctx, FailureKind, Requester, Result, RunResult, Step};

const HOUR: Duration = Duration::from_secs(3_600);

async fn ship(_: Step, (): ()) -> Result<()> {
    std::future::pending().await
}

/// Gives the money back, an hour after it was cancelled.
async fn order(ctx: Ctx, (): ()) -> Result<()> {
    ctx.run("charge", async || Ok(())).await?;
    if let Err(error) = ctx.step("ship", ship, ()).await {
        let refund = ctx.cleanup(|ctx| async move {
            ctx.sleep(HOUR).await?;
            ctx.run("refund", async || Ok(())).await
        });
        refund.await?;
        return Err(error.into());
    }
    Ok(())
}

/// Drops its child after an hour.
async fn impatient(ctx: Ctx, (): ()) -> Result<()> {
    tidemill::select! {
        done = ctx.child(order, ()) => Ok(done?),
        slept = ctx.sleep(HOUR) => Ok(slept?),
    }
}

fn app() -> TestApp {
    TestApp::new(|| App::new("t").workflow("order", order).workflow("impatient", impatient))
}

#[tokio::test]
async fn a_run_that_is_cancelled_cleans_up_in_no_time() {
    let app = app().open().await.unwrap();
    let begins = app.now();
    let run = app.start(order, ()).await.unwrap();
    let bound = tokio::time::timeout(Duration::from_secs(30), async {
        while app.calls("ship").is_empty() {
            tokio::task::yield_now().await;
        }
    });
    bound.await.unwrap();
    run.cancel(Requester::default()).await.unwrap();
    match run.ended().await.unwrap() {
        RunResult::Failed(failure) => assert_eq!(failure.kind, FailureKind::Cancelled),
        other => panic!("it is not cancelled: {other:?}"),
    }
    assert_eq!(app.calls("refund").len(), 1);
    // The body does not return, so its grace passes before the hour.
    assert_eq!(app.now().since(begins), HOUR + Duration::from_secs(10));
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_run_that_is_late_cleans_up() {
    let app = app().hang("ship").within(HOUR * 24).open().await.unwrap();
    let begins = app.now();
    let error = app.run::<(), _, _, _>(order, ()).await.unwrap_err().to_string();
    assert!(error.contains("was cancelled"), "{error}");
    assert_eq!(app.calls("refund").len(), 1);
    assert_eq!(app.now().since(begins).as_secs(), 25 * 3_600 + 10);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_run_that_is_late_ends_the_same_after_every_crash() {
    async fn rents(ctx: Ctx, (): ()) -> Result<()> {
        let rented = ctx.sleep(HOUR * 48).await;
        let give_back = ctx.cleanup(|ctx| async move {
            ctx.sleep(HOUR).await?;
            ctx.run("give-back", async || Ok(())).await
        });
        give_back.await?;
        Ok(rented?)
    }
    let app = || App::new("t").workflow("rents", rents);
    TestApp::new(app).within(HOUR * 24).crash_everywhere(rents, ()).await.unwrap();
}

#[tokio::test]
async fn time_does_not_pass_for_the_deadline_of_a_run_that_has_ended() {
    async fn naps(ctx: Ctx, (): ()) -> Result<()> {
        Ok(ctx.sleep(HOUR).await?)
    }
    let limited = TestApp::new(|| App::new("t").workflow("naps", naps)).within(HOUR * 24);
    let app = limited.open().await.unwrap();
    let begins = app.now();
    app.run::<(), _, _, _>(naps, ()).await.unwrap();
    app.run::<(), _, _, _>(naps, ()).await.unwrap();
    assert_eq!(app.now().since(begins), HOUR * 2);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_paused_run_waits_and_whoever_waits_for_it_is_told() {
    let app = app().hang("ship").open().await.unwrap();
    let run = app.start(order, ()).await.unwrap();
    app.advance(HOUR).await.unwrap();
    run.pause(Requester::default()).await.unwrap();
    let error = run.ended().await.unwrap_err().to_string();
    assert!(error.contains("nothing in the app can make progress"), "{error}");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_child_that_is_dropped_ends_the_same_after_every_crash() {
    app().hang("ship").crash_everywhere(impatient, ()).await.unwrap();
}

#[tokio::test]
async fn the_history_of_a_cancelled_child_has_no_id_of_its_parent() {
    let app = app().hang("ship").open().await.unwrap();
    let run = app.start(impatient, ()).await.unwrap();
    run.result().await.unwrap();
    app.advance(HOUR * 2).await.unwrap();
    let child = format!("{}.1", run.id()).parse().unwrap();
    let history = app.history(&child).await.unwrap().to_string();
    assert!(history.contains("run_failed"), "{history}");
    assert!(!history.contains(run.id().as_str()), "{history}");
    app.shutdown().await.unwrap();
}
