//! Spawned runs: nothing that becomes of the run that started one reaches it, and it is started once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidemill_eventlog::{open_reader, query};
use tidemill_model::{BlockReasonKind, FailureKind, PruneRequest, Retention, RunId, Seq};

use super::place::{Place, kinds, place, text, until};
use super::prefixes::{fsck, soon, write_prefix};
use crate::engine::recovery::Instruments;
use crate::testing::TestApp;
use crate::{
    App, Ctx, Environment, ErrorKind, ForkRequest, Node, Requester, Result, RunResult,
    StartRequest, Step,
};

const LONG: Duration = Duration::from_secs(86_400);

/// How many mails were sent.
type Sent = Arc<AtomicU32>;

async fn send(step: Step, to: String) -> Result<usize> {
    step.state::<Sent>().fetch_add(1, Ordering::Relaxed);
    Ok(to.len())
}

/// Waits for a word, and then sends a mail.
async fn mail(ctx: Ctx, to: String) -> Result<usize> {
    ctx.signal::<bool>("go").await?;
    Ok(ctx.step("send", send, to).await?)
}

async fn mail_at_once(ctx: Ctx, to: String) -> Result<usize> {
    ctx.sleep(Duration::from_millis(5)).await?;
    Ok(ctx.step("send", send, to).await?)
}

/// Spawns a mail and then does what it is told.
async fn order(ctx: Ctx, then: String) -> Result<RunId> {
    let id = ctx.spawn(mail, "ada".to_owned()).label("kind", "mail").await?;
    match then.as_str() {
        "waits" => ctx.sleep(LONG).await?,
        "fails" => return Err("sold out".into()),
        _ => {}
    }
    Ok(id)
}

/// Starts a spawn and drops it at once.
async fn careless(ctx: Ctx, (): ()) -> Result<()> {
    drop(ctx.spawn("mail", "ada").start());
    Ok(())
}

/// Spawns a mail of an id that it is given.
async fn named(ctx: Ctx, id: String) -> Result<String> {
    match ctx.spawn(mail, "ben".to_owned()).id(&id).await {
        Ok(id) => Ok(id.to_string()),
        Err(error) => Ok(format!("{error}")),
    }
}

/// Once cancelled, spawns one thing outside a clean-up and one in it.
async fn undoes(ctx: Ctx, (): ()) -> Result<RunId> {
    let waited = ctx.sleep(LONG).await;
    let outside = ctx.spawn("mail", "nobody").await.unwrap_err();
    assert_eq!(outside.kind(), FailureKind::Cancelled);
    let told = ctx.cleanup(|ctx| async move { ctx.spawn("mail", "ada").await }).await?;
    waited?;
    Ok(told)
}

fn app(sent: &Sent) -> App {
    App::new("t")
        .state(Arc::clone(sent))
        .unload_after(Duration::ZERO)
        .workflow("mail", mail)
        .workflow("at_once", mail_at_once)
        .workflow("order", order)
        .workflow("careless", careless)
        .workflow("named", named)
        .workflow("undoes", undoes)
}

async fn start(node: &Node, workflow: &str, input: serde_json::Value, id: &str) -> RunId {
    let request = StartRequest::new(workflow, input).unwrap().id(id);
    node.start_request(request).await.unwrap().id
}

async fn close(node: Node, path: &Path) {
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(path);
}

/// Lets a spawned mail go out; it went out this once.
async fn goes_out(node: &Node, id: &str, sent: &Sent) {
    let before = sent.load(Ordering::Relaxed);
    let run = RunId::new(id).unwrap();
    node.signal(&run, crate::SignalRequest::new("go", true).unwrap()).await.unwrap();
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<usize>().unwrap(), 3);
    assert_eq!(sent.load(Ordering::Relaxed), before + 1);
}

/// Temporal's `ABANDON` with a parent that closes too early starts nothing (sdk-java#1049, and a trap of
/// every SDK): here the start is in the commit of the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_the_run_that_spawned_it_a_run_goes_on() {
    let (Place { path, .. }, sent) = (&place(), Sent::default());
    let node = app(&sent).open(path).await.unwrap();
    for (id, then) in [("done", "ends"), ("bad", "fails"), ("gone", "waits"), ("shot", "waits")] {
        let run = start(&node, "order", then.into(), id).await;
        let spawned = format!("SELECT count(*) || '' FROM runs WHERE run = '{id}.1'");
        until(|| text(path, &spawned) == "1").await;
        let by = || Requester::default().by("a test");
        match id {
            "gone" => drop(node.cancel(&run, by()).await.unwrap()),
            "shot" => drop(node.terminate(&run, by()).await.unwrap()),
            _ => {}
        }
        drop(soon(node.result(&run)).await.unwrap());
        let tie = format!(
            "SELECT coalesce(r.parent, 'nobody') || ' ' || r.labels || ' ' || \
             (e.data ->> '$.spawned_by.run') || ' ' || (e.data ->> '$.spawned_by.op') \
             FROM tidemill_runs r JOIN events e ON e.seq = r.seq WHERE r.run = '{id}.1'"
        );
        assert_eq!(text(path, &tie), format!(r#"nobody {{"kind":"mail"}} {id} 1"#));
    }
    close(node, path).await;
    let node = app(&sent).open(path).await.unwrap();
    for id in ["done.1", "bad.1", "gone.1", "shot.1"] {
        goes_out(&node, id, &sent).await;
    }
    close(node, path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawn_that_is_started_and_dropped_starts_its_run() {
    let (Place { path, .. }, sent) = (&place(), Sent::default());
    let node = app(&sent).open(path).await.unwrap();
    let run = start(&node, "careless", serde_json::Value::Null, "r").await;
    soon(node.result(&run)).await.unwrap().output::<()>().unwrap();
    let wanted = ["run_created", "run_started", "spawn_started", "op_dropped", "run_completed"];
    assert_eq!(kinds(path, "r"), wanted);
    goes_out(&node, "r.1", &sent).await;
    close(node, path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_spawns_only_in_its_clean_up() {
    let (Place { path, .. }, sent) = (&place(), Sent::default());
    let node = app(&sent).open(path).await.unwrap();
    let run = start(&node, "undoes", serde_json::Value::Null, "r").await;
    until(|| kinds(path, "r").iter().any(|kind| kind == "timer_started")).await;
    node.cancel(&run, Requester::default()).await.unwrap();
    let RunResult::Failed(failure) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert_eq!(failure.kind, FailureKind::Cancelled);
    let count = "SELECT count(*) || '' FROM runs WHERE workflow = 'mail'";
    assert_eq!(text(path, count), "1");
    goes_out(&node, "r.3", &sent).await;
    close(node, path).await;
}

/// The error says what is there, also to a process that takes the run up before it was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_is_taken_is_an_error_that_says_what_is_there() {
    let (Place { path, .. }, sent) = (&place(), Sent::default());
    let node = app(&sent).open(path).await.unwrap();
    start(&node, "mail", "cyn".into(), "taken").await;
    let run = start(&node, "named", "taken".into(), "r").await;
    let said = soon(node.result(&run)).await.unwrap().output::<String>().unwrap();
    for part in ["`taken` already", "did not start", "workflow `mail`", "suspended"] {
        assert!(said.contains(part), "{said}");
    }
    let free = start(&node, "named", "free".into(), "s").await;
    assert_eq!(soon(node.result(&free)).await.unwrap().output::<String>().unwrap(), "free");
    close(node, path).await;
    let held = ["run_created", "run_started", "spawn_started", "op_held"];
    assert_eq!(kinds(path, "r")[..4], held);
    // A process that dies right after that commit.
    let rows = query::events(&open_reader(path).unwrap(), None, Seq::ZERO, u32::MAX).unwrap();
    let upto = rows.iter().position(|row| row.kind == "op_held").unwrap();
    let copy = place();
    write_prefix(&copy.path, &rows[..=upto]);
    let node = app(&sent).open(&copy.path).await.unwrap();
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<String>().unwrap(), said);
    close(node, &copy.path).await;
}

/// The log alone says that the run was created, so it may have ended and left the file since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawn_whose_run_has_left_the_file_has_succeeded() {
    let (Place { path, .. }, sent) = (&place(), Sent::default());
    let node = app(&sent).open(path).await.unwrap();
    let run = start(&node, "named", "free".into(), "r").await;
    drop(soon(node.result(&run)).await.unwrap());
    close(node, path).await;
    let rows = query::events(&open_reader(path).unwrap(), None, Seq::ZERO, u32::MAX).unwrap();
    let upto = rows.iter().position(|row| row.kind == "spawn_started").unwrap();
    let copy = place();
    write_prefix(&copy.path, &rows[..=upto]);
    let node = app(&sent).open(&copy.path).await.unwrap();
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<String>().unwrap(), "free");
    assert_eq!(text(&copy.path, "SELECT count(*) || '' FROM runs"), "1", "it is not started again");
    close(node, &copy.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_nobody_registered_blocks_and_starts_nothing() {
    async fn asks(ctx: Ctx, (): ()) -> Result<RunId> {
        Ok(ctx.spawn("mial", "ada").await?)
    }
    let (Place { path, .. }, sent) = (&place(), Sent::default());
    let node = app(&sent).workflow("asks", asks).open(path).await.unwrap();
    let run = start(&node, "asks", serde_json::Value::Null, "r").await;
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert_eq!(reason.kind, BlockReasonKind::UnknownWorkflow);
    assert!(reason.asked.unwrap().starts_with("a spawned run of workflow `mial`"));
    assert!(reason.advice.contains("`mail`"), "{}", reason.advice);
    close(node, path).await;
}

/// A fork has what was spawned before its cut, and spawns anew under its own ids after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_spawns_nothing_again_that_came_before_its_cut() {
    async fn two(ctx: Ctx, (): ()) -> Result<(RunId, RunId)> {
        let first = ctx.spawn("mail", "ada").await?;
        ctx.run("between", async || Ok(())).await?;
        Ok((first, ctx.spawn("mail", "ben").await?))
    }
    async fn chosen(ctx: Ctx, (): ()) -> Result<RunId> {
        ctx.run("before", async || Ok(())).await?;
        Ok(ctx.spawn("mail", "ada").id("the-one").await?)
    }
    let (Place { path, .. }, sent) = (&place(), Sent::default());
    let app = app(&sent).workflow("two", two).workflow("chosen", chosen);
    let node = app.open(path).await.unwrap();
    for workflow in ["two", "chosen"] {
        let run = start(&node, workflow, serde_json::Value::Null, workflow).await;
        assert!(matches!(soon(node.result(&run)).await.unwrap(), RunResult::Completed(_)));
    }
    let fork = async |from: &str, at: &str, id: &str| {
        let request = ForkRequest::at(at).id(id);
        node.fork(&RunId::new(from).unwrap(), request).await.unwrap();
        soon(node.result(&RunId::new(id).unwrap())).await.unwrap()
    };
    let ids = fork("two", "between", "f").await.output::<(String, String)>().unwrap();
    assert_eq!(ids, ("two.1".into(), "f.3".into()));
    let ids = fork("two", "1", "g").await.output::<(String, String)>().unwrap();
    assert_eq!(ids, ("g.1".into(), "g.3".into()), "the one that is named begins again");
    let tie = "SELECT data ->> '$.spawned_by.run' FROM events WHERE run = 'g.1' LIMIT 1";
    assert_eq!(text(path, tie), "g");
    let RunResult::Failed(failure) = fork("chosen", "before", "h").await else { panic!() };
    assert!(failure.message.contains("a run `the-one` already"), "{failure}");
    // One whose id was taken begins again under the fork's id, and has nothing of who has the other.
    let stranger = StartRequest::new("mail", "cyn").unwrap().id("taken").label("of", "cyn");
    node.start_request(stranger).await.unwrap();
    let run = start(&node, "named", "taken".into(), "k").await;
    drop(soon(node.result(&run)).await.unwrap());
    assert_eq!(fork("k", "1", "l").await.output::<String>().unwrap(), "l.1");
    assert_eq!(text(path, "SELECT labels FROM runs WHERE run = 'l.1'"), "{}");
    close(node, path).await;
}

/// A run that was spawned is a family of its own: neither keeps the other in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_spawned_a_run_may_leave_before_it() {
    let (Place { path, .. }, sent) = (&place(), Sent::default());
    let node = app(&sent).open(path).await.unwrap();
    let run = start(&node, "order", "ends".into(), "r").await;
    drop(soon(node.result(&run)).await.unwrap());
    close(node, path).await;
    let instruments = Instruments::default();
    instruments.clock.step_wall(2 * 3_600_000_000);
    let environment = Environment::alone(path);
    let node = Node::open_with(app(&sent), environment, instruments).await.unwrap();
    let keep = Retention::new(vec!["1h".parse().unwrap()]).unwrap();
    let request = PruneRequest { keep: Some(keep), dry_run: false };
    let report = soon(node.prune(request, Duration::from_secs(3_600))).await.unwrap();
    assert_eq!(report.runs, 1, "{report:?}");
    assert_eq!(node.result(&run).await.unwrap_err().kind(), ErrorKind::NotFound);
    goes_out(&node, "r.1", &sent).await;
    close(node, path).await;
}

#[tokio::test]
async fn a_spawned_run_does_its_work_once_whatever_commit_a_crash_is_at() {
    async fn orders(ctx: Ctx, (): ()) -> Result<Vec<RunId>> {
        let first = ctx.spawn("at_once", "ada").start();
        let second = ctx.spawn("at_once", "ben").id("chosen").await?;
        ctx.step("send", send, "cyn".to_owned()).await?;
        Ok(vec![first.await?, second])
    }
    let sent = Sent::default();
    let app = TestApp::new(move || app(&sent).workflow("orders", orders));
    let report = app.crash_everywhere(orders, ()).await.unwrap();
    assert!(report.commits >= 6, "{report:?}");
}
