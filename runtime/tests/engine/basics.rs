//! What authors see of a node: runs start, do their steps once, wait, branch and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::common::{MILLI, Place, fsck, outcome, soon, sql, until};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidemill::{App, Ctx, ErrorKind, FailureKind, Result, RunResult, StartRequest, Step};

async fn double(_: Step, n: u64) -> Result<u64> {
    Ok(n * 2)
}

async fn chain(ctx: Ctx, steps: u64) -> Result<u64> {
    let mut n = 1;
    for _ in 0..steps {
        n = ctx.step("double", double, n).await?;
    }
    Ok(n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_run_one_after_another_with_one_commit_each() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("chain", chain)).await;
    assert_eq!(outcome(&node, "chain", 10).await.output::<u64>().unwrap(), 1024);
    node.shutdown().await.unwrap();
    fsck(&place);
    let order: String = sql(
        &place,
        "SELECT group_concat(kind, ' ') FROM (SELECT kind FROM events \
                                     WHERE kind <> 'node_started' ORDER BY seq LIMIT 6)",
    );
    assert_eq!(
        order,
        "run_created run_started step_started step_completed step_started step_completed"
    );
    let runs: String = sql(&place, "SELECT status || ' ' || output FROM runs");
    assert_eq!(runs, "completed 1024");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_run_at_once_and_end_in_any_order() {
    async fn slow(step: Step, n: u64) -> Result<u64> {
        step.state::<Arc<AtomicU32>>().fetch_add(1, Ordering::SeqCst);
        let arrived = step.state::<Arc<AtomicU32>>();
        while arrived.load(Ordering::SeqCst) < 8 {
            tokio::time::sleep(MILLI).await;
        }
        Ok(n)
    }
    async fn fan(ctx: Ctx, n: u64) -> Result<u64> {
        let mut calls: FuturesUnordered<_> = (0..n).map(|i| ctx.step("slow", slow, i)).collect();
        let mut sum = 0;
        while let Some(i) = calls.next().await {
            sum += i?;
        }
        let (a, b) = tokio::join!(ctx.step("a", double, 1), ctx.step("b", double, 2));
        Ok(sum + a? + b?)
    }
    let place = Place::new();
    let app = App::new("t").state(Arc::new(AtomicU32::new(0))).workflow("fan", fan);
    let node = place.open(app).await;
    assert_eq!(outcome(&node, "fan", 8).await.output::<u64>().unwrap(), 28 + 6);
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays(), (1, 0));
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_may_talk_over_channels_as_much_as_they_like() {
    async fn talk(ctx: Ctx, messages: u64) -> Result<u64> {
        // Far more than tokio's budget for one poll.
        let (send, mut receive) = tokio::sync::mpsc::channel(1);
        let sender = async move {
            for n in 0..messages {
                if n % 500 == 0 {
                    ctx.step("double", double, n).await?;
                }
                send.send(n).await?;
            }
            Result::<()>::Ok(())
        };
        let receiver = async {
            let mut sum = 0;
            while let Some(n) = receive.recv().await {
                sum += n;
            }
            sum
        };
        let (sent, sum) = tokio::join!(sender, receiver);
        sent?;
        Ok(sum)
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("talk", talk)).await;
    assert_eq!(outcome(&node, "talk", 2_000).await.output::<u64>().unwrap(), 1_999_000);
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays(), (1, 0));
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loser_of_a_race_is_dropped_and_told() {
    async fn patient(step: Step, (): ()) -> Result<()> {
        step.cancellation().cancelled().await;
        step.state::<Arc<AtomicBool>>().store(true, Ordering::SeqCst);
        Ok(())
    }
    async fn race(ctx: Ctx, (): ()) -> Result<String> {
        tidemill::select! {
            done = ctx.step("patient", patient, ()) => done?,
            slept = ctx.sleep(MILLI) => slept?,
        }
        Ok("over".to_owned())
    }
    let place = Place::new();
    let told = Arc::new(AtomicBool::new(false));
    let node = place.open(App::new("t").state(Arc::clone(&told)).workflow("race", race)).await;
    assert_eq!(outcome(&node, "race", ()).await.output::<String>().unwrap(), "over");
    until(|| told.load(Ordering::SeqCst)).await;
    node.shutdown().await.unwrap();
    let dropped: String = sql(&place, "SELECT status FROM steps");
    assert_eq!(dropped, "dropped");
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_and_randomness_come_from_the_log_and_the_seed() {
    async fn facts(ctx: Ctx, (): ()) -> Result<(String, String, u64, u64)> {
        let before = ctx.now();
        ctx.sleep(MILLI).await?;
        assert!(ctx.now() > before);
        Ok((before.to_string(), ctx.uuid().to_string(), ctx.random(), ctx.random()))
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("facts", facts)).await;
    let (_, uuid, a, b) =
        outcome(&node, "facts", ()).await.output::<(String, String, u64, u64)>().unwrap();
    assert_ne!(a, b);
    assert_eq!(uuid.as_bytes()[14], b'4');
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays(), (1, 0), "a replay returns the same");
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_runs_of_their_own() {
    async fn half(ctx: Ctx, n: u64) -> Result<u64> {
        if n % 2 == 1 {
            return Err(format!("{n} is odd").into());
        }
        Ok(ctx.run("half", async move || Ok(n / 2)).await?)
    }
    async fn parent(ctx: Ctx, n: u64) -> Result<(u64, String)> {
        let even = ctx.child(half, n).await?;
        let odd = ctx.child::<u64, _, _, _>("half", n + 1).await.unwrap_err();
        Ok((even, odd.to_string()))
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("half", half).workflow("parent", parent)).await;
    let request = StartRequest::new("parent", 4).unwrap().id("p");
    let run = node.start_request(request).await.unwrap();
    let ended = soon(node.result(&run.id)).await.unwrap();
    let expected = (2, "`half` failed: 5 is odd".to_owned());
    assert_eq!(ended.output::<(u64, String)>().unwrap(), expected);
    let child = node.result(&"p.1".parse().unwrap()).await.unwrap();
    assert_eq!(child.output::<u64>().unwrap(), 2);
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_child_is_cancelled() {
    async fn forever(ctx: Ctx, (): ()) -> Result<()> {
        Ok(ctx.sleep(Duration::from_secs(86_400)).await?)
    }
    async fn impatient(ctx: Ctx, (): ()) -> Result<()> {
        tidemill::select! {
            ended = ctx.child::<(), _, _, _>("forever", ()) => ended?,
            slept = ctx.sleep(MILLI * 5) => slept?,
        }
        Ok(())
    }
    let place = Place::new();
    let app = App::new("t").workflow("forever", forever).workflow("impatient", impatient);
    let node = place.open(app).await;
    let run =
        node.start_request(StartRequest::new("impatient", ()).unwrap().id("i")).await.unwrap();
    soon(node.result(&run.id)).await.unwrap().output::<()>().unwrap();
    let RunResult::Failed(failure) = soon(node.result(&"i.1".parse().unwrap())).await.unwrap()
    else {
        panic!("the child is cancelled");
    };
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert_eq!(node.check(&"i.1".parse().unwrap()).await.unwrap().divergence, None);
    node.shutdown().await.unwrap();
    let status: String = sql(&place, "SELECT status FROM runs WHERE run = 'i.1'");
    assert_eq!(status, "cancelled");
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_is_idempotent_and_refuses_what_does_not_fit() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("chain", chain)).await;
    let request = || StartRequest::new("chain", 3).unwrap().id("one").label("team", "a");
    let first = node.start_request(request()).await.unwrap();
    let again = node.start_request(request()).await.unwrap();
    assert!(!first.existing && again.existing);
    assert_eq!(first.seq, again.seq);
    let refused = |request: StartRequest| {
        let node = node.clone();
        async move {
            let error = node.start_request(request).await.unwrap_err();
            (error.kind(), error.to_string())
        }
    };
    let (kind, message) = refused(StartRequest::new("chain", 4).unwrap().id("one")).await;
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("`one`") && message.contains("another input"), "{message}");
    let (kind, message) = refused(StartRequest::new("train", 4).unwrap()).await;
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(message.ends_with("known workflows: chain"), "{message}");
    for bad in [
        StartRequest::new("chain", "three").unwrap(),
        StartRequest::new("chain", 3).unwrap().id("no spaces"),
        StartRequest::new("chain", 3).unwrap().label("", "x"),
    ] {
        assert_eq!(refused(bad).await.0, ErrorKind::Invalid);
    }
    let nobody = node.result(&"nobody".parse().unwrap()).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
    node.shutdown().await.unwrap();
    let closed = node.start_request(request()).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_one_node_and_a_wrong_program_is_refused() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("chain", chain)).await;
    let second = App::new("t").open(place.file()).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Conflict);
    assert!(second.to_string().contains("by a node of this process"), "{second}");
    node.shutdown().await.unwrap();
    let twice = App::new("t").workflow("a", chain).workflow("a", chain);
    let wrong = twice.open(place.file()).await.unwrap_err();
    assert_eq!(
        (wrong.kind(), wrong.to_string()),
        (ErrorKind::Invalid, "two workflows are named `a`".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_ended_goes_on_in_the_next_process() {
    async fn nap(ctx: Ctx, ms: u64) -> Result<u64> {
        let n = ctx.step("double", double, 21).await?;
        ctx.sleep(Duration::from_millis(ms)).await?;
        ctx.child::<u64, _, _, _>("chain", 3).await?;
        Ok(n)
    }
    let app = || App::new("t").workflow("nap", nap).workflow("chain", chain);
    let place = Place::new();
    let node = place.open(app()).await;
    let run = node.start_request(StartRequest::new("nap", 300).unwrap()).await.unwrap();
    tokio::time::sleep(MILLI * 50).await;
    let waiting = tokio::spawn({
        let (node, id) = (node.clone(), run.id.clone());
        async move { node.result(&id).await }
    });
    tokio::task::yield_now().await;
    node.shutdown().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    fsck(&place);
    let node = place.open(app()).await;
    let ended = soon(node.result(&run.id)).await.unwrap();
    assert_eq!(ended.output::<u64>().unwrap(), 42);
    node.shutdown().await.unwrap();
    fsck(&place);
    let steps: i64 = sql(
        &place,
        "SELECT count(*) FROM events WHERE kind = 'step_completed' \
                                  AND op = 1 AND run NOT LIKE '%.%'",
    );
    assert_eq!(steps, 1, "the completed step did not run again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_share_commits() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("chain", chain)).await;
    let starts = (0..256).map(|i| {
        let (node, id) = (node.clone(), format!("r{i}"));
        tokio::spawn(async move {
            let run =
                node.start_request(StartRequest::new("chain", 4).unwrap().id(&id)).await.unwrap();
            node.result(&run.id).await.unwrap().output::<u64>().unwrap()
        })
    });
    for ended in futures_util::future::join_all(starts).await {
        assert_eq!(ended.unwrap(), 16);
    }
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_took_a_childs_id_is_left_alone() {
    async fn forever(ctx: Ctx, (): ()) -> Result<()> {
        Ok(ctx.sleep(Duration::from_secs(3600)).await?)
    }
    async fn gives_up(ctx: Ctx, (): ()) -> Result<()> {
        drop(ctx.child::<(), _, _, _>("forever", ()).start());
        Ok(ctx.sleep(MILLI).await?)
    }
    async fn waits(ctx: Ctx, (): ()) -> Result<String> {
        Ok(ctx.child::<(), _, _, _>("forever", ()).await.unwrap_err().message().to_owned())
    }
    let app = || {
        App::new("t")
            .workflow("forever", forever)
            .workflow("gives_up", gives_up)
            .workflow("waits", waits)
    };
    let (place, start) =
        (Place::new(), |workflow: &str, id: &str| StartRequest::new(workflow, ()).unwrap().id(id));
    let node = place.open(app()).await;
    for id in ["a.1", "b.1"] {
        node.start_request(start("forever", id)).await.unwrap();
    }
    let run = node.start_request(start("gives_up", "a")).await.unwrap();
    soon(node.result(&run.id)).await.unwrap().output::<()>().unwrap();
    let run = node.start_request(start("waits", "b")).await.unwrap();
    let told = soon(node.result(&run.id)).await.unwrap().output::<String>().unwrap();
    assert!(told.contains("`b.1` already, which this call did not start"), "{told}");
    node.shutdown().await.unwrap();
    let alive = "SELECT count(*) FROM runs WHERE run IN ('a.1', 'b.1') AND status = 'suspended'";
    assert_eq!(sql::<i64>(&place, alive), 2, "nobody who did not start them ended them");
    fsck(&place);
}

/// How often a run is polled is a function of its log, because futures such as `join!` behave by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_polled_at_its_start_and_once_for_each_input() {
    static POLLS: AtomicU32 = AtomicU32::new(0);
    async fn counted(ctx: Ctx, steps: u32) -> Result<()> {
        let mut work = Box::pin(async move {
            for _ in 0..steps {
                ctx.run("step", async || Result::<()>::Ok(())).await?;
                ctx.sleep(MILLI).await?;
            }
            Ok(())
        });
        std::future::poll_fn(move |cx| {
            POLLS.fetch_add(1, Ordering::Relaxed);
            work.as_mut().poll(cx)
        })
        .await
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("counted", counted)).await;
    outcome(&node, "counted", 5).await.output::<()>().unwrap();
    node.shutdown().await.unwrap();
    // A debug build replays each finished run once.
    let (replays, diverged) = node.shadow_replays();
    assert_eq!(diverged, 0);
    let times = u32::try_from(replays).unwrap() + 1;
    assert_eq!(POLLS.load(Ordering::Relaxed), times * (1 + 5 * 2));
}
