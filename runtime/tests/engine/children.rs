//! Children by name: a name that nobody registered, and a parent that waits for a blocked child.

use std::time::Duration;

use tidemill::{App, Ctx, Result, RunId, RunResult, StartRequest};
use tidemill_model::{BlockReasonKind, OpId};

use crate::common::{Place, fsck, soon, sql, until};

const HOUR: Duration = Duration::from_secs(3_600);

/// A child of a name that only some deployments know, with a step of its own before it.
async fn parent(ctx: Ctx, name: String) -> Result<u32> {
    ctx.run("first", async || Result::<_>::Ok(())).await?;
    Ok(ctx.child::<u32, _, _, _>(&name, 20).await?)
}

async fn grandparent(ctx: Ctx, name: String) -> Result<u32> {
    Ok(ctx.child::<u32, _, _, _>("parent", name).await?)
}

async fn square(_: Ctx, n: u32) -> Result<u32> {
    Ok(n * n)
}

async fn slow(ctx: Ctx, n: u32) -> Result<u32> {
    ctx.sleep(HOUR).await?;
    Ok(n)
}

/// A child of its own workflow, by its function, until nothing is left to do.
async fn countdown(ctx: Ctx, n: u32) -> Result<u32> {
    match n.checked_sub(1) {
        Some(less) => Ok(n + ctx.child(countdown, less).await?),
        None => Ok(0),
    }
}

fn app(version: &str) -> App {
    App::new("t")
        .version(version)
        .workflow("parent", parent)
        .workflow("grandparent", grandparent)
        .workflow("square", square)
}

#[tokio::test]
async fn a_name_that_is_not_registered_blocks_the_parent_until_it_is() {
    let place = Place::new();
    let node = place.open(app("1")).await;
    let request = StartRequest::new("parent", "sqaure").unwrap().id("p");
    let run = node.start_request(request).await.unwrap().id;
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else {
        panic!("it is not blocked");
    };
    assert_eq!(reason.kind, BlockReasonKind::UnknownWorkflow);
    assert_eq!(reason.op.map(OpId::get), Some(2));
    assert!(reason.asked.unwrap().contains("`sqaure`"));
    assert!(reason.advice.contains("did you mean `square`?"), "{}", reason.advice);
    let children = "SELECT count(*) FROM events WHERE kind = 'child_started' OR run = 'p.2'";
    assert_eq!(sql::<u32>(&place, children), 0, "nothing of the child is recorded");
    let done = "SELECT count(*) FROM events WHERE kind = 'step_completed'";
    assert_eq!(sql::<u32>(&place, done), 1, "what came before is");
    // The same process cannot do better.
    node.resume(&run).await.unwrap();
    assert!(matches!(soon(node.result(&run)).await.unwrap(), RunResult::Blocked(_)));
    node.shutdown().await.unwrap();

    let node = place.open(app("2").workflow("sqaure", square)).await;
    let ended = soon(node.result(&run)).await.unwrap();
    assert_eq!(ended.output::<u32>().unwrap(), 400);
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    let version = "SELECT data ->> '$.app_version' FROM events \
                   WHERE run = 'p.2' AND kind = 'run_created'";
    assert_eq!(sql::<String>(&place, version), "2", "that of the program that started it");
    fsck(&place);
}

#[tokio::test]
async fn a_workflow_starts_itself_as_a_child_by_its_function() {
    let place = Place::new();
    let node = place.open(App::new("t").workflow("countdown", countdown)).await;
    let run = node.start(countdown, 4).id("c").await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 10);
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    let runs = "SELECT group_concat(run, ' ') FROM (SELECT run FROM runs ORDER BY length(run))";
    assert_eq!(sql::<String>(&place, runs), "c c.1 c.1.1 c.1.1.1 c.1.1.1.1");
    fsck(&place);
}

#[tokio::test]
async fn a_parent_that_waits_for_a_blocked_child_goes_on_waiting_and_says_so() {
    let place = Place::new();
    let node = place.open(app("1").workflow("slow", slow)).await;
    let request = StartRequest::new("grandparent", "slow").unwrap().id("g");
    let run = node.start_request(request).await.unwrap().id;
    let waiting = "SELECT count(*) FROM runs WHERE status = 'suspended'";
    until(|| sql::<u32>(&place, waiting) == 3).await;
    assert_eq!(node.waits_for(&run).await.unwrap(), None);
    node.shutdown().await.unwrap();

    // The act is recorded: that the name is gone blocks the child, not its parents.
    let node = place.open(app("2")).await;
    let grandchild = RunId::new("g.1.2").unwrap();
    let ended = soon(node.result(&grandchild)).await.unwrap();
    assert!(matches!(ended, RunResult::Blocked(_)), "{ended:?}");
    let blocked = "SELECT group_concat(run) FROM runs WHERE status = 'blocked'";
    assert_eq!(sql::<String>(&place, blocked), "g.1.2");
    for waiting in ["g", "g.1"] {
        let waits = node.waits_for(&RunId::new(waiting).unwrap()).await.unwrap().unwrap();
        assert_eq!(waits.run.as_str(), "g.1.2", "{waiting}");
        assert_eq!(waits.reason.kind, BlockReasonKind::UnknownWorkflow);
    }
    assert_eq!(node.waits_for(&grandchild).await.unwrap(), None);
    let suspended = "SELECT count(*) FROM runs WHERE status = 'suspended'";
    assert_eq!(sql::<u32>(&place, suspended), 2, "they keep their status");
    node.shutdown().await.unwrap();
    fsck(&place);
}
