//! The writer from outside: group commit, refused starts, a full disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, Node, Result, StartRequest, Step};

async fn nothing(_: Step, n: u32) -> Result<u32> {
    Ok(n)
}

/// Starts a number of runs of `chain` at once, and waits for them.
async fn many(node: &Node, runs: u32, steps: u32) {
    let runs = (0..runs).map(|_| {
        let node = node.clone();
        tokio::spawn(async move {
            let run = node.start_request(StartRequest::new("chain", steps).unwrap()).await.unwrap();
            soon(node.result(&run.id)).await.unwrap().output::<u32>().unwrap()
        })
    });
    for ended in join_all(runs).await {
        assert_eq!(ended.unwrap(), steps);
    }
}

async fn chain(ctx: Ctx, steps: u32) -> Result<u32> {
    for n in 0..steps {
        ctx.step("nothing", nothing, n).await?;
    }
    Ok(steps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequential_step_takes_one_commit_and_256_runs_share_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let instruments = Instruments::default();
    let app = App::new("t").workflow("chain", chain);
    let environment = Environment::alone(&path);
    let node = Node::open_with(app, environment, instruments.clone()).await.unwrap();
    let commits = || instruments.faults.counts().0;

    let run = node.start_request(StartRequest::new("chain", 100).unwrap()).await.unwrap();
    soon(node.result(&run.id)).await.unwrap().output::<u32>().unwrap();
    // One for the start, one for the first turn, one for each end of a step.
    assert_eq!(commits(), 102);

    many(&node, 256, 10).await;
    let shared = commits() - 102;
    assert!(shared < 256 * 12 / 4, "256 runs of 12 turns took {shared} commits");
    node.shutdown().await.unwrap();
    fsck(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_were_answered_together_share_the_next_commit_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let instruments = Instruments::default();
    #[expect(clippy::disallowed_methods, reason = "it stands for a disk")]
    instruments.faults.watch(|| std::thread::sleep(Duration::from_millis(400)));
    let app = App::new("t").workflow("chain", chain);
    let environment = Environment::alone(&path);
    let node = Node::open_with(app, environment, instruments.clone()).await.unwrap();
    many(&node, 32, 8).await;
    // 10 rounds. If the first to come back had a commit of its own, there would be two in each.
    let commits = instruments.faults.counts().0;
    assert!(commits < 15, "10 rounds took {commits} commits");
    node.shutdown().await.unwrap();
    fsck(&path);
}

async fn blocking_chain(ctx: Ctx, steps: u32) -> Result<u32> {
    for n in 0..steps {
        ctx.step("nothing", nothing, n).blocking().await?;
    }
    Ok(steps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_blocking_steps_begin_many_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let instruments = Instruments::default();
    // A commit is long against a body that does nothing, on any disk.
    #[expect(clippy::disallowed_methods, reason = "it stands for a disk")]
    instruments.faults.watch(|| std::thread::sleep(Duration::from_millis(2)));
    let app = App::new("t").workflow("chain", blocking_chain);
    let environment = Environment::alone(&path);
    let node = Node::open_with(app, environment, instruments.clone()).await.unwrap();
    many(&node, 256, 10).await;
    // A thread that waited for its own record would begin one attempt a commit.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let commits = usize::try_from(instruments.faults.counts().0).unwrap();
    assert!(commits < 2560 / threads / 4, "2560 attempts on {threads} threads: {commits} commits");
    node.shutdown().await.unwrap();
    fsck(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_could_not_be_written_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let instruments = Instruments::default();
    instruments.faults.fail([1]);
    let app = App::new("t").workflow("chain", chain);
    let environment = Environment::alone(&path);
    let node = Node::open_with(app, environment, instruments.clone()).await.unwrap();
    let node = Arc::new(node);
    let request = || StartRequest::new("chain", 1).unwrap().id("r");
    let refused = node.start_request(request()).await.unwrap_err();
    assert_eq!(refused.kind(), crate::ErrorKind::Unavailable);
    let missing = node.result(&"r".parse().unwrap()).await.unwrap_err();
    assert_eq!(missing.kind(), crate::ErrorKind::NotFound);
    let started = node.start_request(request()).await.unwrap();
    assert!(!started.existing);
    soon(node.result(&started.id)).await.unwrap().output::<u32>().unwrap();
    node.shutdown().await.unwrap();
    fsck(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_is_new_and_loses_nothing_that_runs() {
    async fn large(step: Step, n: usize) -> Result<String> {
        step.state::<Arc<AtomicU32>>().fetch_add(1, Ordering::SeqCst);
        Ok("x".repeat(n))
    }
    async fn hoard(ctx: Ctx, steps: usize) -> Result<usize> {
        let mut bytes = 0;
        for _ in 0..steps {
            bytes += ctx.step("large", large, 20_000).await?.len();
        }
        Ok(bytes)
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let (instruments, bodies) = (Instruments::default(), Arc::new(AtomicU32::new(0)));
    let app = App::new("t").state(Arc::clone(&bodies)).workflow("hoard", hoard);
    let environment = Environment::alone(&path);
    let node = Node::open_with(app, environment, instruments.clone()).await.unwrap();
    instruments.faults.limit_pages(100);
    let run = node.start_request(StartRequest::new("hoard", 60).unwrap()).await.unwrap();
    let mut accepted = vec![run.id.clone()];
    let refused = loop {
        match node.start_request(StartRequest::new("hoard", 0).unwrap()).await {
            Ok(started) => accepted.push(started.id),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), crate::ErrorKind::Unavailable);
    assert!(refused.to_string().starts_with("the disk is full"), "{refused}");
    fsck(&path);
    instruments.faults.limit_pages(1_000_000);
    assert_eq!(soon(node.result(&run.id)).await.unwrap().output::<usize>().unwrap(), 1_200_000);
    for run in accepted {
        soon(node.result(&run)).await.unwrap().output::<usize>().unwrap();
    }
    assert_eq!(bodies.load(Ordering::SeqCst), 60, "no body ran again");
    node.shutdown().await.unwrap();
    fsck(&path);
}
