//! Ended runs that leave a node at work.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use tidemill_eventlog::{Checkpoints, open_reader, open_writer, query};
use tidemill_model::{ComparedSeqs, PruneReport, PruneRequest, Retention, RunId, StaysCount};

use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, ErrorKind, Node, Result, StartRequest, Step, StillCompared};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MICROS: i64 = 3_600_000_000;

async fn square(ctx: Ctx, n: u64) -> Result<u64> {
    Ok(ctx.run("square", async move || Ok::<_, crate::BoxError>(n * n)).await?)
}

async fn sum(ctx: Ctx, upto: u64) -> Result<u64> {
    let mut sum = 0;
    for n in 0..upto {
        sum += ctx.child(square, n).await?;
    }
    Ok(sum)
}

async fn sleeps(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(HOUR * 24).await?)
}

/// Drops a step whose body goes on until it is told to end.
async fn leaves_a_body(ctx: Ctx, (): ()) -> Result<()> {
    let body = ctx.step("stays", stays, ()).blocking();
    tokio::select! {
        biased;
        done = body => Ok(done?),
        slept = ctx.sleep(Duration::from_millis(50)) => Ok(slept?),
    }
}

async fn stays(step: Step, (): ()) -> Result<()> {
    step.state::<Arc<Barrier>>().wait();
    Ok(())
}

fn app() -> App {
    App::new("t").workflow("square", square).workflow("sum", sum).workflow("sleeps", sleeps)
}

fn keep(rule: &str) -> PruneRequest {
    let rules = Retention::new(vec![rule.parse().unwrap()]).unwrap();
    PruneRequest { keep: Some(rules), dry_run: false }
}

async fn prune(node: &Node, rule: &str) -> PruneReport {
    soon(node.prune(keep(rule), HOUR)).await.unwrap()
}

async fn start(node: &Node, workflow: &str, input: u64, id: &str) -> RunId {
    let input = if workflow == "sleeps" { serde_json::Value::Null } else { input.into() };
    let request = StartRequest::new(workflow, input).unwrap().id(id);
    node.start_request(request).await.unwrap().id
}

async fn run(node: &Node, workflow: &str, input: u64, id: &str) -> u64 {
    let run = start(node, workflow, input, id).await;
    soon(node.result(&run)).await.unwrap().output().unwrap()
}

fn runs(path: &Path) -> Vec<String> {
    let filter = query::RunFilter { limit: 1_000, ..Default::default() };
    let mut runs: Vec<_> = query::runs(&open_reader(path).unwrap(), &filter)
        .unwrap()
        .into_iter()
        .map(|run| run.id.to_string())
        .collect();
    runs.sort();
    runs
}

/// A node whose clock is so many hours ahead.
async fn open_later(
    app: App,
    path: &Path,
    hours: i64,
    compared: StillCompared,
) -> (Node, Instruments) {
    let instruments = Instruments::default();
    instruments.clock.step_wall(hours * HOUR_MICROS);
    let environment = Environment { compared, ..Environment::alone(path) };
    let node = Node::open_with(app, environment, instruments.clone()).await.unwrap();
    (node, instruments)
}

#[tokio::test]
async fn old_families_leave_and_what_goes_on_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    assert_eq!(run(&node, "sum", 4, "old").await, 14);
    let sleeper = start(&node, "sleeps", 0, "sleeper").await;
    assert_eq!(prune(&node, "0").await.runs, 0, "they ended a moment ago");
    node.shutdown().await.unwrap();

    let (node, _) = open_later(app(), &path, 2, StillCompared::nothing()).await;
    run(&node, "square", 3, "new").await;
    let would = node.prune(PruneRequest { dry_run: true, ..keep("1h") }, HOUR).await.unwrap();
    assert_eq!(runs(&path).len(), 7, "a dry run removes nothing");
    let did = prune(&node, "1h").await;
    assert_eq!((did.runs, did.kept, did.more), (5, 1, false));
    assert_eq!(PruneReport { dry_run: false, ..would }, did);
    assert_eq!(runs(&path), ["new", "sleeper"]);
    let gone = node.result(&RunId::new("old").unwrap()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    // Its id is free, and its children's ids are, too.
    assert_eq!(run(&node, "sum", 3, "old").await, 5);
    assert_eq!(prune(&node, "1h").await.runs, 0);
    node.shutdown().await.unwrap();
    fsck(&path);

    let (node, _) = open_later(app(), &path, 26, StillCompared::nothing()).await;
    soon(node.result(&sleeper)).await.unwrap().output::<()>().unwrap();
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    fsck(&path);
}

#[tokio::test]
async fn nothing_leaves_before_it_is_known_what_is_compared_nor_at_or_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    for id in ["a", "b", "c"] {
        run(&node, "square", 2, id).await;
    }
    start(&node, "sleeps", 0, "last").await;
    node.shutdown().await.unwrap();
    let last_of = |run: &str| {
        let run = RunId::new(run).unwrap();
        query::run_state(&open_reader(&path).unwrap(), &run, None).unwrap().unwrap().last_seq
    };
    let compared = StillCompared::unknown();
    let (node, _) = open_later(app().keep("1h"), &path, 2, compared.clone()).await;
    let error = node.prune(keep("1h"), HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("sidecar"), "{error}");
    compared.tell(ComparedSeqs { base: Some(last_of("a")), from: last_of("c") });
    // By itself: the program has a rule.
    soon(async {
        while runs(&path) != ["a", "c", "last"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let report = prune(&node, "1h").await;
    assert_eq!(report.stays, StaysCount { compared: 2, ..StaysCount::default() });
    compared.tell(ComparedSeqs { base: None, from: last_of("c").next() });
    assert_eq!(prune(&node, "1h").await.runs, 2);
    node.shutdown().await.unwrap();
    fsck(&path);
}

#[tokio::test]
async fn a_clock_that_jumps_forward_makes_no_run_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let (node, instruments) = open_later(app(), &path, 0, StillCompared::nothing()).await;
    run(&node, "square", 2, "a").await;
    run(&node, "square", 2, "b").await;
    instruments.clock.step_wall(1_000 * HOUR_MICROS);
    let report = prune(&node, "1h").await;
    assert_eq!((report.runs, report.kept), (0, 2));
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_a_removal_and_the_next_pass_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    run(&node, "sum", 3, "old").await;
    start(&node, "sleeps", 0, "last").await;
    node.shutdown().await.unwrap();
    let (node, instruments) = open_later(app(), &path, 2, StillCompared::nothing()).await;
    let before = runs(&path);
    instruments.faults.fail([instruments.faults.counts().0 + 1]);
    let error = node.prune(keep("1h"), HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(runs(&path), before);
    assert_eq!(prune(&node, "1h").await.runs, 4);
    node.shutdown().await.unwrap();
    fsck(&path);
}

#[tokio::test]
async fn a_run_with_a_damaged_row_stays_with_its_parent_and_the_others_leave() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    run(&node, "sum", 3, "hurt").await;
    run(&node, "square", 2, "sound").await;
    start(&node, "sleeps", 0, "last").await;
    node.shutdown().await.unwrap();
    let damage = "INSERT INTO tidemill_meta VALUES ('retention', '1'); \
        UPDATE events SET data = data || ' ' WHERE run = 'hurt.2' AND kind = 'run_created'; \
        DELETE FROM tidemill_meta WHERE key = 'retention'";
    open_writer(&path, Checkpoints::Own).unwrap().execute_batch(damage).unwrap();
    let (node, _) = open_later(app(), &path, 2, StillCompared::nothing()).await;
    for left in [3, 0] {
        assert_eq!(prune(&node, "1h").await.runs, left);
        assert_eq!(runs(&path), ["hurt", "hurt.2", "last"]);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_run_whose_body_still_runs_is_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let end = Arc::new(Barrier::new(2));
    let app = app().state(Arc::clone(&end)).workflow("leaves_a_body", leaves_a_body);
    let node = app.open(folder.path().join("workflow.db")).await.unwrap();
    let request = StartRequest::new("leaves_a_body", ()).unwrap().id("busy");
    let busy = node.start_request(request).await.unwrap().id;
    soon(node.result(&busy)).await.unwrap().output::<()>().unwrap();
    assert!(node.engine().is_at_work(&busy));
    tokio::task::spawn_blocking(move || end.wait()).await.unwrap();
    soon(async {
        while node.engine().is_at_work(&busy) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    node.shutdown().await.unwrap();
}
