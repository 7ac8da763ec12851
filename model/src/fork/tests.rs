//! Forks of written and of generated logs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::event::{Event, EventClass};
use crate::event_data::{Durability, ForkSignals, Requester, RunCreated, Seed};
use crate::failure::{Failure, FailureKind};
use crate::json::Json;
use crate::name::{OpName, RunId};
use crate::position::Seq;
use crate::run_state::RunState;
use crate::signal::Signal;
use crate::time::Timestamp;
use crate::{Error, ErrorKind};

pub(super) fn op(id: u32) -> OpId {
    OpId::new(id).unwrap()
}

pub(super) fn name(op: OpId) -> OpName {
    OpName::new(&format!("op{op}")).unwrap()
}

pub(super) fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn failure(message: &str) -> Failure {
    Failure { kind: FailureKind::Failed, message: message.to_owned(), chain: Vec::new() }
}

pub(super) fn created() -> Event {
    Event::RunCreated(Box::new(RunCreated {
        workflow: OpName::new("w").unwrap(),
        input: json("1"),
        labels: BTreeMap::new(),
        seed: Seed::from_random([1; 16]),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".into(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }))
}

pub(super) fn step(id: u32) -> Event {
    let input = Json::of(&id).unwrap();
    Event::StepStarted { op: op(id), name: name(op(id)), queued: false, input }
}

pub(super) fn done(id: u32) -> Event {
    let output = Json::of(&(id * 10)).unwrap();
    Event::StepCompleted { op: op(id), name: name(op(id)), output }
}

pub(super) fn failed(id: u32, message: &str) -> Event {
    Event::StepFailed { op: op(id), name: name(op(id)), error: failure(message), attempts: 1 }
}

pub(super) fn run_failed(message: &str) -> Event {
    Event::RunFailed { error: failure(message), terminated: false }
}

pub(super) fn numbered(events: &[Event]) -> Vec<(Seq, &Event)> {
    let mut seq = Seq::ZERO;
    let mut number = |event| {
        seq = seq.next();
        (seq, event)
    };
    events.iter().map(&mut number).collect()
}

pub(super) fn who() -> ForkAs {
    ForkAs {
        from: RunId::new("old").unwrap(),
        id: RunId::new("new").unwrap(),
        seed: Seed::from_random([2; 16]),
        app_version: "2".into(),
        requester: Some(Requester::default()),
    }
}

/// The fork at a place, whose events fold.
fn fork_at(events: &[Event], at: &str, choices: &ForkChoices) -> Result<Fork, Error> {
    let log = numbered(events);
    let log = ForkLog::of(&log)?;
    let cut = log.cut_at(&at.parse()?)?;
    let fork = log.fork(&cut, &who(), choices)?;
    folded(&fork);
    Ok(fork)
}

fn retried(events: &[Event]) -> Result<Fork, Error> {
    let log = numbered(events);
    let log = ForkLog::of(&log)?;
    let fork = log.fork(&log.cut_to_retry()?, &who(), &ForkChoices::default())?;
    folded(&fork);
    Ok(fork)
}

fn folded(fork: &Fork) -> RunState {
    let at = Timestamp::from_micros(1).unwrap();
    let first = Event::RunCreated(Box::new(fork.created.clone()));
    let mut seq = Seq::ZERO.next();
    let mut state = RunState::create(&who().id, seq, at, &first).unwrap();
    for event in &fork.events {
        seq = seq.next();
        state.apply(seq, at, event).unwrap_or_else(|e| panic!("{event:?}: {e}"));
    }
    state
}

/// The events of a fork in short.
fn short(fork: &Fork) -> Vec<String> {
    let short = |event: &Event| match event {
        Event::OpHeld { op, end, .. } => format!("{op} held {}", end.kind()),
        Event::StepStarted { op, queued: true, .. } => format!("{op} step_started queued"),
        Event::ChildStarted { op, child, .. } => format!("{op} child_started {child}"),
        Event::SpawnStarted { op, run, .. } => format!("{op} spawn_started {run}"),
        Event::SignalReceived(signal) => format!("signal {} `{}`", signal.number, signal.name),
        Event::SignalDelivered { op, number, .. } => format!("{op} given {number}"),
        event => match event.op() {
            Some(op) => format!("{op} {}", event.kind()),
            None => event.kind().to_string(),
        },
    };
    fork.events.iter().map(short).collect()
}

fn ops(listed: &ForkedOps) -> Vec<u32> {
    listed.first.iter().map(|listed| listed.op.get()).collect()
}

/// argo#16921, dbos-java#211: what was paid is not paid again.
#[test]
fn of_a_fan_out_whose_third_fails_only_the_third_begins_again() {
    let mut events = vec![created(), Event::RunStarted { epoch: None, attempt: 1 }];
    events.extend((1..=5).map(step));
    events.extend([done(2), failed(3, "declined"), done(1), done(5), done(4)]);
    events.push(run_failed("`op3` failed: declined"));
    let fork = retried(&events).unwrap();
    let expected = [
        "1 step_started",
        "2 step_started",
        "3 step_started queued",
        "4 step_started",
        "5 step_started",
        "2 step_completed",
        "1 held step_completed",
        "5 held step_completed",
        "4 held step_completed",
        "run_forked",
    ];
    assert_eq!(short(&fork), expected);
    assert_eq!((ops(&fork.outlook.again), ops(&fork.outlook.carried)), (vec![3], vec![1, 4, 5]));
    let forked = fork.created.forked.as_ref().unwrap();
    assert_eq!((forked.from.as_str(), forked.seq), ("old", Seq::new(9).unwrap()));
    assert_eq!(fork.created.seed, Seed::from_random([1; 16]));
    assert_eq!(fork.created.own_seed(), Seed::from_random([2; 16]));
}

#[test]
fn a_retry_is_about_the_failure_that_the_runs_error_names() {
    let begins = |events: &[Event], error: &str| {
        let mut all = vec![created()];
        all.extend_from_slice(events);
        all.push(run_failed(error));
        ops(&retried(&all).unwrap().outlook.again)
    };
    // A failure that the code handled stays history.
    let handled = [step(1), failed(1, "a"), step(2), failed(2, "b"), step(3), done(3)];
    assert_eq!(begins(&handled, "`op2` failed: b"), [2]);
    // Wrapped so that no word is left: the last one.
    assert_eq!(begins(&handled, "no luck"), [2]);
    // Side by side, both failed, and the error is about the later one.
    let both = [step(1), step(2), failed(1, "a"), failed(2, "b")];
    assert_eq!(begins(&both, "`op2` failed: b"), [1, 2]);
    assert_eq!(begins(&both, "`op1` failed: a"), [1, 2]);
    // One after the other, and the error names both.
    let in_turn = [step(1), failed(1, "a"), step(2), failed(2, "b")];
    assert_eq!(begins(&in_turn, "`op1` failed: a; `op2` failed: b"), [1]);
    // No step failed: the code goes on with what it had.
    assert_eq!(begins(&[step(1), done(1)], "no luck"), [0_u32; 0]);
}

#[test]
fn a_retry_of_a_run_without_a_failure_is_refused_with_advice() {
    let refused = |last: &[Event]| {
        let mut events = vec![created(), step(1), done(1)];
        events.extend_from_slice(last);
        let error = retried(&events).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        error.to_string()
    };
    assert!(refused(&[Event::RunCompleted { output: Json::null() }]).contains("--at STEP"));
    assert!(refused(&[]).contains("has not ended"));
}

#[test]
fn a_run_that_a_person_ended_goes_on_from_before_that() {
    let requester = Requester::default();
    let held = Event::CancelHeld { requester: requester.clone() };
    let error = Failure { kind: FailureKind::Cancelled, ..failure("it was terminated") };
    let end = Event::RunFailed { error: error.clone(), terminated: true };
    let terminated =
        [created(), step(1), done(1), step(2), held, Event::OpDropped { op: op(2) }, end];
    let fork = retried(&terminated).unwrap();
    assert_eq!(
        short(&fork),
        ["1 step_started", "1 step_completed", "2 step_started queued", "run_forked"]
    );
    let asked = Event::CancelRequested { requester, resolves: BTreeMap::from([(op(2), 0)]) };
    let end = Event::RunFailed { error, terminated: false };
    let cancelled = [created(), step(1), done(1), step(2), asked, end];
    let fork = retried(&cancelled).unwrap();
    assert_eq!((ops(&fork.outlook.again), fork.outlook.cancelling), (vec![2], false));
}

#[test]
fn a_cut_at_the_start_of_a_step_keeps_what_the_code_had_seen() {
    // The second is what the code does when the first has failed.
    let events = [created(), step(1), step(4), failed(1, "a"), step(2), done(2), done(4)];
    let fork = fork_at(&events, "op2:start", &ForkChoices::default()).unwrap();
    let expected = [
        "1 step_started",
        "4 step_started",
        "1 held step_failed",
        "4 held step_completed",
        "run_forked",
    ];
    assert_eq!(short(&fork), expected);
    assert_eq!(ops(&fork.outlook.after), [2]);
    let first = fork_at(&events, "4:start", &ForkChoices::default()).unwrap();
    assert_eq!(short(&first), [""; 0]);
    assert_eq!(first.created.seed, who().seed, "nothing of the other run's is history");
}

#[test]
fn what_a_person_did_by_hand_is_held_in_its_place() {
    let events = [created(), step(1), step(2), step(3), failed(1, "a"), done(2)];
    let set = |text: &str| ForkChoices {
        set: BTreeMap::from([(text.to_owned(), json("7"))]),
        ..ForkChoices::default()
    };
    let fork = fork_at(&events, "1", &set("op1")).unwrap();
    let expected = [
        "1 step_started queued",
        "2 step_started",
        "3 step_started queued",
        "1 held step_completed",
        "2 held step_completed",
        "run_forked",
    ];
    assert_eq!(short(&fork), expected);
    assert_eq!(fork.created.forked.unwrap().set, BTreeMap::from([(op(1), json("7"))]));
    let fork = fork_at(&events, "1", &set("3")).unwrap();
    assert_eq!(short(&fork)[3..], ["2 held step_completed", "3 held step_completed", "run_forked"]);
    let refused = |at, text| fork_at(&events, at, &set(text)).unwrap_err();
    assert_eq!(refused("2", "op1").kind(), ErrorKind::Conflict, "it ended before");
    assert_eq!(refused("0", "op1").kind(), ErrorKind::Conflict, "it starts after");
    assert_eq!(refused("1", "op9").kind(), ErrorKind::NotFound);
}

#[test]
fn another_input_is_for_a_fork_at_the_beginning() {
    let events = [created(), step(1), done(1)];
    let choices = ForkChoices { input: Some(json("2")), ..ForkChoices::default() };
    assert_eq!(fork_at(&events, "0", &choices).unwrap().created.input, json("2"));
    assert_eq!(fork_at(&events, "op1", &choices).unwrap_err().kind(), ErrorKind::Invalid);
}

/// dbos-py#624: children ran again, or dangled.
#[test]
fn a_child_is_kept_by_its_result_or_begins_anew_under_the_forks_id() {
    let child = |id: u32| Event::ChildStarted {
        op: op(id),
        name: name(op(id)),
        child: RunId::new(&format!("old.{id}")).unwrap(),
        input: Json::null(),
        outlives_parent: id == 3,
    };
    let ended =
        |id: u32| Event::ChildCompleted { op: op(id), name: name(op(id)), output: Json::null() };
    let events = [created(), child(1), child(2), child(3), step(4), ended(1), done(4), ended(2)];
    let fork = fork_at(&events, "op4", &ForkChoices::default()).unwrap();
    let expected = [
        "1 child_started old.1",
        "2 child_started old.2",
        "3 child_started new.3",
        "4 step_started queued",
        "1 child_completed",
        "2 held child_completed",
        "run_forked",
    ];
    assert_eq!(short(&fork), expected);
    let anew: Vec<_> = fork.children.iter().map(|child| (child.id.as_str(), child.op)).collect();
    assert_eq!(fork.children[0].tie, ForkTie::Child { outlives_parent: true });
    assert_eq!(anew, [("new.3", op(3))]);
}

#[test]
fn signals_come_with_the_fork_as_it_is_asked() {
    let signal = |number| {
        let (name, value) = (OpName::new("go").unwrap(), Json::null());
        Event::SignalReceived(Box::new(Signal { number, name, value, key: None, by: None }))
    };
    let go = OpName::new("go").unwrap();
    let events = [
        created(),
        signal(1),
        signal(2),
        Event::SignalStarted { op: op(1), name: go.clone() },
        Event::SignalDelivered { op: op(1), name: go.clone(), number: 2 },
        Event::SignalTaken { op: op(1), name: go },
        step(2),
        done(2),
        signal(3),
    ];
    let with = |at, signals| {
        let fork =
            fork_at(&events, at, &ForkChoices { signals, ..ForkChoices::default() }).unwrap();
        let short = short(&fork).into_iter();
        short
            .filter(|event| event.contains("signal ") || event.contains("given"))
            .collect::<Vec<_>>()
    };
    assert_eq!(with("2", ForkSignals::None), ["signal 1 `go`", "1 given 1"]);
    assert_eq!(with("2", ForkSignals::Before), ["signal 1 `go`", "signal 2 `go`", "1 given 2"]);
    let all = ["signal 1 `go`", "signal 2 `go`", "1 given 2", "signal 3 `go`"];
    assert_eq!(with("2", ForkSignals::All), all);
    assert_eq!(with("go", ForkSignals::Before), ["signal 1 `go`", "signal 2 `go`"]);
    assert_eq!(with("go", ForkSignals::None), [""; 0]);
}

#[test]
fn a_place_is_named_by_a_name_that_is_the_only_one_or_by_a_number() {
    let twice = |id| Event::StepStarted {
        op: op(id),
        name: OpName::new("pay:start").unwrap(),
        queued: false,
        input: Json::null(),
    };
    let ended = |id| Event::StepCompleted {
        op: op(id),
        name: OpName::new("pay:start").unwrap(),
        output: Json::null(),
    };
    let events = [created(), twice(1), ended(1), twice(2), ended(2), step(3)];
    let error = |at: &str| fork_at(&events, at, &ForkChoices::default()).unwrap_err().to_string();
    assert!(error("pay:start").contains("1, 2"), "{}", error("pay:start"));
    assert!(error("nobody").contains("nobody"));
    assert!(error("op3").contains("3:start"));
    assert_eq!(short(&fork_at(&events, "2:start", &ForkChoices::default()).unwrap()).len(), 3);
}

fn spawned(id: u32) -> RunId {
    RunId::new(&format!("old.{id}")).unwrap()
}

/// What was started before the cut is there; only what begins again gets an id of the fork.
#[test]
fn a_run_that_was_spawned_before_the_cut_is_not_started_anew() {
    let spawn = |id: u32| {
        let (op, name) = (op(id), name(op(id)));
        Event::SpawnStarted { op, name, run: spawned(id), input: Json::null() }
    };
    let ended =
        |id: u32| Event::SpawnCompleted { op: op(id), name: name(op(id)), run: spawned(id) };
    let taken = |id: u32| {
        let (op, name, error) = (op(id), name(op(id)), failure("taken"));
        Event::SpawnFailed { op, name, error }
    };
    let events = [
        created(),
        step(1),
        spawn(2),
        spawn(3),
        spawn(4),
        spawn(5),
        ended(2),
        done(1),
        ended(3),
        taken(4),
    ];
    let fork = fork_at(&events, "op1", &ForkChoices::default()).unwrap();
    let expected = [
        "1 step_started queued",
        "2 spawn_started old.2",
        "3 spawn_started old.3",
        "4 spawn_started new.4",
        "5 spawn_started old.5",
        "2 spawn_completed",
        "3 held spawn_completed",
        "run_forked",
    ];
    assert_eq!(short(&fork), expected);
    let anew = |fork: &Fork| -> Vec<_> {
        fork.children.iter().map(|it| (it.id.to_string(), it.tie)).collect()
    };
    assert_eq!(anew(&fork), [("new.4".to_owned(), ForkTie::Spawned)]);
    let fork = fork_at(&events, "op3", &ForkChoices::default()).unwrap();
    assert_eq!(anew(&fork)[0].0, "new.3", "the one that is named begins again");
    let set = ForkChoices { set: [("op3".to_owned(), json("1"))].into(), ..Default::default() };
    assert_eq!(fork_at(&events, "op1", &set).unwrap_err().kind(), ErrorKind::Conflict);
}

/// An event that may or may not fit.
pub(super) fn candidate() -> impl Strategy<Value = Event> {
    (0_u8..17, 1_u32..7, 1_u32..4).prop_map(|(kind, id, number)| {
        let (op, name, go) = (op(id), name(op(id)), OpName::new("go").unwrap());
        let (output, at) = (Json::null(), Timestamp::from_micros(9).unwrap());
        match kind {
            0 | 1 => step(id),
            2 => Event::TimerStarted { op, name, fire_at: at },
            3 => {
                let child = RunId::new(&format!("old.{id}")).unwrap();
                Event::ChildStarted { op, name, child, input: output, outlives_parent: false }
            }
            4 => Event::SignalStarted { op, name: go },
            5 => done(id),
            6 => failed(id, "no"),
            7 => Event::TimerFired { op, name },
            8 => Event::ChildCompleted { op, name, output },
            9 => Event::OpDropped { op },
            10 => {
                let end = Box::new(done(id));
                Event::OpHeld { op, name, attempt: Some(1), end }
            }
            11 => Event::StepRestarted { op, name, attempt: number, after: None, queued: false },
            12 => Event::SignalDelivered { op, name: go, number },
            13 => Event::SpawnStarted { op, name, run: spawned(id), input: output },
            14 => Event::SpawnCompleted { op, name, run: spawned(id) },
            15 => Event::SpawnFailed { op, name, error: failure("taken") },
            _ => Event::SignalReceived(Box::new(Signal {
                number,
                name: go,
                value: Json::null(),
                key: None,
                by: None,
            })),
        }
    })
}

/// The candidates that fit one after another.
pub(super) fn fitting(candidates: Vec<Event>) -> Vec<Event> {
    let at = Timestamp::from_micros(1).unwrap();
    let mut events = vec![created()];
    let mut seq = Seq::ZERO.next();
    let mut state = RunState::create(&who().id, seq, at, &events[0]).unwrap();
    for event in candidates {
        if state.apply(seq.next(), at, &event).is_ok() {
            seq = seq.next();
            events.push(event);
        }
    }
    events
}

fn observed(events: &[Event]) -> Vec<(String, Option<OpId>)> {
    let kept = events.iter().filter(|event| event.class() != EventClass::Aside);
    kept.map(|event| (event.kind().to_string(), event.op())).collect()
}

proptest! {
    #[test]
    fn a_fork_at_any_input_folds_and_begins_nothing_again_that_it_carries(
        candidates in prop::collection::vec(candidate(), 0..60),
        signals in prop_oneof![
            Just(ForkSignals::None), Just(ForkSignals::Before), Just(ForkSignals::All)
        ],
    ) {
        let events = fitting(candidates);
        let numbered = numbered(&events);
        let log = ForkLog::of(&numbered).unwrap();
        for place in 1..=events.len() {
            let choices = ForkChoices { signals, ..ForkChoices::default() };
            let fork = log.fork(&Cut::before(place), &who(), &choices).unwrap();
            let state = folded(&fork);
            let marked = matches!(fork.events.last(), Some(Event::RunForked { .. }));
            prop_assert_eq!(marked, place > 1);
            prop_assert_eq!(observed(&fork.events), observed(&events[1..place]));
            for (op, open) in state.ops.iter().filter(|(_, op)| op.is_open()) {
                let paid = log.ops[op].has_output();
                prop_assert_eq!(open.held.is_some(), paid, "operation {}", op);
                if !paid && !open.attempts.is_empty() {
                    prop_assert_eq!(open.attempts.len(), 1);
                    prop_assert_eq!(open.attempts[0].started_at, None);
                }
            }
        }
    }
}
