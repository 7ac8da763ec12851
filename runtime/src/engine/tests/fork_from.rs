//! Forks of runs that are elsewhere: parked until a person resumes them, made once, and paid once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidemill_eventlog::{open_reader, query};
use tidemill_model::{
    Event, ForkFromRequest, ForkOrigin, ForkSource, OpId, RunId, RunStatus, Seq, Timestamp,
};

use super::crashes::crashed;
use super::fork::{World, app, close, ended, items, output, start};
use super::place::{kinds, place, text, until};
use super::prefixes::fsck;
use super::program::{self, Ledger, program};
use crate::{
    App, ErrorKind, ForkRequest, ForkSignals, Node, Requester, Result, RunResult, SignalRequest,
    StartRequest,
};

/// A run of a file as it was up to an event; `None` for all of it.
fn then(path: &Path, run: &str, until: Option<Seq>) -> ForkSource {
    let file = open_reader(path).unwrap();
    let run: RunId = run.parse().unwrap();
    let rows = query::events(&file, Some(&run), Seq::ZERO, u32::MAX).unwrap();
    let rows: Vec<_> =
        rows.into_iter().filter(|row| until.is_none_or(|it| row.seq <= it)).collect();
    let mut given = BTreeMap::new();
    for row in &rows {
        if let Ok(
            Event::ChildStarted { op, child: run, .. } | Event::SpawnStarted { op, run, .. },
        ) = row.event()
        {
            given.insert(run.clone(), query::terms(&file, &run, op).unwrap());
        }
    }
    let origin = ForkOrigin {
        source: "s3://bucket/fleet/n1@e1:2a".to_owned(),
        node: Some("n1".parse().unwrap()),
        epoch: None,
        seq: rows.last().unwrap().seq,
        at: Timestamp::from_micros(1).unwrap(),
        taken: None,
    };
    let events = rows.into_iter().map(tidemill_eventlog::Row::into_view).collect();
    ForkSource { run, origin, exact_from: Some(Seq::ZERO), given, events }
}

fn asked(source: ForkSource, fork: ForkRequest) -> ForkFromRequest {
    ForkFromRequest { source, fork, start: false }
}

fn id(text: &str) -> RunId {
    text.parse().unwrap()
}

async fn status(node: &Node, run: &str) -> RunStatus {
    node.engine().store.reads().state(&id(run)).await.unwrap().unwrap().0.status
}

async fn refused(node: &Node, asked: ForkFromRequest) -> (ErrorKind, String) {
    let error = node.fork_from(asked).await.unwrap_err();
    (error.kind(), error.to_string())
}

/// The file of a node on which the third of twenty items could not be paid; the node is gone.
async fn failed_elsewhere() -> super::place::Place {
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).open(&place.path).await.unwrap();
    world.breaks("item3");
    let run = start(&node, "fan_out", items(20)).await;
    assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    close(node, &place.path).await;
    place
}

#[tokio::test]
async fn nothing_of_it_runs_until_it_is_resumed_and_then_only_what_begins_again() {
    let (there, here, world) = (failed_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    let request = asked(then(&there.path, "r", None), ForkRequest::retry().id("f").by("ada"));
    let outlook = node.fork_from_outlook(request.clone()).await.unwrap();
    assert_eq!(outlook.again.first[0].op, OpId::new(3).unwrap());
    assert_eq!(outlook.again.count, 1);
    assert_eq!(kinds(&here.path, "f"), [""; 0], "a dry run writes nothing");
    let made = node.fork_from(request.clone()).await.unwrap();
    assert_eq!((made.existing, &made.outlook), (false, &outlook));
    assert_eq!(status(&node, "f").await, RunStatus::Blocked);
    let again = node.fork_from(request.clone()).await.unwrap();
    assert_eq!((again.existing, again.seq), (true, made.seq));
    close(node, &here.path).await;

    // Every start leaves it alone.
    let node = app(&world).open(&here.path).await.unwrap();
    let other = start(&node, "fan_out", items(1)).await;
    ended(&node, &other).await;
    assert_eq!(world.take(), ["item1"]);
    assert_eq!(status(&node, "f").await, RunStatus::Blocked);
    node.resume(&id("f")).await.unwrap();
    assert_eq!(output::<usize>(&node, &id("f")).await, 20);
    assert_eq!(world.take(), ["item3"]);
    assert!(node.check(&id("f")).await.unwrap().divergence.is_none());
    assert!(node.fork_from(request).await.unwrap().existing, "also when it has ended");
    let forked = "SELECT data ->> '$.forked.origin.node' FROM events WHERE run = 'f' AND kind = 'run_created'";
    assert_eq!(text(&here.path, forked), "n1");
    close(node, &here.path).await;
}

#[tokio::test]
async fn one_that_is_to_start_goes_on_at_once() {
    let (there, here, world) = (failed_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    let request = asked(then(&there.path, "r", None), ForkRequest::retry().id("f"));
    node.fork_from(ForkFromRequest { start: true, ..request }).await.unwrap();
    assert_eq!(output::<usize>(&node, &id("f")).await, 20);
    assert_eq!(world.take(), ["item3"]);
    close(node, &here.path).await;
}

/// What was paid after the moment is not in it: the same request for another moment is another fork.
#[tokio::test]
async fn an_id_is_of_one_moment_and_of_one_origin() {
    let (there, here, world) = (failed_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    let newest = then(&there.path, "r", None);
    let earlier = |count: usize| {
        let is_paid = |it: &&tidemill_model::EventView| it.kind == "step_completed";
        let seq = newest.events.iter().filter(is_paid).nth(count).unwrap().seq;
        then(&there.path, "r", Some(seq))
    };
    let first = newest.events.iter().find(|it| it.kind == "step_completed").unwrap().op.unwrap();
    let fork = || ForkRequest::at(&first.to_string()).id("f");
    let at_once = node.fork_from(asked(earlier(4), fork())).await.unwrap();
    assert!(!at_once.existing);
    let (kind, said) = refused(&node, asked(earlier(9), fork())).await;
    assert!(kind == ErrorKind::Conflict && said.contains("or history"), "{said}");
    assert!(node.fork_from(asked(earlier(4), fork())).await.unwrap().existing);
    let mut elsewhere = earlier(4);
    elsewhere.origin.node = Some("n9".parse().unwrap());
    assert_eq!(refused(&node, asked(elsewhere, fork())).await.0, ErrorKind::Conflict);
    let mut of_a_later_look = earlier(4);
    of_a_later_look.origin.source = "s3://bucket/fleet/n1@e1:2b".to_owned();
    assert!(node.fork_from(asked(of_a_later_look, fork())).await.unwrap().existing);

    // The run's own id, in a node that has another run of that id.
    let other = start(&node, "fan_out", items(1)).await;
    ended(&node, &other).await;
    let own = ForkRequest::at("0").id("r");
    assert_eq!(refused(&node, asked(newest.clone(), own)).await.0, ErrorKind::Conflict);
    let of_here = node.fork(&other, ForkRequest::at("0").id("g")).await.unwrap();
    ended(&node, &of_here.id).await;
    let same_id = asked(newest, ForkRequest::at("0").id("g"));
    assert_eq!(refused(&node, same_id).await.0, ErrorKind::Conflict);
    close(node, &here.path).await;
}

#[tokio::test]
async fn what_this_program_cannot_make_is_refused_before_anything_is_written() {
    let (there, here) = (failed_elsewhere().await, place());
    let node = App::new("t").open(&here.path).await.unwrap();
    let newest = then(&there.path, "r", None);
    let (kind, said) = refused(&node, asked(newest.clone(), ForkRequest::retry())).await;
    assert!(kind == ErrorKind::NotFound && said.contains("no workflow `fan_out`"), "{said}");
    node.shutdown().await.unwrap();
    let world = Arc::<World>::default();
    let node = app(&world).open(&here.path).await.unwrap();
    let unfit = ForkRequest::at("0").input("text").unwrap();
    assert_eq!(refused(&node, asked(newest.clone(), unfit)).await.0, ErrorKind::Invalid);
    let mut torn = newest.clone();
    torn.events.remove(5);
    let (kind, said) = refused(&node, asked(torn, ForkRequest::retry())).await;
    assert!(kind == ErrorKind::Conflict && said.contains("event "), "{said}");
    let nowhere = ForkRequest::at("refund");
    assert_eq!(refused(&node, asked(newest, nowhere)).await.0, ErrorKind::NotFound);
    assert_eq!(text(&here.path, "SELECT count(*) || '' FROM runs"), "0");
    close(node, &here.path).await;
}

/// The code decides in the end: a history that folds and that it could not have written blocks the fork.
#[tokio::test]
async fn a_history_that_the_code_did_not_write_blocks_the_fork() {
    let (there, here, world) = (failed_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    let mut forged = then(&there.path, "r", None);
    for event in forged.events.iter_mut().filter(|it| it.op == Some(OpId::new(1).unwrap())) {
        event.name = Some("refund".to_owned());
    }
    node.fork_from(asked(forged, ForkRequest::at("3").id("f"))).await.unwrap();
    node.resume(&id("f")).await.unwrap();
    let RunResult::Blocked(reason) = ended(&node, &id("f")).await else { panic!("it went on") };
    assert!(reason.to_string().contains("refund"), "{reason}");
    assert_eq!(world.take(), [""; 0]);
    close(node, &here.path).await;
}

/// The file of a node on which the first of two children failed.
async fn parent_elsewhere() -> super::place::Place {
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).open(&place.path).await.unwrap();
    world.breaks("a");
    let run = start(&node, "parent", ()).await;
    assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    close(node, &place.path).await;
    place
}

#[tokio::test]
async fn children_that_begin_anew_are_parked_with_it_and_go_on_with_it() {
    let (there, here, world) = (parent_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    // Another run of this node has the id that the failed child has elsewhere.
    let stranger = StartRequest::new("child", "stranger").unwrap().id("r-chosen");
    ended(&node, &node.start_request(stranger).await.unwrap().id).await;
    world.take();
    let request = asked(then(&there.path, "r", None), ForkRequest::retry().id("f"));
    let made = node.fork_from(request).await.unwrap();
    assert!(made.outlook.again.count >= 1);
    assert_eq!(kinds(&here.path, "f.1"), ["run_created", "run_blocked"]);
    let labels = "SELECT labels FROM runs WHERE run = 'f.1' AND parent = 'f'";
    assert_eq!(text(&here.path, labels), r#"{"kind":"first"}"#);
    close(node, &here.path).await;

    let node = app(&world).open(&here.path).await.unwrap();
    assert_eq!(world.take(), [""; 0]);
    node.resume(&id("f")).await.unwrap();
    assert_eq!(output::<Vec<String>>(&node, &id("f")).await, ["a", "b", "c"]);
    let paid: BTreeSet<String> = world.take().into_iter().collect();
    assert!(paid.contains("a") && paid.contains("c") && !paid.contains("stranger"), "{paid:?}");
    close(node, &here.path).await;
}

/// The process dies when the children are resumed and the fork is not.
#[tokio::test]
async fn a_resume_that_is_cut_off_is_asked_again() {
    let (there, here, world) = (parent_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    let request = asked(then(&there.path, "r", None), ForkRequest::retry().id("f"));
    node.fork_from(request).await.unwrap();
    node.resume(&id("f.1")).await.unwrap();
    ended(&node, &id("f.1")).await;
    let copy = crashed(&here.path, 1);
    close(node, &here.path).await;
    let node = app(&world).open(&copy).await.unwrap();
    assert_eq!(status(&node, "f").await, RunStatus::Blocked);
    node.resume(&id("f")).await.unwrap();
    assert_eq!(output::<Vec<String>>(&node, &id("f")).await, ["a", "b", "c"]);
    assert_eq!(world.take().iter().filter(|paid| *paid == "a").count(), 1);
    close(node, &copy).await;
}

/// A fork is ended by its person without ever having run, and a kept child is nobody's here.
#[tokio::test]
async fn a_parked_fork_can_be_terminated_and_touches_no_run_of_another_id() {
    let (there, here, world) = (parent_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    let waits = StartRequest::new("takes", 1).unwrap().id("r.2");
    let stranger = node.start_request(waits).await.unwrap().id;
    let request = asked(then(&there.path, "r", None), ForkRequest::retry().id("f"));
    node.fork_from(request).await.unwrap();
    let ended_as = node.terminate(&id("f"), Requester::default()).await.unwrap();
    assert_eq!(ended_as, RunStatus::Cancelled);
    until(|| kinds(&here.path, "f.1").contains(&"run_failed".to_owned())).await;
    node.signal(&stranger, SignalRequest::new("go", 1).unwrap()).await.unwrap();
    assert_eq!(output::<Vec<u32>>(&node, &stranger).await, [1]);
    assert_eq!(world.take(), ["taken"]);
    close(node, &here.path).await;
}

/// What its history did is undone, once a person lets it go on; nothing else begins.
#[tokio::test]
async fn a_parked_fork_that_is_cancelled_cleans_up_when_it_is_resumed() {
    let (there, here, world) = (place(), place(), Arc::<World>::default());
    let node = app(&world).open(&there.path).await.unwrap();
    start(&node, "undoes", ()).await;
    until(|| kinds(&there.path, "r").contains(&"timer_started".to_owned())).await;
    close(node, &there.path).await;
    world.take();
    let node = app(&world).open(&here.path).await.unwrap();
    let mut source = then(&there.path, "r", None);
    let failed = source.events.last().unwrap().clone();
    let end = Event::TimerFired { op: failed.op.unwrap(), name: "sleep".parse().unwrap() };
    let columns = end.columns();
    source.events.push(tidemill_model::EventView {
        seq: failed.seq.next(),
        kind: columns.kind.to_owned(),
        name: columns.name.map(str::to_owned),
        data: None,
        ..failed
    });
    node.fork_from(asked(source, ForkRequest::at("2").id("f"))).await.unwrap();
    let asked_to_end = node.cancel(&id("f"), Requester::default()).await.unwrap();
    assert_eq!(asked_to_end, RunStatus::Blocked, "it is parked");
    close(node, &here.path).await;
    let node = app(&world).open(&here.path).await.unwrap();
    assert_eq!(status(&node, "f").await, RunStatus::Blocked);
    node.resume(&id("f")).await.unwrap();
    assert!(matches!(ended(&node, &id("f")).await, RunResult::Failed(_)));
    assert_eq!(world.take(), ["undo"]);
    close(node, &here.path).await;
}

#[tokio::test]
async fn a_child_whose_id_is_taken_here_refuses_the_whole_fork() {
    let (there, here, world) = (parent_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    let taken = StartRequest::new("child", "x").unwrap().id("f.1");
    ended(&node, &node.start_request(taken).await.unwrap().id).await;
    let request = asked(then(&there.path, "r", None), ForkRequest::retry().id("f"));
    let (kind, said) = refused(&node, request).await;
    assert!(kind == ErrorKind::Conflict && said.contains("`f.1`"), "{said}");
    assert_eq!(kinds(&here.path, "f"), [""; 0]);
    close(node, &here.path).await;
}

/// A process that dies after the commit leaves a fork that is parked, and whole.
#[tokio::test]
async fn a_process_that_dies_after_the_commit_leaves_a_parked_fork() {
    let (there, here, world) = (parent_elsewhere().await, place(), Arc::<World>::default());
    let node = app(&world).open(&here.path).await.unwrap();
    let request = asked(then(&there.path, "r", None), ForkRequest::retry().id("f"));
    let planned = node.engine().plan_fork_from(request.clone()).await.unwrap();
    planned.write(node.engine()).await;
    let copy = crashed(&here.path, 1);
    close(node, &here.path).await;
    fsck(&copy);
    let node = app(&world).open(&copy).await.unwrap();
    for run in ["f", "f.1"] {
        assert_eq!(status(&node, run).await, RunStatus::Blocked, "{run}");
    }
    assert!(node.fork_from(request).await.unwrap().existing);
    assert_eq!(world.take(), [""; 0]);
    node.resume(&id("f")).await.unwrap();
    assert_eq!(output::<Vec<String>>(&node, &id("f")).await, ["a", "b", "c"]);
    close(node, &copy).await;
}

/// Before the moment, a signal was sent and not taken; after it, another one was. The first comes along.
#[tokio::test]
async fn of_signals_and_timers_the_moment_counts() {
    let (there, here, world) = (place(), place(), Arc::<World>::default());
    let node = app(&world).open(&there.path).await.unwrap();
    let run = start(&node, "takes", 2).await;
    node.signal(&run, SignalRequest::new("go", 1).unwrap()).await.unwrap();
    until(|| kinds(&there.path, "r").contains(&"signal_taken".to_owned())).await;
    let moment = then(&there.path, "r", None);
    node.signal(&run, SignalRequest::new("go", 2).unwrap()).await.unwrap();
    let _: Vec<u32> = output(&node, &run).await;
    close(node, &there.path).await;
    world.take();

    let node = app(&world).open(&here.path).await.unwrap();
    let fork = ForkRequest::at("1").signals(ForkSignals::All).id("f");
    let request = ForkFromRequest { start: true, ..asked(moment, fork) };
    node.fork_from(request).await.unwrap();
    node.signal(&id("f"), SignalRequest::new("go", 7).unwrap()).await.unwrap();
    assert_eq!(output::<Vec<u32>>(&node, &id("f")).await, [1, 7]);
    close(node, &here.path).await;
}

/// Runs a program to its end, and forks it into another node as of some moments.
async fn forks_of(program: &program::Program, places: &[(u16, u8)]) -> usize {
    let (there, here, ledger) = (place(), place(), Arc::<Ledger>::default());
    let node = program::app(&ledger).open(&there.path).await.unwrap();
    let request = StartRequest::new("program", program).unwrap().id("p");
    let run = node.start_request(request).await.unwrap().id;
    let _: u64 = output(&node, &run).await;
    node.shutdown().await.unwrap();
    let node = program::app(&ledger).open(&here.path).await.unwrap();
    let all = then(&there.path, "p", None);
    let mut count = 0;
    for (moment, place) in places {
        ledger.take();
        let until = all.events[usize::from(*moment) % all.events.len()].seq;
        let source = then(&there.path, "p", Some(until));
        let ended = source.events.iter().filter(|it| {
            let kinds = ["step_completed", "step_failed", "timer_fired", "child_completed"];
            kinds.contains(&it.kind.as_str())
        });
        let ended: Vec<OpId> = ended.filter_map(|it| it.op).collect();
        let Some(op) = ended.get(usize::from(*place) % ended.len().max(1)) else { continue };
        let cut = if place % 3 == 0 { format!("{op}:start") } else { op.to_string() };
        let request = asked(source, ForkRequest::at(&cut));
        let start = place % 2 == 0;
        let made = node.fork_from(ForkFromRequest { start, ..request }).await.unwrap();
        if !start {
            assert_eq!(status(&node, made.id.as_str()).await, RunStatus::Blocked);
            assert_eq!(ledger.take(), BTreeMap::new(), "it is parked");
            node.resume(&made.id).await.unwrap();
        }
        let _: u64 = output(&node, &made.id).await;
        let carried: BTreeSet<OpId> = made.outlook.carried.first.iter().map(|it| it.op).collect();
        for ((ran, op, attempt), times) in ledger.take() {
            assert!(ran != made.id || !carried.contains(&op), "step {op} is paid and ran again");
            assert_eq!(times, 1, "attempt {attempt} of step {op} of {ran} ran twice");
        }
        let report = node.check(&made.id).await.unwrap();
        assert!(report.divergence.is_none(), "{report:?}");
        count += 1;
    }
    close(node, &here.path).await;
    count
}

#[test]
fn forks_of_generated_programs_as_of_any_moment_go_on_in_another_node() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 60, max_shrink_iters: 100, ..Config::default() };
    let count = std::cell::Cell::new(0);
    let places = prop::collection::vec((any::<u16>(), any::<u8>()), 1..4);
    TestRunner::new(config)
        .run(&(program(), places), |(program, places)| {
            count.set(count.get() + runtime.block_on(forks_of(&program, &places)));
            Ok(())
        })
        .unwrap();
    assert!(count.get() > 30, "only {} forks", count.get());
    Ok(())
}
