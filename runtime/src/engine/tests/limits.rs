//! How long a step may wait for its first attempt, and an attempt may stay silent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::crashes::crashed;
use super::place::until;
use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{
    App, Ctx, Environment, FailureKind, Gate, Node, Result, Retry, RunResult, StartRequest, Step,
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What the bodies share.
#[derive(Default)]
struct Seen {
    begun: AtomicU32,
    /// How many threads are kept.
    held: AtomicU32,
    /// Lets the bodies end that keep the threads.
    free: AtomicBool,
}

type Ended = (FailureKind, u32, String);

/// How a failed step ended.
fn ended(error: &crate::StepError) -> Ended {
    (error.kind(), error.attempts(), error.message().to_owned())
}

/// Silent in its first attempts, as a task that waits or as a thread that computes.
async fn silent(step: Step, (blocking, attempts): (bool, u32)) -> Result<u32> {
    step.state::<Arc<Seen>>().begun.fetch_add(1, Ordering::SeqCst);
    while step.attempt() <= attempts {
        match blocking {
            true if step.cancellation().is_cancelled() => return Err("it was told".into()),
            true => std::thread::park_timeout(MILLI),
            false => std::future::pending().await,
        }
    }
    Ok(step.attempt())
}

async fn hears(ctx: Ctx, (blocking, attempts): (bool, u32)) -> Result<(u32, Option<Ended>)> {
    let call = |attempts| {
        let call = ctx.step("silent", silent, (blocking, attempts)).heartbeat(MILLI * 30);
        let call = call.retry(Retry::attempts(2).initial_delay(MILLI));
        if blocking { call.blocking() } else { call }
    };
    let first = call(attempts).await?;
    Ok((first, call(9).await.err().map(|error| ended(&error))))
}

/// Beats for three seconds, and pauses for 20 ms at a time.
async fn beating(step: Step, (): ()) -> Result<u32> {
    for _ in 0..150 {
        step.heartbeat();
        tokio::time::sleep(MILLI * 20).await;
    }
    Ok(step.attempt())
}

async fn beats(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("beating", beating, ()).heartbeat(SECOND * 2).await?)
}

async fn recording(step: Step, (): ()) -> Result<u32> {
    step.checkpoint(1).await?;
    Ok(step.attempt())
}

async fn records(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("recording", recording, ()).heartbeat(SECOND).await?)
}

async fn hold(step: Step, (): ()) -> Result<()> {
    let seen = step.state::<Arc<Seen>>();
    seen.held.fetch_add(1, Ordering::SeqCst);
    while !seen.free.load(Ordering::SeqCst) && !step.cancellation().is_cancelled() {
        std::thread::park_timeout(MILLI);
    }
    Ok(())
}

async fn begins(step: Step, (): ()) -> Result<u32> {
    step.state::<Arc<Seen>>().begun.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(MILLI * 100).await;
    Ok(step.attempt())
}

async fn lets_go(step: Step, (): ()) -> Result<()> {
    step.state::<Arc<Seen>>().free.store(true, Ordering::SeqCst);
    Ok(())
}

async fn all_held(step: Step, threads: u32) -> Result<()> {
    while step.state::<Arc<Seen>>().held.load(Ordering::SeqCst) < threads {
        tokio::time::sleep(MILLI).await;
    }
    Ok(())
}

/// A step that may wait 50 ms for its thread, while others keep all threads for longer.
async fn queues(ctx: Ctx, (): ()) -> Result<Option<Ended>> {
    let threads = u32::try_from(std::thread::available_parallelism()?.get())?;
    let held: Vec<_> =
        (0..threads).map(|_| ctx.step("hold", hold, ()).blocking().start()).collect();
    ctx.step("all_held", all_held, threads).await?;
    let late = ctx.step("late", begins, ()).blocking().begin_within(MILLI * 50);
    let late = late.retry(Retry::attempts(3)).await.err().map(|error| ended(&error));
    ctx.step("lets_go", lets_go, ()).await?;
    futures_util::future::try_join_all(held).await?;
    Ok(late)
}

async fn waits(ctx: Ctx, millis: u64) -> Result<Option<Ended>> {
    let call = ctx.step("begins", begins, ()).begin_within(Duration::from_millis(millis));
    Ok(call.await.err().map(|error| ended(&error)))
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
    seen: Arc<Seen>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        Place { _folder: folder, path, seen: Arc::default() }
    }

    async fn open(&self, path: &Path, gate: &Gate, instruments: Instruments) -> Node {
        let app = App::new("t").state(Arc::clone(&self.seen));
        let app = app.workflow("hears", hears).workflow("beats", beats);
        let app = app.workflow("records", records).workflow("queues", queues);
        let app = app.workflow("waits", waits).grace(MILLI * 100);
        let environment = Environment { gate: gate.clone(), ..Environment::alone(path) };
        Node::open_with(app, environment, instruments).await.unwrap()
    }

    async fn run(&self, workflow: &str, input: impl serde::Serialize) -> RunResult {
        self.run_with(Instruments::default(), workflow, input).await
    }

    async fn run_with(
        &self,
        instruments: Instruments,
        workflow: &str,
        input: impl serde::Serialize,
    ) -> RunResult {
        let node = self.open(&self.path, &Gate::always_open(), instruments).await;
        let run = node.start_request(StartRequest::new(workflow, input).unwrap()).await.unwrap();
        let ended = soon(node.result(&run.id)).await.unwrap();
        node.shutdown().await.unwrap();
        fsck(&self.path);
        ended
    }

    fn begun(&self) -> u32 {
        self.seen.begun.load(Ordering::SeqCst)
    }
}

fn not_begun(limit: &str) -> Ended {
    let message = format!("no attempt had begun {limit} after its start");
    (FailureKind::TimedOut, 0, message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_gives_no_sign_of_life_is_ended_and_attempted_again() {
    for blocking in [false, true] {
        let place = Place::new();
        let (attempt, error) = place.run("hears", (blocking, 1)).await.output().unwrap();
        let error: Option<Ended> = error;
        let (kind, attempts, message) = error.expect("two attempts are silent");
        let attempt: u32 = attempt;
        // What a body says when its token ends it counts more than why it was ended.
        let (of_kind, says) = match blocking {
            true => (FailureKind::Failed, "it was told"),
            false => (FailureKind::TimedOut, "it gave no sign of life for 30ms"),
        };
        assert_eq!((attempt, kind, attempts, &*message), (2, of_kind, 2, says));
        assert_eq!(place.begun(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_may_take_longer_than_it_may_be_silent() {
    assert_eq!(Place::new().run("beats", ()).await.output::<u32>().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_waits_for_the_disk_is_no_silence() {
    let (place, instruments) = (Place::new(), Instruments::default());
    // The start and the run's first turn are written, and then nothing for two seconds and more.
    instruments.faults.fail(3..1_200);
    let ended = place.run_with(instruments.clone(), "records", ()).await;
    assert_eq!(ended.output::<u32>().unwrap(), 1);
    assert!(instruments.faults.counts().1 > 1_000, "commits failed on purpose");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_waits_too_long_for_a_thread_fails_without_an_attempt() {
    let place = Place::new();
    let late: Option<Ended> = place.run("queues", ()).await.output().unwrap();
    assert_eq!(late, Some(not_begun("50ms")), "and it is not retried");
    assert_eq!(place.begun(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_has_begun_in_time_may_take_longer() {
    let place = Place::new();
    // Only the beginning counts, and it has two seconds for it.
    assert_eq!(place.run("waits", 2_000).await.output::<Option<Ended>>().unwrap(), None);
    assert_eq!(place.begun(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_whose_process_died_before_it_began_is_too_late_in_the_next_one() {
    let place = Place::new();
    // Without a lease no body begins.
    let node = place.open(&place.path, &Gate::leased(), Instruments::default()).await;
    let starting = {
        let (node, request) = (node.clone(), StartRequest::new("waits", 5_000).unwrap().id("r"));
        tokio::spawn(async move { node.start_request(request).await })
    };
    let started = || {
        let sql = "SELECT count(*) FROM events WHERE kind = 'step_started'";
        let reader = tidemill_eventlog::open_reader(&place.path).unwrap();
        reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    until(|| started() > 0).await;
    let copy = crashed(&place.path, 1);
    node.shutdown().await.unwrap();
    drop(starting);
    let instruments = Instruments::default();
    instruments.clock.step_wall(5_000_001);
    let node = place.open(&copy, &Gate::always_open(), instruments).await;
    let ended = soon(node.result(&"r".parse().unwrap())).await.unwrap();
    assert_eq!(ended.output::<Option<Ended>>().unwrap(), Some(not_begun("5s")));
    node.shutdown().await.unwrap();
    assert_eq!(place.begun(), 0);
    fsck(&copy);
}
