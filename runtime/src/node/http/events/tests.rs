use std::path::Path;

use tidemill_eventlog::query::RunFilter;
use tidemill_model::RunPage;
use tokio::sync::Notify;

use super::*;
use crate::engine::Node;
use crate::store::HeldBlocks;
use crate::{App, Ctx, Result as AuthorResult, StartRequest, Step};

/// Below the limit of a payload, and near it.
const LARGE: usize = 900 * 1024;

/// The step of `gated` runs; it may end.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    opened: Arc<Notify>,
}

async fn gated(ctx: Ctx, (): ()) -> AuthorResult<()> {
    Ok(ctx.step("wait", passes, ()).await?)
}

async fn passes(step: Step, (): ()) -> AuthorResult<()> {
    let gate = step.state::<Gate>();
    gate.entered.notify_one();
    gate.opened.notified().await;
    Ok(())
}

async fn done(_: Ctx, (): ()) -> AuthorResult<()> {
    Ok(())
}

/// So many steps with a large output each.
async fn large(ctx: Ctx, steps: u32) -> AuthorResult<()> {
    for _ in 0..steps {
        ctx.step("fill", fills, ()).await?;
    }
    Ok(())
}

async fn fills(_: Step, (): ()) -> AuthorResult<String> {
    Ok("x".repeat(LARGE))
}

async fn says(ctx: Ctx, (): ()) -> AuthorResult<()> {
    ctx.set_status("x".repeat(4_000));
    Ok(())
}

async fn node(gate: &Gate, path: &Path) -> Node {
    App::new("followed")
        .state(gate.clone())
        .workflow("gated", gated)
        .workflow("done", done)
        .workflow("large", large)
        .workflow("says", says)
        .open(path)
        .await
        .unwrap()
}

async fn run(node: &Node, workflow: &str, id: &str, input: impl serde::Serialize) -> RunId {
    let request = StartRequest::new(workflow, input).unwrap().id(id);
    node.start_request(request).await.unwrap().id
}

async fn follow(node: &Node, reads: &Reads, run: &RunId) -> Follower {
    let following = node.follow(run);
    let closing = CancellationToken::new();
    Follower::new(reads.clone(), closing, following, run.clone(), Seq::ZERO).await.unwrap()
}

fn bytes<'a>(rows: impl IntoIterator<Item = &'a Row>) -> usize {
    rows.into_iter().map(|row| row.data.as_ref().map_or(0, String::len)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_reads_the_file_when_its_own_run_has_news_and_not_for_others() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let node = node(&gate, &folder.path().join("workflow.db")).await;
    let (quiet, reads) = (run(&node, "gated", "quiet", ()).await, node.reads());
    gate.entered.notified().await;
    let mut follower = follow(&node, &reads, &quiet).await;
    while follower.next().await.unwrap().unwrap().kind != "step_started" {}
    // Nothing more is written to it until the gate opens.
    follower.read().await.unwrap();
    assert!(follower.waiting.is_empty());
    let before = reads.jobs();
    let waits = tokio::spawn(async move { (follower.next().await, follower) });
    for other in 0..20 {
        let other = run(&node, "done", &format!("other-{other}"), ()).await;
        node.result(&other).await.unwrap();
    }
    assert_eq!(reads.jobs(), before, "it looked for what others wrote");
    gate.opened.notify_one();
    let (row, mut follower) = waits.await.unwrap();
    assert_eq!(row.unwrap().unwrap().kind, "step_completed");
    assert_eq!(reads.jobs(), before + 1);
    assert_eq!(follower.next().await.unwrap().unwrap().kind, "run_completed");
    assert!(follower.next().await.is_none());
    assert_eq!(reads.jobs(), before + 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_run_that_has_ended_comes_to_its_end() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let node = node(&gate, &folder.path().join("workflow.db")).await;
    let (run, reads) = (run(&node, "done", "r", ()).await, node.reads());
    node.result(&run).await.unwrap();
    let mut follower = follow(&node, &reads, &run).await;
    let mut last = Seq::ZERO;
    while let Some(row) = follower.next().await {
        last = row.unwrap().seq;
    }
    let (following, closing) = (node.follow(&run), CancellationToken::new());
    let mut late = Follower::new(reads, closing, following, run, last).await.unwrap();
    assert!(late.next().await.is_none());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_events_is_bounded_in_bytes_and_the_next_goes_on_without_loss() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let node = node(&gate, &folder.path().join("workflow.db")).await;
    let (run, reads) = (run(&node, "large", "r", 12).await, node.reads());
    node.result(&run).await.unwrap();
    let all = reads.events(&run, Seq::ZERO, (u32::MAX, usize::MAX)).await.unwrap().unwrap();
    assert!(!all.more && bytes(&all.rows) > 12 * LARGE);

    let (mut paged, mut pages, mut after) = (Vec::new(), 0, Seq::ZERO);
    loop {
        let found = page(&reads, &run, after, (PAGE_MAX, PAGE_BYTES_MAX)).await.unwrap();
        assert!(bytes(&found.rows) < PAGE_BYTES_MAX + 2 * LARGE, "{}", bytes(&found.rows));
        after = found.rows.last().unwrap().seq;
        paged.extend(found.rows);
        pages += 1;
        if !found.more {
            break;
        }
    }
    assert_eq!((pages, &paged), (3, &all.rows));

    let mut follower = follow(&node, &reads, &run).await;
    let mut followed = Vec::new();
    while let Some(row) = follower.next().await {
        followed.push(row.unwrap());
        assert!(bytes(&follower.waiting) <= BATCH.1 + 2 * LARGE);
    }
    assert_eq!(followed, all.rows);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_runs_with_long_statuses_is_bounded_in_bytes_and_goes_on_without_loss() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let node = node(&gate, &folder.path().join("workflow.db")).await;
    let reads = node.reads();
    for number in 0..12 {
        let run = run(&node, "says", &format!("r{number}"), ()).await;
        node.result(&run).await.unwrap();
    }
    let (mut sizes, mut listed, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let filter =
            RunFilter { after, limit: 101, bytes_max: Some(10_000), ..RunFilter::default() };
        let held = HeldBlocks { runs: Default::default() };
        let RunPage { runs, next, counts } = reads.runs(filter, held, 100).await.unwrap();
        assert_eq!(counts.is_some(), after.is_none(), "they are on the first page");
        sizes.push(runs.len());
        listed.extend(runs.into_iter().map(|run| run.id.to_string()));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [3, 3, 3, 3]);
    let newest_first: Vec<String> = (0..12).rev().map(|number| format!("r{number}")).collect();
    assert_eq!(listed, newest_first);
    node.shutdown().await.unwrap();
}
