//! Children with an id and labels of their own.

use tidemill_model::{BlockReasonKind, RunId};

use super::place::text;
use super::prefixes::{fsck, soon};
use crate::{App, Ctx, Node, Result, RunResult, StartRequest};

async fn double(_: Ctx, n: u64) -> Result<u64> {
    Ok(n * 2)
}

async fn sleeps(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(std::time::Duration::from_secs(3_600)).await?)
}

/// Starts children of the ids that it is given.
async fn parent(ctx: Ctx, ids: Vec<String>) -> Result<u64> {
    let mut sum = 0;
    for (number, id) in (1..).zip(ids) {
        sum += ctx.child(double, number).id(&id).label("kind", "trial").label("n", "1").await?;
    }
    Ok(sum)
}

async fn many_labels(ctx: Ctx, (): ()) -> Result<u64> {
    let child = ctx.child(double, 1);
    Ok((0..33).fold(child, |child, n| child.label(&format!("label-{n}"), "x")).await?)
}

fn app() -> App {
    App::new("t")
        .workflow("double", double)
        .workflow("sleeps", sleeps)
        .workflow("parent", parent)
        .workflow("many", many_labels)
}

async fn ended(node: &Node, id: &str, ids: &[&str]) -> RunResult {
    let request = StartRequest::new("parent", ids).unwrap().id(id);
    let run = node.start_request(request).await.unwrap().id;
    soon(node.result(&run)).await.unwrap()
}

#[tokio::test]
async fn a_child_has_the_id_and_the_labels_that_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    let long = "x".repeat(128);
    let sum = ended(&node, "p", &["trial-1", "trial-2", &long]).await.output::<u64>().unwrap();
    assert_eq!(sum, 12);
    let child =
        "SELECT parent || ' ' || parent_op || ' ' || labels FROM runs WHERE run = 'trial-2'";
    assert_eq!(text(&path, child), r#"p 2 {"kind":"trial","n":"1"}"#);
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(&path);
}

/// An id that another run has, of whatever origin, is an error that the code can handle.
#[tokio::test]
async fn a_child_whose_id_is_taken_fails_and_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    let taken = StartRequest::new("sleeps", ()).unwrap().id("mine");
    node.start_request(taken).await.unwrap();
    for (id, ids) in [("p", ["mine", "a"]), ("q", ["twice", "twice"])] {
        let RunResult::Failed(failure) = ended(&node, id, &ids).await else { panic!("{id}") };
        assert!(failure.message.contains("already, which this call did not start"), "{failure}");
    }
    let mine = "SELECT status || ' ' || coalesce(parent, 'nobody') FROM runs WHERE run = 'mine'";
    assert_eq!(text(&path, mine), "suspended nobody");
    node.shutdown().await.unwrap();
    fsck(&path);
}

#[tokio::test]
async fn an_id_or_labels_that_cannot_be_block_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().open(&path).await.unwrap();
    for (id, wrong) in [("p", ""), ("q", "a/b"), ("r", &*"x".repeat(129))] {
        let RunResult::Blocked(reason) = ended(&node, id, &[wrong]).await else { panic!("{id}") };
        assert_eq!(reason.kind, BlockReasonKind::Misuse, "{reason}");
        assert!(reason.asked.unwrap().contains("a child with an"), "{id}");
    }
    let run = node.start_request(StartRequest::new("many", ()).unwrap()).await.unwrap().id;
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert_eq!(reason.kind, BlockReasonKind::Limit, "{reason}");
    node.shutdown().await.unwrap();
    fsck(&path);
}

/// The id is what the run did: other code does not continue it, and says both.
#[tokio::test]
async fn code_that_gives_a_child_another_id_is_found_out() {
    async fn old(ctx: Ctx, (): ()) -> Result<()> {
        Ok(ctx.child(sleeps, ()).id("old").await?)
    }
    async fn new(ctx: Ctx, (): ()) -> Result<()> {
        Ok(ctx.child(sleeps, ()).id("new").await?)
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = app().workflow("w", old).open(&path).await.unwrap();
    let run = node.start_request(StartRequest::new("w", ()).unwrap()).await.unwrap().id;
    let started = "SELECT CAST(count(*) AS TEXT) FROM timers";
    soon(async {
        while text(&path, started) != "1" {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
    node.shutdown().await.unwrap();
    let node = app().workflow("w", new).open(&path).await.unwrap();
    let report = node.check(&run).await.unwrap();
    let reason = report.divergence.expect("it differs");
    assert_eq!(reason.kind, BlockReasonKind::Nondeterminism);
    assert_eq!(text(&path, "SELECT status FROM runs WHERE run = 'old'"), "suspended");
    assert!(node.result(&RunId::new("new").unwrap()).await.is_err(), "nothing was started");
    node.shutdown().await.unwrap();
    fsck(&path);
}
