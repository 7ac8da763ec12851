//! Stops and blocks: no ended step runs again, and no attempt begins beside a running body.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tidemill_eventlog::open_reader;
use tidemill_model::{Requester, RunStatus};
use tokio::sync::Notify;

use super::place::until;
use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::gate::Gate;
use crate::{App, Ctx, Environment, ErrorKind, Node, Result, Retry, RunResult, StartRequest, Step};

/// What bodies of a test count and wait for.
#[derive(Default)]
struct Scene {
    begun: AtomicU32,
    ended: AtomicU32,
    dropped: AtomicU32,
    /// A body may return.
    go: Notify,
    /// Another one may.
    go_second: Notify,
    /// Whether the workflow was fixed.
    mended: AtomicBool,
    /// A body on a thread of its own may return.
    open: (Mutex<bool>, Condvar),
}

type Shared = Arc<Scene>;

impl Scene {
    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

const LONG: Duration = Duration::from_secs(3_600);

fn kinds(path: &Path) -> Vec<String> {
    let connection = open_reader(path).unwrap();
    let mut statement = connection.prepare("SELECT kind FROM events ORDER BY seq").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(|kind| kind.unwrap()).collect()
}

fn count(path: &Path, kind: &str) -> usize {
    kinds(path).iter().filter(|is| *is == kind).count()
}

async fn result(node: &Node, run: &str) -> RunResult {
    soon(node.result(&run.parse().unwrap())).await.unwrap()
}

async fn start(node: &Node, workflow: &str) {
    node.start_request(StartRequest::new(workflow, ()).unwrap().id("r")).await.unwrap();
}

/// Returns when its node stops, as a body does that finishes the request it is in.
async fn finishes(step: Step, (): ()) -> Result<u32> {
    let scene = step.state::<Shared>();
    scene.begun.fetch_add(1, Ordering::Relaxed);
    step.cancellation().cancelled().await;
    scene.ended.fetch_add(1, Ordering::Relaxed);
    Ok(step.attempt())
}

async fn finishing(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("finishes", finishes, ()).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_returns_within_the_grace_does_not_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let scene = Shared::default();
    let app = || {
        let app = App::new("t").state(Arc::clone(&scene)).grace(LONG);
        app.workflow("finishing", finishing)
    };
    let node = app().open(&path).await.unwrap();
    start(&node, "finishing").await;
    until(|| scene.begun.load(Ordering::Relaxed) == 1).await;
    soon(node.shutdown()).await.unwrap();
    assert_eq!(kinds(&path).last().map(String::as_str), Some("op_held"));
    fsck(&path);

    let node = app().open(&path).await.unwrap();
    assert_eq!(result(&node, "r").await.output::<u32>().unwrap(), 1);
    node.shutdown().await.unwrap();
    assert_eq!(scene.begun.load(Ordering::Relaxed), 1, "it ran again");
    assert_eq!(count(&path, "step_restarted"), 0, "nor does it count as an attempt");
    assert_eq!((count(&path, "op_held"), count(&path, "step_completed")), (1, 1));
    fsck(&path);
}

/// Fails like a body whose child process got the signal, too.
async fn is_hit_too(step: Step, (): ()) -> Result<u32> {
    if step.attempt() == 1 {
        step.state::<Shared>().begun.fetch_add(1, Ordering::Relaxed);
        step.cancellation().cancelled().await;
        return Err("the child process was ended by a signal".into());
    }
    Ok(step.attempt())
}

async fn hitting(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("is hit", is_hit_too, ()).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_comes_after_the_stop_does_not_fail_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let scene = Shared::default();
    let app = || App::new("t").state(Arc::clone(&scene)).workflow("hitting", hitting);
    let node = app().open(&path).await.unwrap();
    start(&node, "hitting").await;
    until(|| scene.begun.load(Ordering::Relaxed) == 1).await;
    soon(node.shutdown()).await.unwrap();
    let node = app().open(&path).await.unwrap();
    assert_eq!(result(&node, "r").await.output::<u32>().unwrap(), 2);
    node.shutdown().await.unwrap();
    assert_eq!((count(&path, "op_held"), count(&path, "step_failed")), (0, 0));
}

/// Counts when it is dropped before its end.
struct Cut(Shared);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

async fn hangs(step: Step, (): ()) -> Result<()> {
    let scene = step.state::<Shared>();
    let _cut = Cut(Arc::clone(&scene));
    scene.begun.fetch_add(1, Ordering::Relaxed);
    std::future::pending().await
}

async fn hanging(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.step("hangs", hangs, ()).await?)
}

/// Its step loses the race at once, and the run continues for long.
async fn racing(ctx: Ctx, (): ()) -> Result<()> {
    crate::select! {
        () = async { let _ = ctx.step("hangs", hangs, ()).await; } => {}
        () = async { let _ = ctx.sleep(Duration::from_millis(20)).await; } => {}
    }
    Ok(ctx.sleep(LONG).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_body_that_ignores_its_token_is_dropped_when_the_grace_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Shared::default();
    let app = || {
        let app = App::new("t").state(Arc::clone(&scene)).grace(Duration::from_millis(30));
        app.workflow("hanging", hanging).workflow("racing", racing)
    };
    let node = app().open(folder.path().join("stop.db")).await.unwrap();
    start(&node, "hanging").await;
    until(|| scene.begun.load(Ordering::Relaxed) == 1).await;
    soon(node.shutdown()).await.unwrap();
    assert_eq!(scene.dropped.load(Ordering::Relaxed), 1);

    // The same for the loser of a race, while its run goes on.
    let node = app().open(folder.path().join("race.db")).await.unwrap();
    start(&node, "racing").await;
    until(|| scene.dropped.load(Ordering::Relaxed) == 2).await;
    assert_eq!(scene.begun.load(Ordering::Relaxed), 2);
    soon(node.shutdown()).await.unwrap();
}

/// Holds its thread, whatever its token says.
async fn stubborn(step: Step, (): ()) -> Result<u32> {
    let scene = step.state::<Shared>();
    scene.begun.fetch_add(1, Ordering::Relaxed);
    let (open, changed) = &scene.open;
    drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    scene.ended.fetch_add(1, Ordering::Relaxed);
    Ok(step.attempt())
}

async fn holding_a_pool_thread(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("stubborn", stubborn, ()).blocking().await?)
}

async fn holding_a_worker(ctx: Ctx, (): ()) -> Result<u32> {
    Ok(ctx.step("stubborn", stubborn, ()).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_stays_locked_while_a_body_of_it_runs_and_the_lock_names_the_step() {
    stays_locked("pool").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_while_an_async_body_does_not_return_to_its_runtime() {
    stays_locked("worker").await;
}

async fn stays_locked(holding: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let scene = Shared::default();
    let app = || {
        let app = App::new("t").state(Arc::clone(&scene)).grace(Duration::from_millis(20));
        app.workflow("pool", holding_a_pool_thread).workflow("worker", holding_a_worker)
    };
    let node = app().open(&path).await.unwrap();
    start(&node, holding).await;
    until(|| scene.begun.load(Ordering::Relaxed) == 1).await;
    soon(node.shutdown()).await.unwrap();
    let refused = app().open(&path).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("step 1 `stubborn` of run `r`"), "{refused}");
    assert_eq!(scene.begun.load(Ordering::Relaxed), 1, "the next attempt began beside it");

    scene.open();
    until(|| scene.ended.load(Ordering::Relaxed) == 1).await;
    let node = soon(async {
        loop {
            match app().open(&path).await {
                Ok(node) => break node,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
    })
    .await;
    assert_eq!(result(&node, "r").await.output::<u32>().unwrap(), 2);
    node.shutdown().await.unwrap();
    fsck(&path);
}

async fn told(step: Step, (): ()) -> Result<u32> {
    let scene = step.state::<Shared>();
    scene.begun.fetch_add(1, Ordering::Relaxed);
    scene.go.notified().await;
    Ok(scene.ended.fetch_add(1, Ordering::Relaxed))
}

/// One branch panics until the workflow is fixed; the step of the other branch continues meanwhile.
fn breaking(scene: &Shared) -> App {
    let mended = Arc::clone(scene);
    let workflow = move |ctx: Ctx, (): ()| {
        let scene = Arc::clone(&mended);
        async move {
            let breaks = async {
                ctx.sleep(Duration::from_millis(5)).await?;
                assert!(scene.mended.load(Ordering::Relaxed), "a bug");
                Ok(())
            };
            let (told, broken) = tokio::join!(ctx.step("told", told, ()), breaks);
            broken.and(told)
        }
    };
    App::new("t").state(Arc::clone(scene)).workflow("breaking", workflow)
}

async fn block(node: &Node, scene: &Scene) {
    start(node, "breaking").await;
    until(|| scene.begun.load(Ordering::Relaxed) == 1).await;
    assert!(matches!(result(node, "r").await, RunResult::Blocked(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_arrives_while_its_run_is_blocked_outlives_a_crash_and_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("workflow.db"), folder.path().join("crash.db"));
    let scene = Shared::default();
    let node = breaking(&scene).open(&path).await.unwrap();
    block(&node, &scene).await;
    scene.go.notify_one();
    until(|| count(&path, "op_held") == 1).await;
    let connection = open_reader(&path).unwrap();
    connection.backup("main", &copy, None::<fn(rusqlite::backup::Progress)>).unwrap();
    node.shutdown().await.unwrap();

    scene.mended.store(true, Ordering::Relaxed);
    for file in [&path, &copy] {
        let node = breaking(&scene).open(file).await.unwrap();
        assert_eq!(result(&node, "r").await.output::<u32>().unwrap(), 0);
        node.shutdown().await.unwrap();
        assert_eq!((count(file, "op_held"), count(file, "step_completed")), (1, 1));
        assert_eq!(count(file, "step_restarted"), 0);
        fsck(file);
    }
    assert_eq!(scene.begun.load(Ordering::Relaxed), 1, "it ran again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_resumed_observes_first_what_was_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let scene = Shared::default();
    let instruments = Instruments::default();
    let environment = Environment::alone(&path);
    let node = Node::open_with(breaking(&scene), environment, instruments.clone()).await.unwrap();
    block(&node, &scene).await;
    // The disk is full when it arrives, and again when it is delivered.
    let commits = instruments.faults.counts().0;
    instruments.faults.fail([commits + 1, commits + 2, commits + 5, commits + 6]);
    scene.go.notify_one();
    until(|| count(&path, "op_held") == 1).await;
    scene.mended.store(true, Ordering::Relaxed);
    soon(async {
        while let Err(error) = node.resume(&"r".parse().unwrap()).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
    })
    .await;
    assert_eq!(result(&node, "r").await.output::<u32>().unwrap(), 0);
    node.shutdown().await.unwrap();
    assert!(instruments.faults.counts().1 >= 3, "commits were refused on purpose");
    assert_eq!((count(&path, "op_held"), count(&path, "step_completed")), (1, 1));
    assert_eq!(scene.begun.load(Ordering::Relaxed), 1, "it ran again");
    fsck(&path);
}

/// Returns its name when the test allows it.
/// Fails once, when the test allows it.
async fn again(step: Step, (): ()) -> Result<u32> {
    let scene = step.state::<Shared>();
    while !scene.mended.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if step.attempt() == 1 { Err("once".into()) } else { Ok(0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_end_names_the_attempt_that_ended_also_one_that_began_after_the_run_was_blocked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let scene = Shared::default();
    let workflow = async |ctx: Ctx, (): ()| -> Result<()> {
        let breaks = async {
            ctx.sleep(Duration::from_millis(5)).await?;
            panic!("a bug")
        };
        let retry = Retry::attempts(2).initial_delay(Duration::from_millis(1));
        let again = ctx.step("again", again, ()).retry(retry);
        let (told, again, broken) = tokio::join!(ctx.step("told", told, ()), again, breaks);
        told?;
        again?;
        broken
    };
    let app = App::new("t").state(Arc::clone(&scene)).workflow("breaking", workflow);
    let node = app.open(&path).await.unwrap();
    block(&node, &scene).await;
    scene.go.notify_one();
    until(|| count(&path, "op_held") == 1).await;
    scene.mended.store(true, Ordering::Relaxed);
    until(|| count(&path, "op_held") == 2).await;
    let sql = "SELECT json_extract(data, '$.attempt') FROM events \
               WHERE kind = 'op_held' AND name = 'again'";
    let attempt: u32 = open_reader(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(attempt, 2);
    node.shutdown().await.unwrap();
}

async fn says(step: Step, name: String) -> Result<String> {
    let scene = step.state::<Shared>();
    scene.begun.fetch_add(1, Ordering::Relaxed);
    let go = if name == "a" { &scene.go_second } else { &scene.go };
    go.notified().await;
    Ok(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_observed_in_the_order_in_which_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let scene = Shared::default();
    let app = || {
        let mended = Arc::clone(&scene);
        let race = move |ctx: Ctx, (): ()| {
            let scene = Arc::clone(&mended);
            async move {
                let a = ctx.step("says", says, "a".to_owned());
                let b = ctx.step("says", says, "b".to_owned());
                let timer = ctx.sleep(Duration::from_millis(5));
                let race = async {
                    crate::select! {
                        a = a => a,
                        b = b => b,
                    }
                };
                let breaks = async {
                    timer.await?;
                    assert!(scene.mended.load(Ordering::Relaxed), "a bug");
                    Ok(())
                };
                let (first, broken) = tokio::join!(race, breaks);
                Result::<String>::Ok(broken.and(first)?)
            }
        };
        App::new("t").state(Arc::clone(&scene)).workflow("race", race)
    };
    let node = app().open(&path).await.unwrap();
    start(&node, "race").await;
    until(|| scene.begun.load(Ordering::Relaxed) == 2).await;
    assert!(matches!(result(&node, "r").await, RunResult::Blocked(_)));
    // The second branch ends first; the first one is preferred where both are there.
    for (number, go) in [&scene.go, &scene.go_second].into_iter().enumerate() {
        go.notify_one();
        until(|| count(&path, "op_held") == number + 1).await;
    }
    node.shutdown().await.unwrap();
    scene.mended.store(true, Ordering::Relaxed);
    let node = app().open(&path).await.unwrap();
    assert_eq!(result(&node, "r").await.output::<String>().unwrap(), "b");
    node.shutdown().await.unwrap();
    assert_eq!(scene.begun.load(Ordering::Relaxed), 2, "one ran again");
    fsck(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_end_of_a_run_that_is_terminated_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let scene = Shared::default();
    let app = || {
        let child = async |ctx: Ctx, (): ()| -> Result<u32> {
            let told = ctx.step("told", told, ()).start();
            ctx.sleep(Duration::from_millis(5)).await?;
            drop(told);
            panic!("a bug");
        };
        let drops = Arc::clone(&scene);
        let parent = move |ctx: Ctx, (): ()| {
            let scene = Arc::clone(&drops);
            async move {
                let child = ctx.child::<u32, _, _, _>("child", ()).start();
                while !scene.mended.load(Ordering::Relaxed) {
                    ctx.sleep(Duration::from_millis(2)).await?;
                }
                drop(child);
                Result::<()>::Ok(ctx.sleep(LONG).await?)
            }
        };
        App::new("t")
            .state(Arc::clone(&scene))
            .workflow("child", move |ctx, ()| child(ctx, ()))
            .workflow("parent", parent)
    };
    let node = app().open(&path).await.unwrap();
    start(&node, "parent").await;
    until(|| count(&path, "run_blocked") == 1).await;
    scene.go.notify_one();
    until(|| count(&path, "op_held") == 1).await;
    scene.mended.store(true, Ordering::Relaxed);
    // Its code cannot be told of the cancel: it is blocked again.
    until(|| count(&path, "cancel_held") == 1 && count(&path, "run_blocked") == 2).await;
    let (child, by) = ("r.1".parse().unwrap(), Requester::default().by("a test"));
    assert_eq!(node.terminate(&child, by).await.unwrap(), RunStatus::Cancelled);
    node.shutdown().await.unwrap();
    let connection = open_reader(&path).unwrap();
    let child = tidemill_eventlog::query::run(&connection, &"r.1".parse().unwrap()).unwrap();
    assert_eq!(child.unwrap().status, RunStatus::Cancelled);
    assert_eq!(count(&path, "step_completed"), 0);
    fsck(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_fenced_waits_for_nobody_and_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let scene = Shared::default();
    let gate = Gate::leased();
    gate.set(tidemill_eventlog::host::boot_now().saturating_add(LONG));
    let environment = Environment { gate: gate.clone(), ..Environment::alone(&path) };
    let app = breaking(&scene).grace(LONG).workflow("hanging", hanging);
    let node = Node::open(app, environment).await.unwrap();
    block(&node, &scene).await;
    node.start_request(StartRequest::new("hanging", ()).unwrap().id("s")).await.unwrap();
    until(|| scene.begun.load(Ordering::Relaxed) == 2).await;
    gate.fence();
    // Nobody will read the file that a result would now go to.
    scene.go.notify_one();
    until(|| scene.ended.load(Ordering::Relaxed) == 1).await;
    soon(node.shutdown()).await.unwrap();
    assert_eq!(count(&path, "op_held"), 0);
    assert_eq!(scene.dropped.load(Ordering::Relaxed), 1);
}
