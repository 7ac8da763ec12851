//! What recovery makes of a step's events: which attempt comes next, and what counts as a crash.

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
        app_version: "1".into(),
        durability: tidemill_model::Durability::Local,
    }))
}

/// A script begins at event 2. Gives the facts of its step.
fn facts(events: impl IntoIterator<Item = Event>) -> StepFacts {
    let mut journal = Journal::default();
    for (n, event) in (1..).zip([created()].into_iter().chain(events)) {
        journal.apply(seq(n), at(1), &event).unwrap();
    }
    match &journal.open[&OpId::FIRST].kind {
        OpenKind::Step(facts) => facts.clone(),
        other => panic!("a step is open, not {other:?}"),
    }
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

/// What a restart at this second does: it replaces the attempt, or goes on with its number.
fn replaced(facts: &StepFacts, second: i64) -> (u32, bool) {
    (facts.attempt, facts.may_have_begun(at(second)))
}

#[test]
fn the_log_says_whether_an_attempt_began_and_not_the_clock() {
    for now in [1, 59, 61, 9_999] {
        assert_eq!(replaced(&facts([started(false)]), now), (1, true));
        assert_eq!(replaced(&facts([started(true)]), now), (1, false), "in line");
        assert_eq!(replaced(&facts([started(true), begun(1)]), now), (1, true));
        let waits = || [started(false), failed(1, Some(5))];
        assert_eq!(replaced(&facts(waits()), now), (2, false), "in its back-off");
        let in_its_first_instant = waits().into_iter().chain([begun(2)]);
        assert_eq!(replaced(&facts(in_its_first_instant), now), (2, true));
        assert_eq!(replaced(&facts([started(false), restarted(2, true)]), now), (2, false));
        assert_eq!(replaced(&facts([started(false), restarted(2, false)]), now), (2, true));
    }
}

#[test]
fn where_an_earlier_version_did_not_say_the_clock_has_to() {
    let old = || [started(false), failed(1, None)];
    assert_eq!(replaced(&facts(old()), 59), (2, false));
    assert_eq!(replaced(&facts(old()), 60), (2, true));
    let recorded = old().into_iter().chain([checkpoint(2)]);
    assert_eq!(replaced(&facts(recorded), 59), (2, true), "it recorded something");
}

#[test]
fn attempts_that_began_count_as_crashes_until_there_is_progress() {
    let crashes = |events: Vec<Event>, base| facts(events).crashes(seq(base));
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
