//! Forks: what is paid is not paid again, what begins again is another run's. Traps that others' users
//! fell into are named for where they were reported.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidemill_eventlog::{open_reader, query};
use tidemill_model::{Event, OpId, RunId, Seq};

use super::crashes::crashed;
use super::place::{kinds, place, text, until};
use super::prefixes::{fsck, soon};
use super::program::{self, Ledger, program};
use crate::engine::recovery::Instruments;
use crate::{
    App, Ctx, Environment, ErrorKind, ForkOutlook, ForkRequest, ForkSignals, Node, Requester,
    Result, RunResult, RunStatus, SignalRequest, StartRequest, Step,
};

/// What was paid: a line for each payment, with the key of its step.
#[derive(Debug, Default)]
pub(super) struct World {
    ledger: Mutex<Vec<(String, String)>>,
    /// The items that cannot be paid.
    broken: Mutex<BTreeSet<String>>,
}

impl World {
    pub(super) fn breaks(&self, item: &str) {
        self.broken.lock().unwrap().insert(item.to_owned());
    }

    pub(super) fn mend(&self) {
        self.broken.lock().unwrap().clear();
    }

    /// What was paid since the last look.
    pub(super) fn take(&self) -> Vec<String> {
        self.ledger.lock().unwrap().drain(..).map(|(item, _)| item).collect()
    }

    pub(super) fn is_broken(&self, item: &str) -> bool {
        self.broken.lock().unwrap().contains(item)
    }

    fn keys(&self) -> Vec<String> {
        self.ledger.lock().unwrap().iter().map(|(_, key)| key.clone()).collect()
    }
}

pub(super) async fn pay(step: Step, item: String) -> Result<String> {
    let world = step.state::<Arc<World>>();
    if world.is_broken(&item) {
        return Err("declined".into());
    }
    let paid = (item.clone(), step.idempotency_key());
    world.ledger.lock().unwrap().push(paid);
    Ok(item)
}

/// Pays all items side by side, and fails if one of them could not be paid.
async fn fan_out(ctx: Ctx, items: Vec<String>) -> Result<usize> {
    let paid = join_all(items.into_iter().map(|item| ctx.step("pay", pay, item))).await;
    let mut count = 0;
    for paid in paid {
        paid?;
        count += 1;
    }
    Ok(count)
}

/// Pays one item after another, and notes what the run knows of itself between them.
async fn in_turn(ctx: Ctx, items: Vec<String>) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for item in items {
        let labelled = format!("{item} of {}", ctx.run_id());
        let random = ctx.random();
        ctx.step(&item, pay, labelled).await?;
        seen.push(format!("{} {random}", ctx.run_id()));
    }
    Ok(seen)
}

async fn child(ctx: Ctx, item: String) -> Result<String> {
    Ok(ctx.step("pay", pay, item).await?)
}

/// Two children side by side, then a step, then a third child.
async fn parent(ctx: Ctx, (): ()) -> Result<Vec<String>> {
    let id = format!("{}-chosen", ctx.run_id());
    let first = ctx.child::<String, _, _, _>("child", "a").id(&id).label("kind", "first").start();
    let second = ctx.child::<String, _, _, _>("child", "b").start();
    let (first, second) = (first.await?, second.await?);
    let third = ctx.child::<String, _, _, _>("child", "c").await?;
    Ok(vec![first, second, third])
}

async fn takes(ctx: Ctx, count: usize) -> Result<Vec<u32>> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(ctx.signal::<u32>("go").await?);
    }
    ctx.step("pay", pay, "taken".to_owned()).await?;
    Ok(taken)
}

/// Undoes what it did when it is cancelled.
async fn undoes(ctx: Ctx, (): ()) -> Result<()> {
    ctx.step("do", pay, "do".to_owned()).await?;
    if let Err(error) = ctx.sleep(Duration::from_secs(3_600)).await {
        ctx.cleanup(|ctx| async move { ctx.step("undo", pay, "undo".to_owned()).await }).await?;
        return Err(error.into());
    }
    Ok(())
}

pub(super) fn app(world: &Arc<World>) -> App {
    App::new("t")
        .state(Arc::clone(world))
        .unload_after(Duration::ZERO)
        .workflow("fan_out", fan_out)
        .workflow("in_turn", in_turn)
        .workflow("child", child)
        .workflow("parent", parent)
        .workflow("takes", takes)
        .workflow("undoes", undoes)
}

pub(super) async fn start(node: &Node, workflow: &str, input: impl serde::Serialize) -> RunId {
    let request = StartRequest::new(workflow, input).unwrap().id("r");
    node.start_request(request).await.unwrap().id
}

pub(super) async fn ended(node: &Node, run: &RunId) -> RunResult {
    soon(node.result(run)).await.unwrap()
}

pub(super) async fn output<T: serde::de::DeserializeOwned>(node: &Node, run: &RunId) -> T {
    ended(node, run).await.output().unwrap()
}

pub(super) async fn fork(node: &Node, run: &RunId, request: ForkRequest) -> (RunId, ForkOutlook) {
    let forked = node.fork(run, request).await.unwrap();
    assert!(!forked.existing);
    (forked.id, forked.outlook)
}

async fn refused(node: &Node, run: &RunId, request: ForkRequest) -> (ErrorKind, String) {
    let error = node.fork(run, request.clone()).await.unwrap_err();
    let dry = node.fork_outlook(run, request).await;
    if let Err(dry) = dry {
        assert_eq!(dry.kind(), error.kind(), "a dry run says the same");
    }
    (error.kind(), error.to_string())
}

pub(super) async fn close(node: Node, path: &Path) {
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(path);
}

pub(super) fn items(count: usize) -> Vec<String> {
    (1..=count).map(|item| format!("item{item}")).collect()
}

fn events(path: &Path, run: &str) -> String {
    let sql = "SELECT group_concat(seq || kind || coalesce(data, '')) FROM events WHERE run = '";
    text(path, &format!("{sql}{run}'"))
}

/// A fan-out whose third item fails, while the others succeed.
async fn failed_fan_out(node: &Node, world: &World) -> RunId {
    world.breaks("item3");
    let run = start(node, "fan_out", items(20)).await;
    assert!(matches!(ended(node, &run).await, RunResult::Failed(_)));
    assert_eq!(world.take().len(), 19);
    world.mend();
    run
}

/// dbos-java#211, temporal#1203: what was paid beside the failure is not paid again.
#[tokio::test]
async fn a_retry_pays_only_what_failed_and_leaves_the_run_as_it_is() {
    let (place, world) = (place(), Arc::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = failed_fan_out(&node, &world).await;
    let before = events(&place.path, "r");
    let outlook = node.fork_outlook(&run, ForkRequest::retry()).await.unwrap();
    assert_eq!((outlook.again.count, outlook.after.count), (1, 0));
    assert_eq!(outlook.again.first[0].op, OpId::new(3).unwrap());
    let (fork, made) = fork(&node, &run, ForkRequest::retry()).await;
    assert_eq!(made, outlook, "the dry run says what is done");
    assert_eq!(output::<usize>(&node, &fork).await, 20);
    assert_eq!(world.take(), ["item3"]);
    assert_eq!(events(&place.path, "r"), before, "the run that is forked stays as it is");
    let (kind, said) = refused(&node, &fork, ForkRequest::retry()).await;
    assert_eq!(kind, ErrorKind::Conflict, "{said}");
    close(node, &place.path).await;
}

/// inngest: the id of a run and random values are inputs of steps; both must replay.
#[tokio::test]
async fn before_the_cut_the_code_is_the_other_run_and_after_it_the_fork() {
    let (place, world) = (place(), Arc::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = start(&node, "in_turn", items(4)).await;
    let seen: Vec<String> = output(&node, &run).await;
    let keys = world.keys();
    let (first, outlook) = fork(&node, &run, ForkRequest::at("item3")).await;
    assert_eq!((outlook.again.count, outlook.after.count, outlook.carried.count), (1, 1, 0));
    let forked: Vec<String> = output(&node, &first).await;
    assert_eq!(forked[..2], seen[..2], "history");
    assert!(forked[2].starts_with(first.as_str()), "{forked:?}");
    assert_ne!(forked[3].split(' ').nth(1), seen[3].split(' ').nth(1), "random values are new");
    assert!(world.keys()[4..].iter().all(|key| !keys.contains(key)), "keys are new");
    // Its input was made before the cut, so it is the recorded one.
    let paid = ["item3 of r".to_owned(), format!("item4 of {first}")];
    assert_eq!(world.take()[4..], paid);

    // A fork of the fork, in its own part, and in the part that it has of the other run.
    let (second, _) = fork(&node, &first, ForkRequest::at("item4")).await;
    let again: Vec<String> = output(&node, &second).await;
    assert_eq!(again[..3], forked[..3]);
    assert!(again[3].starts_with(second.as_str()), "{again:?}");
    let (third, _) = fork(&node, &second, ForkRequest::at("item2").id("third")).await;
    let again: Vec<String> = output(&node, &third).await;
    assert_eq!(again[0], seen[0]);
    assert!(again[1..].iter().all(|seen| seen.starts_with("third ")), "{again:?}");
    close(node, &place.path).await;
    let node = app(&world).open(&place.path).await.unwrap();
    for run in [&first, &second, &third] {
        assert!(node.check(run).await.unwrap().divergence.is_none());
    }
    close(node, &place.path).await;
}

#[tokio::test]
async fn a_fork_at_the_beginning_may_have_another_input_and_has_no_history() {
    let (place, world) = (place(), Arc::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = start(&node, "in_turn", items(2)).await;
    let _: Vec<String> = output(&node, &run).await;
    let request = ForkRequest::at("0").input(items(1)).unwrap();
    let (first, _) = fork(&node, &run, request.clone()).await;
    let seen: Vec<String> = output(&node, &first).await;
    assert!(seen.len() == 1 && seen[0].starts_with(first.as_str()), "{seen:?}");
    assert_eq!(
        world.take(),
        ["item1 of r".into(), "item2 of r".into(), format!("item1 of {first}")]
    );
    let unfit = ForkRequest::at("item1:start").input(7).unwrap();
    assert_eq!(refused(&node, &run, unfit).await.0, ErrorKind::Invalid, "no list of items");
    let late = ForkRequest { at: Some("item2".into()), ..request };
    assert!(refused(&node, &run, late).await.1.contains("--at 0"));
    close(node, &place.path).await;
}

/// dbos-py#624: children ran again, or dangled.
#[tokio::test]
async fn children_are_kept_by_result_and_the_one_that_failed_begins_anew() {
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).open(&place.path).await.unwrap();
    world.breaks("a");
    let run = start(&node, "parent", ()).await;
    assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    until(|| world.ledger.lock().unwrap().len() == 1).await;
    world.mend();
    world.take();
    let (fork, outlook) = fork(&node, &run, ForkRequest::retry().id("again")).await;
    assert_eq!(output::<Vec<String>>(&node, &fork).await, ["a", "b", "c"]);
    let paid = world.take();
    // The other one had ended before or after the cut, unless its parent was faster to drop it.
    let is_again = outlook.again.count == 2;
    assert_eq!(paid.contains(&"b".to_owned()), is_again, "{paid:?} {outlook:?}");
    assert!(paid.contains(&"a".to_owned()) && paid.contains(&"c".to_owned()), "{paid:?}");
    let labels = "SELECT labels FROM runs WHERE run = 'again.1' AND parent = 'again'";
    assert_eq!(text(&place.path, labels), r#"{"kind":"first"}"#);
    assert_eq!(kinds(&place.path, "again.3").last().unwrap(), "run_completed");
    close(node, &place.path).await;
}

#[tokio::test]
async fn a_childs_fork_is_detached_and_its_parent_keeps_its_own_child() {
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = start(&node, "parent", ()).await;
    let _: Vec<String> = output(&node, &run).await;
    let (fork, _) = fork(&node, &"r.2".parse().unwrap(), ForkRequest::at("pay")).await;
    assert_eq!(output::<String>(&node, &fork).await, "b");
    let sql = format!("SELECT coalesce(parent, 'none') FROM runs WHERE run = '{fork}'");
    assert_eq!(text(&place.path, &sql), "none");
    close(node, &place.path).await;
}

/// As a start: the same request is the same run, another one under its id is refused.
#[tokio::test]
async fn a_fork_with_an_id_is_made_once() {
    let (place, world) = (place(), Arc::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = failed_fan_out(&node, &world).await;
    let request = ForkRequest::retry().id("f");
    let (made, again) = (node.fork(&run, request.clone()), node.fork(&run, request.clone()));
    let (made, again) = tokio::join!(made, again);
    let existing = [made.unwrap().existing, again.unwrap().existing];
    assert_eq!(existing.iter().filter(|existing| **existing).count(), 1);
    let _: usize = output(&node, &"f".parse().unwrap()).await;
    assert_eq!(world.take(), ["item3"]);
    let set = request.clone().set("3", "by hand").unwrap();
    assert_eq!(refused(&node, &run, set).await.0, ErrorKind::Conflict);
    let other = ForkRequest { at: Some("0".into()), ..request };
    assert_eq!(refused(&node, &run, other).await.0, ErrorKind::Conflict);
    assert_eq!(refused(&node, &run, ForkRequest::at("0").id("r")).await.0, ErrorKind::Conflict);
    let nobody = "nobody".parse().unwrap();
    assert_eq!(refused(&node, &nobody, ForkRequest::retry()).await.0, ErrorKind::NotFound);
    close(node, &place.path).await;
}

/// argo#16921, workflow-core#453: the failed step was done by hand, please go on.
#[tokio::test]
async fn what_a_person_did_by_hand_is_not_done_again() {
    let (place, world) = (place(), Arc::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = failed_fan_out(&node, &world).await;
    let request = ForkRequest::retry().set("3", "by hand").unwrap().by("ada").id("f");
    let (fork, outlook) = fork(&node, &run, request).await;
    assert_eq!((outlook.set.count, outlook.again.count), (1, 0));
    assert_eq!(output::<usize>(&node, &fork).await, 20);
    assert_eq!(world.take(), [""; 0]);
    let sql = "SELECT data FROM events WHERE run = 'f' AND kind = 'run_created'";
    let created = text(&place.path, sql);
    assert!(created.contains(r#""set":{"3":"by hand"},"requester":{"by":"ada"}"#), "{created}");
    close(node, &place.path).await;
}

/// temporal#11042: signals that came after the point are there, if they are asked for.
#[tokio::test]
async fn signals_come_with_the_fork_as_it_is_asked() {
    let (place, world) = (place(), Arc::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = start(&node, "takes", 2).await;
    for value in [1, 2] {
        let signal = SignalRequest::new("go", value).unwrap();
        node.signal(&run, signal.key(&value.to_string())).await.unwrap();
    }
    assert_eq!(output::<Vec<u32>>(&node, &run).await, [1, 2]);
    let second = || ForkRequest::at("2");
    let (all, _) = fork(&node, &run, second().signals(ForkSignals::All)).await;
    assert_eq!(output::<Vec<u32>>(&node, &all).await, [1, 2]);
    let (none, _) = fork(&node, &run, second().signals(ForkSignals::None)).await;
    // It waits: the second signal had not been delivered there. Its key is free.
    let sent = node.signal(&none, SignalRequest::new("go", 7).unwrap().key("2")).await.unwrap();
    assert_eq!((sent.existing, sent.number), (false, 2));
    assert_eq!(output::<Vec<u32>>(&node, &none).await, [1, 7]);
    close(node, &place.path).await;
}

/// A run is only read, so it may be in any state.
#[tokio::test]
async fn a_run_that_is_paused_or_was_asked_to_end_can_be_forked() {
    let (place, world) = (place(), Arc::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = start(&node, "undoes", ()).await;
    until(|| kinds(&place.path, "r").contains(&"timer_started".to_owned())).await;
    node.pause(&run, Requester::default()).await.unwrap();
    let (fork_1, _) = fork(&node, &run, ForkRequest::at("do").id("of-paused")).await;
    until(|| kinds(&place.path, "of-paused").contains(&"timer_started".to_owned())).await;
    assert_eq!(world.take(), ["do", "do"]);
    node.cancel(&run, Requester::default()).await.unwrap();
    assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    assert_eq!(world.take(), ["undo"]);

    // Before the request it goes on, within the clean-up it is cancelling.
    let (goes_on, outlook) = fork(&node, &run, ForkRequest::retry().id("goes-on")).await;
    assert!(!outlook.cancelling);
    until(|| kinds(&place.path, "goes-on").contains(&"run_started".to_owned())).await;
    let (undoes, outlook) = fork(&node, &run, ForkRequest::at("undo")).await;
    assert!(outlook.cancelling);
    let state = node.engine().store.reads().state(&undoes).await.unwrap();
    let status = state.unwrap().0.status;
    assert!(status == RunStatus::Cancelling || status.is_final(), "{status}");
    assert!(matches!(ended(&node, &undoes).await, RunResult::Failed(_)));
    assert_eq!(world.take(), ["undo"]);
    for run in [fork_1, goes_on] {
        node.cancel(&run, Requester::default()).await.unwrap();
        assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    }
    assert_eq!(world.take(), ["undo", "undo"]);
    close(node, &place.path).await;
}

/// What had ended when the fork was made is in it, and what runs begins again there; the run that is
/// forked goes on.
#[tokio::test]
async fn a_run_that_goes_on_can_be_forked_meanwhile() {
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = start(&node, "takes", 2).await;
    node.signal(&run, SignalRequest::new("go", 1).unwrap()).await.unwrap();
    until(|| kinds(&place.path, "r").contains(&"signal_taken".to_owned())).await;
    let (first, outlook) = fork(&node, &run, ForkRequest::at("1")).await;
    assert_eq!((outlook.again.count, outlook.carried.count), (0, 0));
    let (kind, said) = refused(&node, &run, ForkRequest::at("2")).await;
    assert!(kind == ErrorKind::Conflict && said.contains("`2:start`"), "{said}");
    let (second, _) = fork(&node, &run, ForkRequest::at("2:start")).await;
    for (run, value) in [(&run, 2), (&first, 3), (&second, 4)] {
        node.signal(run, SignalRequest::new("go", value).unwrap()).await.unwrap();
        assert_eq!(output::<Vec<u32>>(&node, run).await, [1, value]);
    }
    close(node, &place.path).await;
}

/// A fork that is cancelled before a process took it up has a history to clean up after.
#[tokio::test]
async fn a_fork_that_is_cancelled_at_once_still_undoes_what_its_history_did() {
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = start(&node, "undoes", ()).await;
    until(|| kinds(&place.path, "r").contains(&"timer_started".to_owned())).await;
    node.cancel(&run, Requester::default()).await.unwrap();
    assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    world.take();
    let request = ForkRequest::retry().id("f");
    let planned = node.engine().plan_fork(&run, request).await.unwrap();
    planned.write(node.engine()).await;
    let copy = crashed(&place.path, 1);
    close(node, &place.path).await;
    let node = app(&world).open(&copy).await.unwrap();
    let fork = "f".parse().unwrap();
    node.cancel(&fork, Requester::default()).await.unwrap();
    assert!(matches!(ended(&node, &fork).await, RunResult::Failed(_)));
    assert_eq!(world.take(), ["undo"]);
    close(node, &copy).await;
}

#[tokio::test]
async fn a_run_that_newer_code_blocks_is_forked_before_that() {
    async fn changed(ctx: Ctx, items: Vec<String>) -> Result<Vec<String>> {
        let first = items.first().cloned().unwrap_or_default();
        let _ = ctx.random();
        ctx.step(&first, pay, format!("{first} of {}", ctx.run_id())).await?;
        ctx.step("other", pay, "other".to_owned()).await?;
        Ok(Vec::new())
    }
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).open(&place.path).await.unwrap();
    world.breaks("item3 of r");
    let run = start(&node, "in_turn", items(3)).await;
    assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    close(node, &place.path).await;
    let newer = App::new("t").state(Arc::clone(&world)).workflow("in_turn", changed);
    let node = newer.open(&place.path).await.unwrap();
    let (diverges, _) = fork(&node, &run, ForkRequest::retry()).await;
    assert!(matches!(ended(&node, &diverges).await, RunResult::Blocked(_)));
    world.take();
    let (goes_on, _) = fork(&node, &diverges, ForkRequest::at("item1")).await;
    let _: Vec<String> = output(&node, &goes_on).await;
    assert_eq!(world.take(), ["item1 of r", "other"]);
    close(node, &place.path).await;
}

#[tokio::test]
async fn a_process_that_dies_after_the_commit_leaves_a_fork_that_goes_on() {
    let (place, world) = (place(), Arc::default());
    let node = app(&world).open(&place.path).await.unwrap();
    let run = failed_fan_out(&node, &world).await;
    let planned = node.engine().plan_fork(&run, ForkRequest::retry().id("f")).await.unwrap();
    planned.write(node.engine()).await;
    let copy = crashed(&place.path, 1);
    close(node, &place.path).await;
    fsck(&copy);
    let node = app(&world).open(&copy).await.unwrap();
    assert_eq!(output::<usize>(&node, &"f".parse().unwrap()).await, 20);
    assert_eq!(world.take(), ["item3"]);
    close(node, &copy).await;
}

#[tokio::test]
async fn a_fork_whose_commit_fails_is_not_there_at_all() {
    let (place, world) = (place(), Arc::default());
    let instruments = Instruments::default();
    let environment = Environment::alone(&place.path);
    let node = Node::open_with(app(&world), environment, instruments.clone()).await.unwrap();
    let run = failed_fan_out(&node, &world).await;
    let (commits, _) = instruments.faults.counts();
    instruments.faults.fail([commits + 1]);
    let error = node.fork(&run, ForkRequest::retry().id("f")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(kinds(&place.path, "f"), [""; 0]);
    let (fork, _) = fork(&node, &run, ForkRequest::retry().id("f")).await;
    assert_eq!(output::<usize>(&node, &fork).await, 20);
    assert_eq!(world.take(), ["item3"]);
    close(node, &place.path).await;
}

/// Runs a program to its end, forks it at each of some places, and returns how many forks there were.
async fn forks_of(path: &Path, program: &program::Program, places: &[u8]) -> usize {
    let ledger = Arc::<Ledger>::default();
    let node = program::app(&ledger).open(path).await.unwrap();
    let request = StartRequest::new("program", program).unwrap().id("p");
    let run = node.start_request(request).await.unwrap().id;
    let _: u64 = output(&node, &run).await;
    let mut source = run;
    let mut count = 0;
    for place in places {
        ledger.take();
        let ops = ended_ops(path, &source);
        let Some(op) = ops.get(usize::from(*place) % ops.len().max(1)) else { break };
        let start = if place % 3 == 0 { ":start" } else { "" };
        let request = ForkRequest::at(&format!("{op}{start}"));
        let request = request.signals([ForkSignals::All, ForkSignals::None][count % 2]);
        let (fork, outlook) = fork(&node, &source, request).await;
        let _: u64 = output(&node, &fork).await;
        let carried: BTreeSet<OpId> = outlook.carried.first.iter().map(|it| it.op).collect();
        for ((ran, op, attempt), times) in ledger.take() {
            assert!(ran != fork || !carried.contains(&op), "step {op} is paid and ran again");
            assert_eq!(times, 1, "attempt {attempt} of step {op} of {ran} ran twice");
        }
        let report = node.check(&fork).await.unwrap();
        assert!(report.divergence.is_none(), "{report:?}");
        source = fork;
        count += 1;
    }
    close(node, path).await;
    count
}

/// The operations of a run that ended.
fn ended_ops(path: &Path, run: &RunId) -> Vec<OpId> {
    let rows = query::events(&open_reader(path).unwrap(), Some(run), Seq::ZERO, u32::MAX).unwrap();
    let ended = rows.iter().filter_map(|row| match row.event().unwrap() {
        Event::StepCompleted { op, .. }
        | Event::StepFailed { op, .. }
        | Event::TimerFired { op, .. }
        | Event::ChildCompleted { op, .. }
        | Event::SignalTaken { op, .. }
        | Event::OpDropped { op } => Some(op),
        _ => None,
    });
    ended.collect()
}

#[test]
fn forks_and_forks_of_forks_of_generated_programs_go_on_and_pay_nothing_again() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 60, max_shrink_iters: 100, ..Config::default() };
    let count = std::cell::Cell::new(0);
    let cases = (program(), prop::collection::vec(any::<u8>(), 1..4));
    TestRunner::new(config)
        .run(&cases, |(program, places)| {
            let place = place();
            count.set(count.get() + runtime.block_on(forks_of(&place.path, &program, &places)));
            Ok(())
        })
        .unwrap();
    assert!(count.get() > 30, "only {} forks", count.get());
}
