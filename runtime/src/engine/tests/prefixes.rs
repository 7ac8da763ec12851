//! Every prefix of a log recovers to what live execution was at that point.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidemill_eventlog::promises::PromiseFilter;
use tidemill_eventlog::{
    Appender, Process, Row, create, host, open_reader, open_writer, projection, query,
};
use tidemill_model::{Event, EventClass, FailureKind, OpId, RunId, Seq, StepRecorder, Timestamp};
use tokio::sync::watch;

use super::program::{Ledger, Program, app, program, signal_name};
use crate::engine::asks::Verb;
use crate::engine::cell::Asked;
use crate::engine::clock::Clock;
use crate::engine::inbox::Inbox;
use crate::engine::journal::Journal;
use crate::engine::recovery::Instruments;
use crate::engine::replay::{Divergence, ReplayContext, Replayed};
use crate::error::ErrorKind;
use crate::store::Record;
use crate::{
    AnswerRequest, App, Environment, Node, Requester, RunResult, RunStatus, SignalRequest,
    StartRequest,
};

pub(super) async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it ends in time")
}

/// What happens to a generated run from outside.
#[derive(Debug, Clone)]
struct Fate {
    /// After how many commits the node stops and opens again, up to twelve times; 0 for never.
    stop_after: u64,
    /// After how many commits of its process the run is asked something, and what.
    ask: Option<(u64, Verb)>,
    /// The signals that it is sent: after how many commits of its process, and which.
    signals: Vec<(u64, bool)>,
    /// After how many commits of a process the oldest promise of the file is answered, and whether
    /// with yes.
    answers: Vec<(u64, bool)>,
}

fn fate() -> impl Strategy<Value = Fate> {
    let stops = prop_oneof![1 => Just(0), 2 => 2_u64..9];
    let verb =
        prop_oneof![4 => Just(Verb::Cancel), 1 => Just(Verb::Terminate), 1 => Just(Verb::Pause)];
    let ask = prop::option::of((1_u64..12, verb));
    let signals = prop::collection::vec((0_u64..6, any::<bool>()), 0..5);
    let answers = prop::collection::vec((0_u64..12, prop::bool::weighted(0.8)), 0..8);
    (stops, ask, signals, answers).prop_map(|(stop_after, ask, signals, answers)| Fate {
        stop_after,
        ask,
        signals,
        answers,
    })
}

/// Asks a run something; a paused one is resumed. Whether it could be asked.
async fn ask(node: &Node, run: &RunId, verb: Verb) -> bool {
    let by = Requester::default().by("a test");
    let answer = match verb {
        Verb::Cancel => node.cancel(run, by).await,
        Verb::Terminate => node.terminate(run, by).await,
        Verb::Pause => node.pause(run, by).await,
    };
    match answer {
        Ok(RunStatus::Paused) => {
            node.resume(run).await.unwrap();
            true
        }
        Ok(status) => {
            assert!(status.is_final() || status == RunStatus::Cancelling, "{status}");
            true
        }
        Err(error) => {
            // It has ended, or it is ending and cannot be paused.
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            false
        }
    }
}

/// Sends a run its signals but the first, each once: one that the process before sent has its key.
async fn send(node: &Node, run: &RunId, mut commits: watch::Receiver<u64>, fate: &Fate) {
    for (number, (after, name)) in (0_u64..).zip(&fate.signals).skip(1) {
        commits.wait_for(|commits| commits >= after).await.unwrap();
        match node.signal(run, signal(number, *name)).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "it has ended: {error}"),
        }
    }
    std::future::pending::<()>().await;
}

/// Answers promises, each time the oldest that waits. What is accepted settles it once.
async fn answer(node: &Node, mut commits: watch::Receiver<u64>, fate: &Fate) {
    for (number, (after, yes)) in (0_u64..).zip(&fate.answers) {
        commits.wait_for(|commits| commits >= after).await.unwrap();
        let reads = node.engine().store.reads();
        let open = reads.promises(PromiseFilter::default(), 1).await.unwrap();
        let Some(oldest) = open.first() else { continue };
        let request = match yes {
            true => AnswerRequest::resolve(number),
            false => AnswerRequest::reject("no"),
        };
        let request = request.unwrap().by(&format!("person {number}"));
        match node.answer(&oldest.id, request).await {
            Ok(_) => {}
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unavailable),
                "its time is over, or the node closes: {error}"
            ),
        }
    }
    std::future::pending::<()>().await;
}

fn signal(number: u64, name: bool) -> SignalRequest {
    let signal = SignalRequest::new(signal_name(name), number).unwrap();
    signal.key(&number.to_string())
}

/// Lets a run go on that was paused when the process before ended.
async fn go_on(node: &Node, run: &RunId) {
    if let Err(error) = node.resume(run).await {
        assert_eq!(error.kind(), ErrorKind::Conflict, "it is not paused: {error}");
    }
}

/// Runs a program to its end and returns the whole file's log.
async fn live(folder: &Path, program: &Program, fate: &Fate) -> Vec<Row> {
    let Fate { stop_after, ask: mut to_ask, .. } = *fate;
    let path = folder.join("live.db");
    let ledger = Arc::default();
    let mut request = StartRequest::new("program", program).unwrap().id("p");
    request.signal = fate.signals.first().map(|(_, name)| signal(0, *name));
    for stops in 0.. {
        let (told, mut commits) = watch::channel(0_u64);
        let instruments = Instruments::default();
        instruments.faults.watch(move || told.send_modify(|commits| *commits += 1));
        let environment = Environment::alone(&path);
        let node = Node::open_with(app(&ledger), environment, instruments).await.unwrap();
        let run = node.start_request(request.clone()).await.unwrap();
        go_on(&node, &run.id).await;
        let (mut asked, sends, answers) = (commits.clone(), commits.clone(), commits.clone());
        let asks = async {
            if let Some((after, verb)) = to_ask {
                asked.wait_for(|commits| *commits >= after).await.unwrap();
                ask(&node, &run.id, verb).await;
                to_ask = None;
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            _ = commits.wait_for(|commits| *commits >= stop_after),
                if stop_after > 0 && stops < 12 => false,
            ended = soon(node.result(&run.id)) => {
                has_ended_well(ended.unwrap(), fate);
                true
            }
            () = asks => true,
            () = send(&node, &run.id, sends, fate) => true,
            () = answer(&node, answers, fate) => true,
        };
        node.shutdown().await.unwrap();
        assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
        fsck(&path);
        if ended {
            break;
        }
    }
    for ((run, op, attempt), times) in ledger.take() {
        assert_eq!(times, 1, "attempt {attempt} of step {op} of {run} ran twice");
    }
    for ((run, op), times) in ledger.take_successes() {
        assert_eq!(times, 1, "step {op} of {run} succeeded before a stop and ran again");
    }
    let connection = open_reader(&path).unwrap();
    query::events(&connection, None, Seq::ZERO, u32::MAX).unwrap()
}

/// A program has an output, unless it was asked to end.
fn has_ended_well(ended: RunResult, fate: &Fate) {
    match (ended, fate.ask) {
        (RunResult::Failed(failure), Some((_, Verb::Cancel | Verb::Terminate))) => {
            assert_eq!(failure.kind, FailureKind::Cancelled, "{failure}");
        }
        (ended, _) => drop(ended.output::<u64>().unwrap()),
    }
}

pub(super) fn fsck(path: &Path) {
    let report = tidemill_eventlog::fsck(&open_reader(path).unwrap()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

fn records(rows: &[Row], run: &RunId) -> Vec<Record> {
    let of_run = rows.iter().filter(|row| row.run.as_ref() == Some(run));
    of_run.map(|row| Record { seq: row.seq, ts: row.ts, event: row.event().unwrap() }).collect()
}

fn runs(rows: &[Row]) -> Vec<RunId> {
    let created = rows.iter().filter(|row| row.kind == "run_created");
    created.filter_map(|row| row.run.clone()).collect()
}

/// Replays a prefix, then delivers the inputs that came after it: the run acts as it did live.
fn prefix_goes_on_as_live(app: &App, run: &RunId, log: &[Record], prefix: usize) {
    let (clock, inbox) = (Clock::default(), Arc::new(Inbox::default()));
    let stage = ReplayContext {
        app,
        run,
        clock: &clock,
        inbox: &inbox,
        floats_exact_from: Some(Seq::ZERO),
        polls: None,
    };
    // A replay that yields its thread after each input has the same result.
    let replayed = match prefix % 2 {
        0 => stage.replay(&log[..prefix]),
        _ => stage.begin(&log[..prefix]).map_err(Divergence::from).and_then(|mut replay| {
            loop {
                if let Some(replayed) = replay.deliver(1)? {
                    return Ok(replayed);
                }
            }
        }),
    };
    let Replayed { mut life, asked, .. } =
        replayed.unwrap_or_else(|parted| panic!("prefix {prefix}: {parted:?}"));
    // The times that the cut log no longer has are asked for again and are other ones.
    let known_times = prefix_times(&log[..prefix]) == prefix_times(log);
    let mut expected: Vec<&Event> = Vec::new();
    let events = |asked: Vec<Asked>| asked.into_iter().map(|asked| asked.event).collect();
    let mut got: Vec<Event> = events(asked);
    for Record { event, .. } in &log[prefix..] {
        match event.class() {
            EventClass::Aside => {
                if let Event::SignalReceived(signal) = event {
                    life.keep_signal(signal);
                }
            }
            EventClass::Act => expected.push(event),
            EventClass::Input => {
                compare(&expected, &got, prefix);
                if !known_times {
                    return;
                }
                got = events(life.deliver(event).unwrap());
                expected.clear();
            }
        }
    }
    if known_times && !is_cancelled(log) {
        // A run that has not ended may have been stopped before its last acts were recorded.
        got.truncate(expected.len());
        compare(&expected, &got, prefix);
    }
}

fn is_cancelled(log: &[Record]) -> bool {
    matches!(log.last().map(|r| &r.event), Some(Event::RunFailed { .. }))
}

/// A run is cancelled in one commit, by drops that its code did not ask for: no log ever ends
/// between them and the end that explains them.
fn is_inside_cancelling(log: &[Event], prefix: usize) -> bool {
    let imposed = matches!(
        log.last(),
        Some(Event::RunFailed { error, .. }) if error.kind == FailureKind::Cancelled
    );
    let rest = &log[prefix..];
    let drops_first = matches!(log[prefix - 1], Event::OpDropped { .. });
    let only_drops = rest.split_last().is_some_and(|(_, before)| {
        before.iter().all(|event| matches!(event, Event::OpDropped { .. }))
    });
    imposed && drops_first && only_drops
}

fn prefix_times(log: &[Record]) -> usize {
    log.iter().filter(|record| matches!(record.event, Event::Now { .. })).count()
}

fn compare(expected: &[&Event], got: &[Event], prefix: usize) {
    let shape = |event: &Event| (event.kind(), event.op(), event.name().cloned());
    let expected: Vec<_> = expected.iter().map(|event| shape(event)).collect();
    let got: Vec<_> = got.iter().map(shape).collect();
    assert_eq!(got, expected, "after a prefix of {prefix} events");
}

/// Which attempt of each open step may record something, as the writer reads it from the log.
fn recorders(log: &[Record]) -> BTreeMap<OpId, u32> {
    let mut recorders = BTreeMap::new();
    for Record { event, .. } in log {
        if let Event::CancelRequested { resolves, .. } = event {
            recorders.retain(|op, _| !resolves.contains_key(op));
        }
        match event.op().zip(StepRecorder::after(event)) {
            Some((op, StepRecorder::Attempt(attempt))) => recorders.insert(op, attempt),
            Some((op, StepRecorder::Nobody)) => recorders.remove(&op),
            None => None,
        };
        assert!(
            StepRecorder::after(event).is_none() || StepRecorder::is_told_by(event.kind()),
            "{event:?}"
        );
    }
    recorders
}

/// The newest attempt of each open step whose end is not held, as the journal has it.
fn newest_attempts(journal: &Journal) -> BTreeMap<OpId, u32> {
    let open = journal.open_ops().into_iter().filter_map(|op| Some((op, journal.open(op)?)));
    let open = open.filter(|(_, open)| open.held.is_none());
    open.filter_map(|(op, open)| Some((op, open.attempts.last()?.number))).collect()
}

fn kinds_in(rows: &[Row], kind: &str) -> usize {
    rows.iter().filter(|row| row.kind == kind).count()
}

#[test]
fn every_prefix_replays_to_the_state_that_live_execution_had() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 160, max_shrink_iters: 200, ..Config::default() };
    let mut replays = 0;
    let mut count = |n: usize| replays += n;
    let count = std::cell::RefCell::new(&mut count);
    let (taken, answered) = (std::cell::RefCell::new(0), std::cell::RefCell::new(0));
    let (held, told) = (std::cell::RefCell::new(0), std::cell::RefCell::new(0));
    let spawned = std::cell::RefCell::new(0);
    TestRunner::new(config)
        .run(&(program(), fate()), |(program, fate)| {
            let folder = tempfile::tempdir().unwrap();
            let rows = runtime.block_on(live(folder.path(), &program, &fate));
            *taken.borrow_mut() += kinds_in(&rows, "signal_taken");
            *answered.borrow_mut() += kinds_in(&rows, "promise_resolved");
            *held.borrow_mut() += kinds_in(&rows, "op_held");
            *spawned.borrow_mut() += kinds_in(&rows, "spawn_completed");
            *told.borrow_mut() += kinds_in(&rows, "cancel_requested");
            let app = app(&Arc::default());
            let _context = runtime.enter();
            for run in runs(&rows) {
                let log = records(&rows, &run);
                let events: Vec<Event> = log.iter().map(|record| record.event.clone()).collect();
                for prefix in 1..=log.len() {
                    if is_inside_cancelling(&events, prefix) {
                        continue;
                    }
                    prefix_goes_on_as_live(&app, &run, &log, prefix);
                    let journal = Journal::of(&log[..prefix]).unwrap();
                    assert_eq!(recorders(&log[..prefix]), newest_attempts(&journal), "{prefix}");
                }
                (count.borrow_mut())(log.len());
            }
            Ok(())
        })
        .unwrap();
    assert!(replays > 500, "the programs do something: {replays}");
    assert!(held.into_inner() > 2, "results arrived in stops");
    assert!(told.into_inner() > 2, "runs were cancelled");
    assert!(spawned.into_inner() > 2, "runs were spawned");
    assert!(taken.into_inner() > 2, "signals were taken");
    assert!(answered.into_inner() > 2, "promises were answered");
}

/// Makes a file whose log is a prefix of another file's log.
pub(super) fn write_prefix(path: &Path, rows: &[Row]) {
    create(path).unwrap();
    let connection = open_writer(path, tidemill_eventlog::Checkpoints::Own).unwrap();
    let mut appender = Appender::load(&connection).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    let mut newest = Seq::ZERO;
    for row in rows {
        let event = row.event().unwrap();
        let at = appender.append(&connection, row.ts, row.run.as_ref(), &event).unwrap();
        newest = at.seq;
        projection::project(&connection, at, row.run.as_ref(), &event).unwrap();
    }
    // As the writer does: a child that is dropped in the turn that starts it is created after that.
    for row in rows {
        let Some(run) = &row.run else { continue };
        match row.event().unwrap() {
            Event::OpDropped { op } => projection::await_no_more(&connection, run, Some(op)),
            Event::CancelRequested { resolves, .. } => resolves
                .keys()
                .try_for_each(|op| projection::await_no_more(&connection, run, Some(*op))),
            Event::RunCompleted { .. } | Event::RunFailed { .. } => {
                projection::await_no_more(&connection, run, None)
            }
            _ => Ok(()),
        }
        .unwrap();
    }
    for run in runs(rows) {
        let state = query::run_state(&connection, &run, None).unwrap().unwrap();
        let because = state.status.is_final().then_some(state.last_seq);
        projection::set_status(&connection, &run, state.status, because).unwrap();
    }
    let process = Process {
        boot: host::boot_id().unwrap(),
        epoch: None,
        instance: None,
        clean: false,
        // The crashes in it were under an earlier boot.
        counts_after: newest,
        floats_exact_from: Some(Seq::ZERO),
        ends: Vec::new(),
    };
    process.write(&connection).unwrap();
    connection.execute_batch("COMMIT").unwrap();
}

/// Whether the prefix of a run's log ends between two acts, or between an input and the acts after it,
/// where no commit ends: a turn that is written in parts says so.
fn is_inside_a_turn(log: &[Event], prefix: usize) -> bool {
    let next = log[prefix..].iter().find(|event| event.class() != EventClass::Aside);
    next.is_some_and(|next| next.class() == EventClass::Act)
}

/// A child's creation is in the commit of its parent's act: no file ever ends in between. A run that
/// waits is loaded when what it waits for has come: so no file ends inside one of its turns either.
fn could_be_a_file(rows: &[Row], all: &[Row]) -> bool {
    let known = runs(rows);
    let created_live = runs(all);
    let cut = |run: &RunId| {
        let events = |rows: &[Row]| {
            records(rows, run).into_iter().map(|record| record.event).collect::<Vec<_>>()
        };
        let (all, prefix) = (events(all), events(rows).len());
        is_inside_cancelling(&all, prefix)
            || is_inside_a_turn(&all, prefix) && waits(&all[..prefix])
    };
    if known.iter().any(cut) {
        return false;
    }
    rows.iter().all(|row| match row.event().unwrap() {
        Event::ChildStarted { child, .. } | Event::SpawnStarted { run: child, .. } => {
            known.contains(&child) || !created_live.contains(&child)
        }
        _ => true,
    })
}

/// Whether a process that takes the file up leaves this run to what it waits for.
fn waits(log: &[Event]) -> bool {
    let (seq, at) = (Seq::ZERO.next(), Timestamp::from_micros(0).unwrap());
    let records = log.iter().map(|event| Record { seq, ts: at, event: event.clone() });
    Journal::of(&records.collect::<Vec<_>>()).unwrap().head.status() == RunStatus::Suspended
}

/// The attempts that began, by the log.
fn beginnings(rows: &[Row]) -> Vec<(RunId, OpId, u32)> {
    let began = |row: &Row| {
        let attempt = match row.event().unwrap() {
            Event::StepStarted { queued: false, .. } => 1,
            Event::StepAttemptStarted { attempt, .. }
            | Event::StepRestarted { attempt, queued: false, .. } => attempt,
            _ => return None,
        };
        Some((row.run.clone()?, row.op?, attempt))
    };
    let all: Vec<_> = rows.iter().filter_map(began).collect();
    let once: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(once.len(), all.len(), "no attempt begins twice");
    all
}

/// Recovers a node from a prefix of a file and lets it run to its end.
async fn recovers(folder: &Path, rows: &[Row], fate: &Fate) {
    let path = folder.join(format!("prefix-{}.db", rows.len()));
    write_prefix(&path, rows);
    fsck(&path);
    let ledger = Arc::new(Ledger::default());
    let node: Node = app(&ledger).open(&path).await.unwrap();
    let run = "p".parse().unwrap();
    go_on(&node, &run).await;
    has_ended_well(soon(node.result(&run)).await.unwrap(), fate);
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(&path);
    let done: Vec<_> = rows
        .iter()
        .filter(|row| ["step_completed", "step_failed", "op_held"].contains(&row.kind.as_str()))
        .map(|row| (row.run.clone().unwrap(), row.op.unwrap()))
        .collect();
    let connection = open_reader(&path).unwrap();
    let used = beginnings(rows);
    let all = query::events(&connection, None, Seq::ZERO, u32::MAX).unwrap();
    let told = beginnings(&all);
    for ((run, op, attempt), times) in ledger.take() {
        assert!(!done.contains(&(run.clone(), op)), "step {op} of {run} ran again");
        assert_eq!(times, 1, "attempt {attempt} of step {op} of {run} ran twice");
        let this = (run, op, attempt);
        assert!(!used.contains(&this), "{this:?} began before the crash, too");
        assert!(told.contains(&this), "{this:?} is not in the log");
    }
    for run in runs(&all) {
        let log = crate::store::log::log(&connection, &run).unwrap().unwrap();
        prefix_goes_on_as_live(&app(&ledger), &run, &log, log.len());
    }
}

#[test]
fn a_node_recovers_from_prefixes_of_its_file_and_repeats_no_completed_step() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 40, max_shrink_iters: 50, ..Config::default() };
    TestRunner::new(config)
        .run(&(program(), fate(), any::<u64>()), |(program, fate, pick)| {
            let folder = tempfile::tempdir().unwrap();
            let rows = runtime.block_on(live(folder.path(), &program, &fate));
            let ends: Vec<usize> =
                (2..=rows.len()).filter(|end| could_be_a_file(&rows[..*end], &rows)).collect();
            let pick = usize::try_from(pick % 1_000_003).unwrap();
            let some = ends.iter().skip(pick % 5).step_by(5).take(6);
            runtime.block_on(async {
                futures_util::future::join_all(
                    some.map(|end| recovers(folder.path(), &rows[..*end], &fate)),
                )
                .await;
            });
            Ok(())
        })
        .unwrap();
}
