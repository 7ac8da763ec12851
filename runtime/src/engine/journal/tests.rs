//! What recovery derives from a step's events: the next attempt, and the number of crashes.

use tidemill_model::{OpName, RunCreated};

use super::*;

fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000).unwrap()
}

fn created() -> Event {
    Event::RunCreated(Box::new(RunCreated {
        workflow: OpName::new("w").unwrap(),
        input: Json::null(),
        labels: std::collections::BTreeMap::new(),
        seed: Seed::from_random([0; 16]),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".into(),
        durability: tidemill_model::Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }))
}

/// Folds a script of events from event 2 on, and returns its step.
fn step(events: impl IntoIterator<Item = Event>) -> Op {
    let mut journal = Journal::default();
    for (n, event) in (1..).zip([created()].into_iter().chain(events)) {
        journal.apply(seq(n), at(1), &event).unwrap();
    }
    journal.open(OpId::FIRST).unwrap().clone()
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

fn failed(attempt: u32, of: Option<u32>) -> Event {
    let (op, name) = op();
    let error = crate::author::result::failed("no");
    Event::StepAttemptFailed { op, name, attempt, error, next_at: at(60), of }
}

fn restarted(attempt: u32, queued: bool) -> Event {
    let (op, name) = op();
    Event::StepRestarted { op, name, attempt, after: None, queued }
}

fn checkpoint(attempt: u32) -> Event {
    let (op, name) = op();
    Event::Checkpoint { op, name, attempt, value: Json::null() }
}

/// Whether a restart at this second makes another attempt, and the attempt's number.
fn replaced(step: &Op, second: i64) -> (u32, bool) {
    let newest = step.attempts.last().unwrap();
    assert_eq!(StepFacts::of(step).unwrap().attempt, newest.number);
    (newest.number, newest.may_have_begun(at(second)))
}

#[test]
fn the_log_says_whether_an_attempt_began_and_not_the_clock() {
    for now in [1, 59, 61, 9_999] {
        assert_eq!(replaced(&step([started(false)]), now), (1, true));
        assert_eq!(replaced(&step([started(true)]), now), (1, false), "in line");
        assert_eq!(replaced(&step([started(true), begun(1)]), now), (1, true));
        let waits = || [started(false), failed(1, Some(5))];
        assert_eq!(replaced(&step(waits()), now), (2, false), "in its back-off");
        let in_its_first_instant = waits().into_iter().chain([begun(2)]);
        assert_eq!(replaced(&step(in_its_first_instant), now), (2, true));
        assert_eq!(replaced(&step([started(false), restarted(2, true)]), now), (2, false));
        assert_eq!(replaced(&step([started(false), restarted(2, false)]), now), (2, true));
    }
}

#[test]
fn where_an_earlier_version_did_not_say_the_clock_has_to() {
    let old = || [started(false), failed(1, None)];
    assert_eq!(replaced(&step(old()), 59), (2, false));
    assert_eq!(replaced(&step(old()), 60), (2, true));
    let recorded = old().into_iter().chain([checkpoint(2)]);
    assert_eq!(replaced(&step(recorded), 59), (2, true), "it recorded something");
}

#[test]
fn attempts_that_began_count_as_crashes_until_there_is_progress() {
    let crashes =
        |events: Vec<Event>, base| tidemill_model::crashes(&step(events).attempts, seq(base));
    let died_twice = || vec![started(false), restarted(2, false), restarted(3, false)];
    assert_eq!(crashes(died_twice(), 0), 3);
    assert_eq!(crashes(died_twice(), 3), 1, "what was logged before does not count");
    let with = |more: Vec<Event>| died_twice().into_iter().chain(more).collect::<Vec<_>>();
    assert_eq!(crashes(with(vec![checkpoint(3)]), 0), 1, "a checkpoint is progress");
    assert_eq!(crashes(with(vec![failed(3, Some(9)), begun(4)]), 0), 1, "so is a failure");
    assert_eq!(crashes(with(vec![restarted(4, true)]), 0), 3, "the fourth never began");
    assert_eq!(crashes(vec![started(true)], 0), 0, "nothing began, however many processes died");
    let twice = vec![started(false), begun(1)];
    assert_eq!(crashes(twice, 0), 1, "it waited for the lease, and began once");
}

#[test]
fn a_driver_keeps_what_is_open_and_the_newest_checkpoint() {
    let last = step([started(false), checkpoint(1), checkpoint(1)]);
    assert_eq!(last.checkpoints.len(), 1);
    assert_eq!(last.checkpoints[0].seq, seq(4));
    let mut journal = Journal::default();
    let (op, name) = op();
    let ended = Event::StepCompleted { op, name, output: Json::null() };
    for (n, event) in (1..).zip([created(), started(false), ended]) {
        journal.apply(seq(n), at(1), &event).unwrap();
    }
    assert!(journal.open(OpId::FIRST).is_none() && journal.open_ops().is_empty());
    let again = journal.apply(seq(4), at(1), &started(false)).unwrap_err();
    assert_eq!(again, "operation 1 starts a second time");
}
