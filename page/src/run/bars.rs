//! What an operation did when, as stretches of time. Pure.

use tidemill_model::{AttemptState, Op, OpKind, OpStatus, Timestamp};

/// A stretch of time of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) did: Did,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// The attempt of a step, from 1.
    pub(crate) attempt: Option<u32>,
}

/// What it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Did {
    /// Waited for a thread of the pool, or for the lease.
    Queued,
    /// Its body runs.
    Running,
    /// Its body ran and returned.
    Completed,
    /// Its body ran and failed.
    Failed,
    /// It waited before it was tried again.
    BackOff,
    /// Its process had ended before its body did: what ran is not known until it was taken up.
    CutOff,
    /// Its body has ended, and its run has not observed that yet.
    Held,
    /// It ended with the cancel of its run.
    Cancelled,
    /// It was dropped.
    Dropped,
    /// A timer, or anything else that is waited for.
    Waiting,
    /// A child runs.
    Child,
}

impl Did {
    /// All of them, in the order of a legend.
    pub(crate) const ALL: [Did; 11] = [
        Did::Queued,
        Did::Running,
        Did::Completed,
        Did::Failed,
        Did::BackOff,
        Did::CutOff,
        Did::Held,
        Did::Cancelled,
        Did::Dropped,
        Did::Waiting,
        Did::Child,
    ];

    /// The class that colours it.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Did::Queued => "queued",
            Did::Running => "running",
            Did::Completed => "completed",
            Did::Failed => "failed",
            Did::BackOff => "backoff",
            Did::CutOff => "cut",
            Did::Held => "held",
            Did::Cancelled => "cancelled",
            Did::Dropped => "dropped",
            Did::Waiting => "waiting",
            Did::Child => "child",
        }
    }

    /// What a legend says.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Did::Queued => "queued",
            Did::Running => "running",
            Did::Completed => "completed",
            Did::Failed => "failed",
            Did::BackOff => "back-off",
            Did::CutOff => "cut off: the process had ended",
            Did::Held => "ended, not yet observed",
            Did::Cancelled => "cancelled with its run",
            Did::Dropped => "dropped",
            Did::Waiting => "timer, signal or answer",
            Did::Child => "child",
        }
    }

    /// Whether something worked then, so that the stretch is not idle.
    pub(crate) fn is_work(self) -> bool {
        matches!(
            self,
            Did::Running
                | Did::Completed
                | Did::Failed
                | Did::Queued
                | Did::Cancelled
                | Did::Dropped
                | Did::Held
                | Did::Child
        )
    }
}

/// The stretches of an operation up to `now`, in the order of time.
pub(crate) fn bars(op: &Op, now: Timestamp) -> Vec<Bar> {
    let end = op.ended_at.unwrap_or(now);
    match &op.kind {
        OpKind::Child { .. } => {
            let did = match &op.status {
                OpStatus::Failed(_) => Did::Failed,
                _ => waiting(op, Did::Child),
            };
            vec![bar(did, op.started_at, end, None)]
        }
        // What it started is on the chart of that run.
        OpKind::Spawn { .. } => {
            let did = match &op.status {
                OpStatus::Failed(_) => Did::Failed,
                _ => waiting(op, Did::Completed),
            };
            vec![bar(did, op.started_at, end, None)]
        }
        OpKind::Timer { .. } | OpKind::Signal { .. } | OpKind::Promise { .. } => {
            vec![bar(waiting(op, Did::Waiting), op.started_at, end, None)]
        }
        OpKind::Step { .. } => of_step(op, now),
    }
}

fn waiting(op: &Op, did: Did) -> Did {
    match op.status {
        OpStatus::Dropped => Did::Dropped,
        OpStatus::Cancelled(_) => Did::Cancelled,
        OpStatus::Open | OpStatus::Completed(_) | OpStatus::Failed(_) => did,
    }
}

/// Whether this attempt is the last one of a step that ended with the cancel of its run.
fn ended_with_run(op: &Op, attempt: Option<u32>) -> bool {
    matches!(op.status, OpStatus::Cancelled(_))
        && op.attempts.last().map(|last| last.number) == attempt
}

fn bar(did: Did, from: Timestamp, to: Timestamp, attempt: Option<u32>) -> Bar {
    Bar { did, from, to: to.max(from), attempt }
}

fn of_step(op: &Op, now: Timestamp) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    // What stands between the end of what is known and the next beginning.
    let (mut known_until, mut between) = (op.started_at, Did::Queued);
    for attempt in &op.attempts {
        let number = Some(attempt.number);
        let Some(from) = attempt.started_at else {
            let until = attempt.ended_at.or(op.ended_at).unwrap_or(now);
            let did = match attempt.state {
                AttemptState::Waiting { .. } => Did::BackOff,
                AttemptState::CutOff(_) => Did::CutOff,
                _ => Did::Queued,
            };
            bars.push(bar(did, known_until, until, number));
            known_until = until;
            continue;
        };
        if from > known_until {
            bars.push(bar(between, known_until, from, number));
        }
        let (did, to) = match attempt.state {
            AttemptState::Completed => (Did::Completed, attempt.ended_at.or(op.ended_at)),
            AttemptState::Failed | AttemptState::Dropped if ended_with_run(op, number) => {
                (Did::Cancelled, attempt.ended_at.or(op.ended_at))
            }
            AttemptState::Failed => (Did::Failed, attempt.ended_at.or(op.ended_at)),
            AttemptState::Dropped => (Did::Dropped, attempt.ended_at.or(op.ended_at)),
            AttemptState::Held => (Did::Completed, attempt.ended_at),
            AttemptState::CutOff(_) => (Did::Running, attempt.seen_at),
            AttemptState::Running | AttemptState::Waiting { .. } | AttemptState::Queued => {
                (Did::Running, None)
            }
        };
        let to = to.unwrap_or(now).max(from);
        bars.push(bar(did, from, to, number));
        known_until = to;
        between = match attempt.state {
            AttemptState::CutOff(_) => Did::CutOff,
            AttemptState::Failed => Did::BackOff,
            _ => Did::Queued,
        };
        match attempt.state {
            AttemptState::Held => bars.push(bar(Did::Held, to, op.ended_at.unwrap_or(now), number)),
            AttemptState::CutOff(_)
                if Some(attempt.number) == op.attempts.last().map(|it| it.number) =>
            {
                bars.push(bar(Did::CutOff, to, op.ended_at.unwrap_or(now), number));
            }
            _ => {}
        }
    }
    if op.attempts.is_empty() {
        bars.push(bar(Did::Queued, op.started_at, op.ended_at.unwrap_or(now), None));
    }
    bars
}

/// At most `max` stretches: those in the middle become one, which is of the worst kind among them.
pub(crate) fn at_most(mut bars: Vec<Bar>, max: usize) -> Vec<Bar> {
    if bars.len() <= max || max < 3 {
        return bars;
    }
    let (head, tail) = (max / 2, max - max / 2 - 1);
    let middle: Vec<Bar> = bars.drain(head..bars.len() - tail).collect();
    let from = middle.iter().map(|it| it.from).min();
    let to = middle.iter().map(|it| it.to).max();
    let did =
        if middle.iter().any(|it| it.did == Did::Failed) { Did::Failed } else { middle[0].did };
    if let Some((from, to)) = from.zip(to) {
        bars.insert(head, bar(did, from, to, None));
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::{
        Durability, Event, Failure, FailureKind, Json, OpId, OpName, ProcessEnd, RunCreated, RunId,
        RunState, Seed, Seq,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000).unwrap()
    }

    fn fold(events: Vec<Event>) -> RunState {
        let created = Event::RunCreated(Box::new(RunCreated {
            workflow: OpName::new("w").unwrap(),
            input: Json::null(),
            labels: [].into(),
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
        let mut state = RunState::create(&id, Seq::new(1).unwrap(), at(1), &created).unwrap();
        for (place, event) in (2_u32..).zip(events) {
            let seq = Seq::new(u64::from(place)).unwrap();
            state.apply(seq, at(i64::from(place)), &event).unwrap();
        }
        state
    }

    fn seen(state: &RunState, now: i64) -> Vec<(Did, i64, i64)> {
        let op = state.ops.values().next().unwrap();
        let second = |at: Timestamp| at.as_micros() / 1_000_000;
        bars(op, at(now)).iter().map(|bar| (bar.did, second(bar.from), second(bar.to))).collect()
    }

    fn step(queued: bool) -> Event {
        let (op, name) = (OpId::new(1).unwrap(), OpName::new("s").unwrap());
        Event::StepStarted { op, name, input: Json::null(), queued }
    }

    fn failed(attempt: u32) -> Event {
        let error = Failure { kind: FailureKind::Failed, message: "no".into(), chain: vec![] };
        let (op, name) = (OpId::new(1).unwrap(), OpName::new("s").unwrap());
        Event::StepAttemptFailed { op, name, attempt, error, next_at: at(9), of: Some(3) }
    }

    fn began(attempt: u32) -> Event {
        let (op, name) = (OpId::new(1).unwrap(), OpName::new("s").unwrap());
        Event::StepAttemptStarted { op, name, attempt }
    }

    fn restarted(attempt: u32) -> Event {
        let (op, name) = (OpId::new(1).unwrap(), OpName::new("s").unwrap());
        let after = Some(ProcessEnd::Crash);
        Event::StepRestarted { op, name, attempt, after, queued: false }
    }

    fn completed() -> Event {
        let (op, name) = (OpId::new(1).unwrap(), OpName::new("s").unwrap());
        Event::StepCompleted { op, name, output: Json::null() }
    }

    #[test]
    fn queue_run_back_off_and_end_are_told_apart() {
        let state = fold(vec![step(true), began(1), failed(1), began(2), completed()]);
        assert_eq!(
            seen(&state, 99),
            [
                (Did::Queued, 2, 3),
                (Did::Failed, 3, 4),
                (Did::BackOff, 4, 5),
                (Did::Completed, 5, 6)
            ]
        );
        assert_eq!(seen(&fold(vec![step(true)]), 7), [(Did::Queued, 2, 7)]);
        let waiting = fold(vec![step(false), failed(1)]);
        assert_eq!(seen(&waiting, 7), [(Did::Failed, 2, 3), (Did::BackOff, 3, 7)]);
    }

    #[test]
    fn what_a_crash_cut_off_is_unknown_until_it_was_taken_up() {
        let state = fold(vec![step(false), restarted(2), completed()]);
        let found = seen(&state, 99);
        assert_eq!(found.last(), Some(&(Did::Completed, 3, 4)));
        assert!(found.contains(&(Did::CutOff, 2, 3)), "{found:?}");
    }

    #[test]
    fn many_attempts_are_few_bars() {
        let (from, to) = (at(1), at(2));
        let many = vec![Bar { did: Did::BackOff, from, to, attempt: None }; 50];
        assert_eq!(at_most(many.clone(), 9).len(), 9);
        assert_eq!(at_most(many[..9].to_vec(), 9).len(), 9);
    }
}
