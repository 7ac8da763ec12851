//! The attempts of a step and what a run does, by scripts: each line of the answer is an open step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::event::Event;
use crate::event_data::{Durability, RunCreated, Seed};
use crate::failure::{Failure, FailureKind};
use crate::json::Json;
use crate::name::{OpName, RunId};
use crate::position::OpId;

fn second(at: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(at).unwrap() * 1_000_000).unwrap()
}

fn seq(at: u64) -> Seq {
    Seq::new(at).unwrap()
}

fn failure() -> Failure {
    Failure { kind: FailureKind::Failed, message: "no".into(), chain: Vec::new() }
}

/// Event `n` of a script stands at seq `n + 1` and second `n + 1`, after the run's creation.
fn fold(events: &[Event]) -> RunState {
    let created = Event::RunCreated(Box::new(RunCreated {
        workflow: OpName::new("w").unwrap(),
        input: Json::null(),
        labels: BTreeMap::new(),
        seed: Seed::from_random([0; 16]),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".into(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }));
    let id = RunId::new("r").unwrap();
    let mut state = RunState::create(&id, seq(1), second(1), &created).unwrap();
    for (at, event) in (2..).zip(events) {
        state.apply(seq(at), second(at), event).unwrap();
    }
    state
}

fn op() -> (OpId, OpName) {
    (OpId::FIRST, OpName::new("s").unwrap())
}

fn started(queued: bool) -> Event {
    let (op, name) = op();
    Event::StepStarted { op, name, input: Json::null(), queued }
}

fn begun(attempt: u32) -> Event {
    let (op, name) = op();
    Event::StepAttemptStarted { op, name, attempt }
}

fn failed(attempt: u32, next_at: u64, of: Option<u32>) -> Event {
    let (op, name) = op();
    let next_at = second(next_at);
    Event::StepAttemptFailed { op, name, attempt, error: failure(), next_at, of }
}

fn restarted(attempt: u32, after: Option<ProcessEnd>, queued: bool) -> Event {
    let (op, name) = op();
    Event::StepRestarted { op, name, attempt, after, queued }
}

fn checkpoint(attempt: u32) -> Event {
    let (op, name) = op();
    Event::Checkpoint { op, name, attempt, value: Json::null() }
}

fn completed() -> Event {
    let (op, name) = op();
    Event::StepCompleted { op, name, output: Json::null() }
}

fn given_up(attempts: u32) -> Event {
    let (op, name) = op();
    Event::StepFailed { op, name, error: failure(), attempts }
}

fn dropped() -> Event {
    Event::OpDropped { op: OpId::FIRST }
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check(events: &[Event], expected: Expect) {
    expected.assert_eq(&told(&fold(events)));
}

fn told(state: &RunState) -> String {
    let mut text = String::new();
    let short = |at: Option<Timestamp>| {
        at.map_or_else(|| "-".to_owned(), |at| (at.as_micros() / 1_000_000).to_string())
    };
    for attempt in &state.ops[&OpId::FIRST].attempts {
        let (number, after) = (attempt.number, attempt.after);
        let (from, to) = (short(attempt.started_at), short(attempt.ended_at));
        let state = match attempt.state {
            AttemptState::Waiting { until, of } => {
                format!("Until {} of {of:?}", short(Some(until)))
            }
            other => format!("{other:?}"),
        };
        writeln!(text, "{number} {state} {from} to {to}, {after:?}").unwrap();
    }
    text
}

#[test]
fn an_attempt_waits_until_the_log_says_that_it_begins() {
    check(
        &[started(false), failed(1, 30, Some(5))],
        expect![[r"
            1 Failed 2 to 3, None
            2 Until 30 of Some(5) - to -, None
        "]],
    );
    check(
        &[started(false), failed(1, 30, Some(5)), begun(2)],
        expect![[r"
            1 Failed 2 to 3, None
            2 Running 4 to -, None
        "]],
    );
    check(
        &[started(false), failed(1, 30, Some(5)), begun(2), completed()],
        expect![[r"
            1 Failed 2 to 3, None
            2 Completed 4 to 5, None
        "]],
    );
}

#[test]
fn a_queued_attempt_begins_when_it_is_taken_and_its_waiting_is_not_running() {
    check(
        &[started(true)],
        expect![[r"
            1 Queued - to -, None
        "]],
    );
    check(
        &[started(true), begun(1), given_up(1)],
        expect![[r"
            1 Failed 3 to 4, None
        "]],
    );
    check(
        &[started(true), begun(1), restarted(2, Some(ProcessEnd::Crash), true)],
        expect![[r"
            1 CutOff(Crash) 3 to -, None
            2 Queued - to -, Some(Crash)
        "]],
    );
}

#[test]
fn how_an_attempt_was_cut_off_is_said_and_when_it_ended_is_not_known() {
    use ProcessEnd::{Crash, Lost, Stop};
    check(
        &[
            started(false),
            checkpoint(1),
            restarted(2, Some(Stop), false),
            restarted(3, Some(Lost), false),
            restarted(4, Some(Crash), false),
        ],
        expect![[r"
            1 CutOff(Stop) 2 to -, None
            2 CutOff(Lost) 4 to -, Some(Stop)
            3 CutOff(Crash) 5 to -, Some(Lost)
            4 Running 6 to -, Some(Crash)
        "]],
    );
}

#[test]
fn the_last_possible_attempt_has_a_higher_number_after_a_restart() {
    let crash = || restarted(2, Some(ProcessEnd::Crash), false);
    check(
        &[started(false), crash(), failed(2, 30, Some(4))],
        expect![[r"
            1 CutOff(Crash) 2 to -, None
            2 Failed 3 to 4, Some(Crash)
            3 Until 30 of Some(5) - to -, None
        "]],
    );
}

#[test]
fn what_never_began_is_no_attempt() {
    check(
        &[started(false), failed(1, 30, Some(5)), dropped()],
        expect![[r"
            1 Failed 2 to 3, None
        "]],
    );
    check(&[started(true), dropped()], expect![""]);
    check(
        &[started(false), dropped()],
        expect![[r"
            1 Dropped 2 to 3, None
        "]],
    );
}

/// Events from before `step_attempt_started` say nothing of when a retry began.
#[test]
fn an_old_log_is_told_as_far_as_it_tells() {
    check(
        &[started(false), failed(1, 4, None), completed()],
        expect![[r"
            1 Failed 2 to 3, None
            2 Completed 4 to 4, None
        "]],
    );
    check(
        &[started(false), failed(1, 4, None), checkpoint(2), restarted(3, None, false)],
        expect![[r"
            1 Failed 2 to 3, None
            2 CutOff(Crash) 4 to -, None
            3 Running 5 to -, Some(Crash)
        "]],
    );
    check(
        &[started(false), failed(1, 4, None), restarted(3, None, false)],
        expect![[r"
            1 Failed 2 to 3, None
            2 CutOff(Crash) - to -, None
            3 Running 4 to -, Some(Crash)
        "]],
    );
}

#[test]
fn a_run_says_what_its_open_steps_do() {
    let activity = |events: &[Event]| fold(events).activity();
    assert_eq!(activity(&[started(false)]), Activity { running: 1, ..Activity::default() });
    assert_eq!(activity(&[started(true)]), Activity { queued: 1, ..Activity::default() });
    assert_eq!(activity(&[started(false), completed()]), Activity::default());
    let next = NextAttempt { until: second(30), attempt: 2, of: Some(5) };
    assert_eq!(
        activity(&[started(false), failed(1, 30, Some(5))]),
        Activity { waiting: 1, next: Some(next), ..Activity::default() }
    );
}

#[test]
fn an_attempt_of_a_process_that_ended_is_cut_off_and_one_that_waits_is_not() {
    let ended = |upto: u64| move |at: Seq| (at <= seq(upto)).then_some(ProcessEnd::Stop);
    let mut state = fold(&[started(false)]);
    state.cut_off(ended(1));
    assert_eq!(state.activity().running, 1, "it began in a later process");
    state.cut_off(ended(2));
    let cut = Activity { cut_off: 1, cut_off_by: Some(ProcessEnd::Stop), ..Activity::default() };
    assert_eq!(state.activity(), cut);
    let mut state = fold(&[started(true)]);
    state.cut_off(ended(9));
    assert_eq!(state.activity().queued, 1, "it never began");
}
