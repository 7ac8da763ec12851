//! Virtual time: what takes long takes none, and nothing happens out of order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use tidemill::testing::{TestApp, TestNode};
use tidemill::{App, Ctx, Result, Retry, Step, Timestamp};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

async fn nap(ctx: Ctx, seconds: u64) -> Result<Timestamp> {
    ctx.sleep(SECOND * u32::try_from(seconds)?).await?;
    Ok(ctx.now())
}

/// A body that takes real time.
async fn work(_: Step, millis: u64) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    Ok(())
}

async fn race(ctx: Ctx, millis: u64) -> Result<String> {
    let work = ctx.step("work", work, millis);
    let nap = ctx.sleep(SECOND);
    tidemill::select! {
        _ = nap => Ok("nap".to_owned()),
        done = work => {
            done?;
            Ok("work".to_owned())
        }
    }
}

fn app() -> App {
    App::new("t")
        .workflow("nap", nap)
        .workflow("race", race)
        .workflow("naps", naps)
        .workflow("ask", ask)
        .workflow("stubborn", stubborn)
}

async fn naps(ctx: Ctx, seconds: Vec<u64>) -> Result<Vec<Timestamp>> {
    let children = seconds.into_iter().map(|seconds| ctx.child(nap, seconds));
    Ok(try_join_all(children).await?)
}

async fn call(_: Step, (): ()) -> Result<u32> {
    std::future::pending().await
}

async fn ask(ctx: Ctx, (): ()) -> Result<u32> {
    let call = ctx.step("call", call, ()).timeout(DAY);
    Ok(call.retry(Retry::attempts(3).initial_delay(DAY).max_delay(DAY * 2)).await?)
}

async fn stubborn(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.step("work", work, u64::MAX / 2).await?)
}

async fn open() -> TestNode {
    TestApp::new(app).open().await.unwrap()
}

#[tokio::test]
async fn a_year_takes_no_time_and_the_clock_shows_it_to_the_microsecond() {
    let app = open().await;
    let begins = app.now();
    assert_eq!(begins.to_string(), "2025-01-01T00:00:00.000000Z");
    let year = 365 * 86_400;
    let ended = app.run(nap, year).await.unwrap();
    assert_eq!(ended.since(begins), SECOND * u32::try_from(year).unwrap());
    assert_eq!(app.now(), ended);
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_years_pass_on_several_threads_too() {
    let app = open().await;
    for _ in 0..100 {
        app.run(nap, 86_400).await.unwrap();
    }
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn children_wake_each_at_its_moment_and_leave_memory_meanwhile() {
    let app = open().await;
    let begins = app.now();
    let seconds: Vec<u64> = (0..40).map(|n| 40_000 - 1_000 * n).collect();
    let ended = app.run(naps, seconds.clone()).await.unwrap();
    let took: Vec<u64> = ended.iter().map(|at| at.since(begins).as_secs()).collect();
    assert_eq!(took, seconds);
    assert_eq!(app.now().since(begins), SECOND * 40_000);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_body_that_works_holds_the_clock() {
    let app = open().await;
    let begins = app.now();
    assert_eq!(app.run(race, 30).await.unwrap(), "work");
    assert_eq!(app.now(), begins);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_script_that_hangs_does_not_hold_the_clock() {
    let app = TestApp::new(app).hang("work").open().await.unwrap();
    let begins = app.now();
    assert_eq!(app.run(race, 30).await.unwrap(), "nap");
    assert_eq!(app.now().since(begins), SECOND);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn timeouts_of_attempts_and_back_offs_take_no_time() {
    let app = TestApp::new(app).hang_times("call", 2).step("call", |(): ()| Ok(7)).open();
    let app = app.await.unwrap();
    let begins = app.now();
    assert_eq!(app.run(ask, ()).await.unwrap(), 7);
    // Two time-outs, a back-off of a day and one of two.
    assert_eq!(app.now().since(begins), DAY * 5);
    let attempts: Vec<u32> = app.calls("call").iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_clock_stands_still_while_the_test_does_something_else() {
    let app = open().await;
    let begins = app.now();
    let first = app.start(nap, 10).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = app.start(nap, 5).await.unwrap();
    assert_eq!(second.result().await.unwrap().since(begins), SECOND * 5);
    assert_eq!(app.now().since(begins), SECOND * 5, "it has not gone on to the end of the first");
    assert_eq!(first.result().await.unwrap().since(begins), SECOND * 10);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_clock_moved_by_hand_stops_where_it_was_told_to() {
    let app = TestApp::new(app).by_hand().open().await.unwrap();
    let begins = app.now();
    let run = app.start(nap, 86_400).await.unwrap();
    app.advance(DAY - SECOND).await.unwrap();
    assert_eq!(app.now().since(begins), DAY - SECOND);
    let ended = || async {
        let wait = tokio::time::timeout(Duration::from_millis(20), run.result());
        wait.await.is_ok()
    };
    assert!(!ended().await);
    app.advance(SECOND).await.unwrap();
    assert!(ended().await);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_run_goes_on_after_a_restart_at_the_same_moment() {
    let app = open().await;
    let begins = app.now();
    let run = app.start(nap, 3_600).await.unwrap().id().clone();
    app.advance(SECOND * 1_800).await.unwrap();
    let app = app.restart().await.unwrap();
    assert_eq!(app.now().since(begins), SECOND * 1_800);
    app.handle::<Timestamp>(&run).result().await.unwrap();
    assert_eq!(app.now().since(begins), SECOND * 3_600);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_body_that_does_not_return() {
    let app = open().await;
    let begins = app.now();
    let _run = app.start(stubborn, ()).await.unwrap();
    let running = Duration::from_secs(30);
    let bound = tokio::time::timeout(running, async {
        while app.calls("work").is_empty() {
            tokio::task::yield_now().await;
        }
        app.shutdown().await.unwrap();
    });
    bound.await.unwrap();
    assert_eq!(app.now().since(begins), SECOND * 10, "the grace");
}

#[tokio::test]
async fn who_waits_for_a_body_that_never_returns_is_told_which() {
    let app = TestApp::new(app).patience(Duration::from_millis(200)).open().await.unwrap();
    let error = app.run(stubborn, ()).await.unwrap_err().to_string();
    assert!(error.contains("held by step `work` of run"), "{error}");
    let error = app.advance(SECOND).await.unwrap_err().to_string();
    assert!(error.contains("held by step `work` of run"), "{error}");
    app.shutdown().await.unwrap();
}

/// Waits for a run that nothing will ever end.
async fn parent(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.child("broken", ()).await?)
}

async fn broken(_: Ctx, (): ()) -> Result<u32> {
    std::future::pending().await
}

#[tokio::test]
async fn who_waits_for_what_cannot_come_is_told_so() {
    let made = || App::new("t").workflow("parent", parent).workflow("broken", broken);
    let app = TestApp::new(made).open().await.unwrap();
    let error = app.run(parent, ()).await.unwrap_err().to_string();
    assert!(error.contains("nothing in the app can make progress"), "{error}");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn two_apps_have_two_clocks_and_repeat_each_other() {
    let (one, two) = (open().await, open().await);
    let ids = [one.start(nap, 9).await.unwrap(), two.start(nap, 9).await.unwrap()];
    assert_eq!(ids[0].id(), ids[1].id(), "chance is the same in both");
    ids[0].result().await.unwrap();
    assert_eq!(one.now().since(two.now()), SECOND * 9);
    one.shutdown().await.unwrap();
    two.shutdown().await.unwrap();
}

#[tokio::test]
async fn blocking_bodies_hold_the_clock_and_real_time_is_there_for_who_wants_it() {
    let slow = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&slow);
    let made = move || App::new("t").state(Arc::clone(&seen)).workflow("heavy", heavy);
    let app = TestApp::new(made.clone()).open().await.unwrap();
    assert_eq!(app.run(heavy, ()).await.unwrap(), "done");
    assert!(slow.load(Ordering::SeqCst));
    app.shutdown().await.unwrap();

    let app = TestApp::new(made).real_time().open().await.unwrap();
    let before = app.now();
    assert_eq!(app.run(heavy, ()).await.unwrap(), "done");
    assert!(app.now() > before);
    app.shutdown().await.unwrap();
}

async fn compute(step: Step, (): ()) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(30)).await;
    step.state::<Arc<AtomicBool>>().store(true, Ordering::SeqCst);
    Ok(())
}

async fn heavy(ctx: Ctx, (): ()) -> Result<String> {
    let compute = ctx.step("compute", compute, ()).blocking();
    let nap = ctx.sleep(SECOND * 3_600);
    tidemill::select! {
        _ = nap => Ok("late".to_owned()),
        done = compute => {
            done?;
            Ok("done".to_owned())
        }
    }
}

#[tokio::test]
async fn a_job_of_the_pool_holds_the_clock_from_before_it_begins() {
    let slowly = |(): ()| {
        std::thread::park_timeout(Duration::from_millis(20));
        Ok(())
    };
    let made = || App::new("t").workflow("heavy", heavy);
    let app = TestApp::new(made).step("compute", slowly).open().await.unwrap();
    let begins = app.now();
    assert_eq!(app.run(heavy, ()).await.unwrap(), "done");
    assert_eq!(app.now(), begins);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn retention_does_not_move_the_clock_and_passes_when_it_has_moved() {
    let app = TestApp::new(|| app().keep("1d")).open().await.unwrap();
    let early = app.start(nap, 1).id("early").await.unwrap();
    early.result().await.unwrap();
    let begins = app.now();
    app.run(nap, 30 * 86_400).await.unwrap();
    assert_eq!(app.now().since(begins), DAY * 30);
    app.advance(SECOND * 120).await.unwrap();
    let again = app.start(nap, 1).id("early").await.unwrap();
    assert!(!again.existing(), "it had left");
    again.result().await.unwrap();
    app.shutdown().await.unwrap();
}

async fn quick(step: Step, kind: u32) -> Result<u32> {
    for round in 0..kind % 3 {
        tokio::task::yield_now().await;
        step.checkpoint(round).await?;
    }
    Ok(kind)
}

async fn quick_child(ctx: Ctx, kind: u32) -> Result<u32> {
    Ok(ctx.step("quick", quick, kind).await?)
}

/// Lets all kinds of work race with a timer that must never fire.
async fn honest(ctx: Ctx, rounds: u32) -> Result<u32> {
    let mut done = 0;
    for round in 0..rounds {
        let alarm = ctx.sleep(SECOND * 3_600);
        let work = async {
            match round % 4 {
                0 => ctx.step("quick", quick, round).await,
                1 => ctx.step("quick", quick, round).blocking().await,
                2 => ctx.child(quick_child, round).await,
                _ => {
                    let calls = (0..3).map(|_| ctx.step("quick", quick, round));
                    try_join_all(calls).await.map(|all| all.len().try_into().unwrap_or(0))
                }
            }
        };
        tidemill::select! {
            done_now = work => {
                done_now?;
                done += 1;
            }
            _ = alarm => return Err("the clock has moved while something was under way".into()),
        }
    }
    Ok(done)
}

/// If anything in flight were not counted, the alarm of some run would go off.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_clock_never_moves_while_anything_is_under_way() {
    let made = || App::new("t").workflow("honest", honest).workflow("quick_child", quick_child);
    let app = TestApp::new(made).open().await.unwrap();
    let begins = app.now();
    let mut runs = Vec::new();
    for _ in 0..40 {
        runs.push(app.start(honest, 24).await.unwrap());
    }
    for run in runs {
        assert_eq!(run.result().await.unwrap(), 24);
    }
    assert_eq!(app.now(), begins);
    app.shutdown().await.unwrap();
}
