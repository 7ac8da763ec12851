//! Steps: attempts, retries, timeouts, panics, checkpoints, blocking bodies, limits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{MILLI, Place, fsck, outcome, sql, until};
use tidemill::{App, Ctx, ErrorKind, FailureKind, Result, Retry, RunResult, Step};

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn quick(attempts: u32) -> Retry {
    Retry::attempts(attempts).initial_delay(MILLI).max_delay(MILLI * 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_retried_as_its_policy_says() {
    async fn flaky(step: Step, good_at: u32) -> Result<u32> {
        let seen = step.state::<Arc<Seen>>();
        seen.note(format!("{} {}", step.attempt(), step.idempotency_key()));
        if step.attempt() < good_at {
            return Err(format!("not at {}", step.attempt()).into());
        }
        Ok(step.attempt())
    }
    async fn work(ctx: Ctx, (good_at, attempts): (u32, u32)) -> Result<u32> {
        Ok(ctx.step("flaky", flaky, good_at).retry(quick(attempts)).await?)
    }
    let place = Place::new();
    let seen = Arc::new(Seen::default());
    let node = place.open(App::new("t").state(Arc::clone(&seen)).workflow("work", work)).await;
    assert_eq!(outcome(&node, "work", (3, 3)).await.output::<u32>().unwrap(), 3);
    let keys: Vec<String> = seen.all().iter().map(|s| s[2..].to_owned()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 32), "{keys:?}");
    let RunResult::Failed(failure) = outcome(&node, "work", (9, 2)).await else {
        panic!("two attempts are not enough");
    };
    let of_another_run = &seen.all()[3][2..];
    assert_ne!(of_another_run, keys[0], "a receiver would drop another run's request");
    assert_eq!(failure.message, "`flaky` failed after 2 attempts: not at 2");
    assert_eq!(failure.chain, [""; 0], "the reason is told once");
    node.shutdown().await.unwrap();
    fsck(&place);
    let attempts: i64 = sql(&place, "SELECT max(attempts) FROM steps WHERE status = 'completed'");
    assert_eq!(attempts, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_error_and_a_panic_and_a_bad_output() {
    async fn parse(text: String) -> Result<u32> {
        Ok(text.parse::<u32>()?)
    }
    async fn panics() -> Result<()> {
        panic!("on purpose");
    }
    async fn not_a_number() -> Result<f64> {
        Ok(f64::NAN)
    }
    async fn work(ctx: Ctx, (): ()) -> Result<Vec<String>> {
        let never = quick(5).never_on::<std::num::ParseIntError>();
        let mut said = Vec::new();
        let parsed = ctx.run("parse", || parse("x".to_owned())).retry(never).await.unwrap_err();
        said.push(format!("{} {}", parsed.attempts(), parsed.message()));
        let panicked = ctx.run("panics", panics).await.unwrap_err();
        said.push(panicked.message().to_owned());
        let lost = ctx.run("nan", not_a_number).await.unwrap_err();
        said.push(lost.message().to_owned());
        Ok(said)
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("work", work)).await;
    let said = outcome(&node, "work", ()).await.output::<Vec<String>>().unwrap();
    assert_eq!(said[0], "1 invalid digit found in string");
    assert_eq!(said[1], "the body panicked: on purpose");
    assert!(said[2].starts_with("its output does not survive being recorded"), "{}", said[2]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_takes_too_long_ends_before_the_next_begins() {
    async fn hangs(step: Step, (): ()) -> Result<u32> {
        struct Guard(Arc<Seen>, u32);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.note(format!("end {}", self.1));
            }
        }
        let seen = step.state::<Arc<Seen>>();
        seen.note(format!("begin {}", step.attempt()));
        let _guard = Guard(Arc::clone(&seen), step.attempt());
        if step.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        Ok(step.attempt())
    }
    async fn blocks(step: Step, (): ()) -> Result<u32> {
        while step.attempt() == 1 && !step.cancellation().is_cancelled() {
            std::thread::yield_now();
        }
        if step.attempt() == 1 {
            return Err("stopped".into());
        }
        Ok(step.attempt())
    }
    async fn work(ctx: Ctx, (): ()) -> Result<(u32, u32, FailureKind)> {
        let timeout = MILLI * 20;
        let a = ctx.step("hangs", hangs, ()).timeout(timeout).retry(quick(2)).await?;
        let b = ctx.step("blocks", blocks, ()).blocking().timeout(timeout).retry(quick(2)).await?;
        let never = async || {
            std::future::pending::<()>().await;
            Ok(())
        };
        let c = ctx.run("never", never).timeout(timeout).await.unwrap_err();
        Ok((a, b, c.kind()))
    }
    let place = Place::new();
    let seen = Arc::new(Seen::default());
    let node = place.open(App::new("t").state(Arc::clone(&seen)).workflow("work", work)).await;
    let ended = outcome(&node, "work", ()).await;
    assert_eq!(ended.output::<(u32, u32, FailureKind)>().unwrap(), (2, 2, FailureKind::TimedOut));
    assert_eq!(seen.all(), ["begin 1", "end 1", "begin 2", "end 2"]);
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_survive_attempts_and_end_with_them() {
    async fn train(step: Step, epochs: u32) -> Result<u32> {
        let seen = step.state::<Arc<Seen>>();
        let begin = step.last_checkpoint::<u32>()?.unwrap_or(0);
        seen.note(format!("from {begin}"));
        let earlier = step.state::<Leaked>().0.lock().unwrap().replace(step.clone());
        if let Some(earlier) = earlier {
            let refused = earlier.checkpoint(9).await.unwrap_err();
            seen.note(format!("{:?}", refused.kind()));
        }
        for epoch in begin..epochs {
            step.checkpoint(epoch + 1).await?;
            if epoch == 1 && step.attempt() == 1 {
                return Err("lost power".into());
            }
        }
        Ok(epochs)
    }
    async fn work(ctx: Ctx, epochs: u32) -> Result<u32> {
        Ok(ctx.step("train", train, epochs).blocking().retry(quick(2)).await?)
    }
    #[derive(Default, Clone)]
    struct Leaked(Arc<Mutex<Option<Step>>>);
    let place = Place::new();
    let (seen, leaked) = (Arc::new(Seen::default()), Leaked::default());
    let app = App::new("t").state(Arc::clone(&seen)).state(leaked.clone()).workflow("work", work);
    let node = place.open(app).await;
    assert_eq!(outcome(&node, "work", 4).await.output::<u32>().unwrap(), 4);
    assert_eq!(seen.all(), ["from 0", "from 2", "Conflict"]);
    let stale = leaked.0.lock().unwrap().take().unwrap();
    let refused = stale.checkpoint(9).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    node.shutdown().await.unwrap();
    fsck(&place);
    let values: String = sql(&place, "SELECT group_concat(value) FROM checkpoints");
    assert_eq!(values, "1,2,3,4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_fails_with_the_limit_in_the_message() {
    async fn large_checkpoint(step: Step, (): ()) -> Result<()> {
        let _ignored = step.checkpoint("x".repeat(64 * 1024)).await;
        Ok(())
    }
    async fn length(_: Step, text: String) -> Result<usize> {
        Ok(text.len())
    }
    async fn work(ctx: Ctx, (): ()) -> Result<Vec<String>> {
        let a = ctx.step("checkpoint", large_checkpoint, ()).await.unwrap_err();
        let b = ctx.step("input", length, "x".repeat(1024 * 1024)).await.unwrap_err();
        let large = async || Ok("x".repeat(1024 * 1024));
        let c = ctx.run("output", large).await.unwrap_err();
        let fits = ctx.step("fits", length, "x".repeat(1024 * 1024 - 2)).await?;
        assert_eq!(fits, 1024 * 1024 - 2);
        Ok([a, b, c].iter().map(|e| e.message().to_owned()).collect())
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("work", work)).await;
    let said = outcome(&node, "work", ()).await.output::<Vec<String>>().unwrap();
    assert!(said[0].contains("checkpoint"), "{said:?}");
    assert!(said[1].contains("payload=1048576") && said[2].contains("payload=1048576"), "{said:?}");
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_waits_across_a_restart_and_a_crashed_attempt_is_another_attempt() {
    async fn flaky(step: Step, (): ()) -> Result<u32> {
        step.state::<Arc<AtomicU32>>().fetch_add(1, Ordering::SeqCst);
        match step.attempt() {
            1 => Err("the first".into()),
            2 => std::future::pending().await,
            attempt => Ok(attempt),
        }
    }
    async fn work(ctx: Ctx, (): ()) -> Result<u32> {
        let retry = Retry::attempts(2).initial_delay(MILLI * 200).no_jitter();
        Ok(ctx.step("flaky", flaky, ()).retry(retry).await?)
    }
    let place = Place::new();
    let tries = Arc::new(AtomicU32::new(0));
    let app = || App::new("t").state(Arc::clone(&tries)).workflow("work", work);
    let node = place.open(app()).await;
    let request = tidemill::StartRequest::new("work", ()).unwrap();
    let run = node.start_request(request).await.unwrap().id;
    let failures = "SELECT count(*) FROM events WHERE kind = 'step_attempt_failed'";
    until(|| sql::<i64>(&place, failures) == 1).await;
    node.shutdown().await.unwrap();
    let node = place.open(app()).await;
    until(|| tries.load(Ordering::SeqCst) == 2).await;
    let restarts = "SELECT count(*) FROM events WHERE kind = 'step_restarted'";
    assert_eq!(sql::<i64>(&place, restarts), 0, "the attempt that waited had not begun");
    node.shutdown().await.unwrap();
    let node = place.open(app()).await;
    let ended = crate::common::soon(node.result(&run)).await.unwrap();
    assert_eq!(ended.output::<u32>().unwrap(), 3);
    assert_eq!(sql::<i64>(&place, restarts), 1);
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_bodies_leave_the_runtime_free() {
    async fn busy(step: Step, (): ()) -> Result<()> {
        let running = step.state::<Arc<AtomicU32>>();
        running.fetch_add(1, Ordering::SeqCst);
        while running.load(Ordering::SeqCst) < 100 {
            std::thread::yield_now();
        }
        Ok(())
    }
    async fn ping(step: Step, (): ()) -> Result<()> {
        step.state::<Arc<AtomicU32>>().fetch_add(100, Ordering::SeqCst);
        Ok(())
    }
    async fn work(ctx: Ctx, (): ()) -> Result<()> {
        let busy =
            (0..8).map(|_| ctx.step("busy", busy, ()).blocking().start()).collect::<Vec<_>>();
        ctx.sleep(Duration::from_millis(20)).await?;
        ctx.step("ping", ping, ()).await?;
        for call in busy {
            call.await?;
        }
        Ok(())
    }
    let place = Place::new();
    let app = App::new("t").state(Arc::new(AtomicU32::new(0))).workflow("work", work);
    let node = place.open(app).await;
    outcome(&node, "work", ()).await.output::<()>().unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_in_line_costs_no_attempt_its_time_and_a_dropped_step_does_not_begin() {
    async fn busy(step: Step, (): ()) -> Result<u32> {
        step.state::<Arc<AtomicU32>>().fetch_add(1, Ordering::SeqCst);
        std::thread::park_timeout(MILLI * 60);
        Ok(step.attempt())
    }
    async fn work(ctx: Ctx, calls: u32) -> Result<u32> {
        let line = (0..calls).map(|_| ctx.step("busy", busy, ()).blocking().timeout(MILLI * 300));
        let attempts = futures_util::future::try_join_all(line).await?;
        let line = (0..calls).map(|_| ctx.step("busy", busy, ()).blocking().start());
        let dropped: Vec<_> = line.collect();
        ctx.sleep(MILLI * 5).await?;
        drop(dropped);
        Ok(attempts.into_iter().sum())
    }
    let place = Place::new();
    let begun = Arc::new(AtomicU32::new(0));
    let node = place.open(App::new("t").state(Arc::clone(&begun)).workflow("work", work)).await;
    let cores = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    let calls = 8 * cores;
    assert_eq!(outcome(&node, "work", calls).await.output::<u32>().unwrap(), calls);
    node.shutdown().await.unwrap();
    assert!(begun.load(Ordering::SeqCst) <= calls + 2 * cores, "{begun:?} of {calls} began");
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_anywhere_around_a_body_fails_its_attempt_and_nothing_hangs() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "dropped too early");
        }
    }
    #[derive(Debug)]
    struct Unprintable;
    impl std::fmt::Display for Unprintable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("not for your eyes")
        }
    }
    impl std::error::Error for Unprintable {}
    async fn never(_: Step, (): ()) -> Result<()> {
        let _bomb = Bomb;
        std::future::pending().await
    }
    async fn unprintable(_: Step, (): ()) -> Result<(), Unprintable> {
        Err(Unprintable)
    }
    async fn fails(_: Step, (): ()) -> Result<()> {
        Err("no".into())
    }
    async fn work(ctx: Ctx, (): ()) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let cores = std::thread::available_parallelism()?.get();
        for _ in 0..=cores {
            let call = ctx.step("blocking", never, ()).timeout(MILLI).blocking();
            found.push(call.await.unwrap_err().message().to_owned());
        }
        let call = ctx.step("never", never, ()).timeout(MILLI);
        found.push(call.await.unwrap_err().message().to_owned());
        let call = ctx.step("unprintable", unprintable, ());
        found.push(call.await.unwrap_err().message().to_owned());
        let retry = quick(3).never_if(|_| panic!("cannot decide"));
        let call = ctx.step("fails", fails, ()).retry(retry);
        found.push(call.await.unwrap_err().message().to_owned());
        let at_once = || match true {
            true => panic!("at once"),
            false => async { Result::<()>::Ok(()) },
        };
        for call in [ctx.run("closure", at_once), ctx.run("on the pool", at_once).blocking()] {
            let error = call.retry(quick(2)).await.unwrap_err();
            assert_eq!(error.attempts(), 2);
            found.push(error.message().to_owned());
        }
        found.dedup();
        Ok(found)
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("work", work)).await;
    let ended = outcome(&node, "work", ()).await.output::<Vec<String>>().unwrap();
    let messages = [
        "the body panicked: dropped too early",
        "the body panicked: not for your eyes",
        "the body panicked: cannot decide",
        "the body panicked: at once",
    ];
    assert_eq!(ended, messages);
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_a_blocking_body_runs_on_the_pool() {
    fn here() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }
    fn not_async(_: Step, (): ()) -> impl Future<Output = Result<[String; 2]>> + Send {
        let before = here();
        async move { Ok([before, here()]) }
    }
    async fn work(ctx: Ctx, (): ()) -> Result<[[String; 2]; 2]> {
        let step = ctx.step("not async", not_async, ()).blocking().await?;
        let closure = || {
            let before = here();
            async move { Result::<_>::Ok([before, here()]) }
        };
        Ok([step, ctx.run("closure", closure).blocking().await?])
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("work", work)).await;
    let threads = outcome(&node, "work", ()).await.output::<[[String; 2]; 2]>().unwrap();
    for thread in threads.iter().flatten() {
        assert_eq!(thread, "tidemill-blocking", "{threads:?}");
    }
    node.shutdown().await.unwrap();
}
