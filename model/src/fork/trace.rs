//! What became of each operation of a log.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::event::{Event, EventClass};
use crate::event_data::RunCreated;
use crate::log_order::OpClass;
use crate::name::OpName;
use crate::position::{OpId, Seq};
use crate::promise::Verdict;

/// The log of the run that is forked, with what became of each of its operations.
#[derive(Debug)]
pub struct ForkLog<'a> {
    pub(super) log: &'a [(Seq, &'a Event)],
    pub(super) created: &'a RunCreated,
    pub(super) ops: BTreeMap<OpId, Trace<'a>>,
}

/// An operation in a log.
#[derive(Debug)]
pub(super) struct Trace<'a> {
    pub(super) class: OpClass,
    pub(super) name: &'a OpName,
    /// The place of the event that started it.
    pub(super) started: usize,
    /// The place of the event with which it ended for its run; `None` if that is not in the log.
    pub(super) ended: Option<usize>,
    /// How it ended first, also if its run has not observed that.
    pub(super) outcome: Option<Outcome<'a>>,
    /// What settled a promise, also if its run has not observed that.
    pub(super) settled: Option<Verdict>,
    /// Whether it is an approval.
    pub(super) is_approval: bool,
    /// The newest attempt of a step.
    attempt: u32,
}

fn is_approval(event: &Event) -> bool {
    matches!(event, Event::PromiseStarted { terms, .. } if terms.approval.is_some())
}

/// The end of a step, a child, a spawn, a timer or a promise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome<'a> {
    pub(super) place: usize,
    /// The input that it is, or will become.
    pub(super) end: &'a Event,
    /// Which attempt of a step it was.
    pub(super) attempt: Option<u32>,
}

impl Outcome<'_> {
    /// Whether it is an output, which may have cost something.
    pub(super) fn is_output(&self) -> bool {
        matches!(
            self.end,
            Event::StepCompleted { .. }
                | Event::ChildCompleted { .. }
                | Event::SpawnCompleted { .. }
                | Event::PromiseResolved { .. }
        )
    }
}

impl Trace<'_> {
    /// Whether it is open where so many events have been.
    pub(super) fn is_open_at(&self, keep: usize) -> bool {
        self.started < keep && self.ended.is_none_or(|ended| ended >= keep)
    }

    /// Whether it ended with an output.
    pub(super) fn has_output(&self) -> bool {
        self.outcome.is_some_and(|outcome| outcome.is_output())
    }
}

impl<'a> ForkLog<'a> {
    /// Reads a log, which is one that folds.
    ///
    /// # Errors
    /// `Corrupt` if it does not begin with `run_created`.
    pub fn of(log: &'a [(Seq, &'a Event)]) -> Result<ForkLog<'a>, Error> {
        let Some((_, Event::RunCreated(created))) = log.first() else {
            return Err(Error::corrupt("the log of the run does not begin with run_created"));
        };
        let mut this = ForkLog { log, created, ops: BTreeMap::new() };
        for (place, (_, event)) in log.iter().enumerate() {
            this.see(place, event);
        }
        Ok(this)
    }

    fn see(&mut self, place: usize, event: &'a Event) {
        let class = match event {
            Event::StepStarted { .. } => OpClass::Step,
            Event::TimerStarted { .. } => OpClass::Timer,
            Event::ChildStarted { .. } => OpClass::Child,
            Event::SpawnStarted { .. } => OpClass::Spawn,
            Event::SignalStarted { .. } => OpClass::Signal,
            Event::PromiseStarted { .. } => OpClass::Promise,
            Event::CancelRequested { resolves, .. } => {
                resolves.keys().for_each(|op| self.end(*op, place, None));
                return;
            }
            other => return self.go_on(place, other),
        };
        if let (Some(op), Some(name)) = (event.op(), event.name()) {
            let new = Trace {
                class,
                name,
                started: place,
                ended: None,
                outcome: None,
                settled: None,
                is_approval: is_approval(event),
                attempt: 1,
            };
            self.ops.insert(op, new);
        }
    }

    /// Takes an event of an operation that has started.
    fn go_on(&mut self, place: usize, event: &'a Event) {
        match event {
            Event::StepAttemptStarted { op, attempt, .. }
            | Event::StepRestarted { op, attempt, .. }
            | Event::Checkpoint { op, attempt, .. } => {
                if let Some(trace) = self.ops.get_mut(op) {
                    trace.attempt = *attempt;
                }
            }
            Event::StepAttemptFailed { op, attempt, .. } => {
                if let Some(trace) = self.ops.get_mut(op) {
                    trace.attempt = attempt.saturating_add(1);
                }
            }
            Event::OpHeld { op, attempt, end, .. } => {
                if let Some(trace) = self.ops.get_mut(op) {
                    let held = Outcome { place, end, attempt: *attempt };
                    trace.outcome.get_or_insert(held);
                }
            }
            Event::PromiseAnswered { op, answer, .. } if answer.settles => {
                if let Some(trace) = self.ops.get_mut(op) {
                    trace.settled = Some(answer.verdict);
                }
            }
            Event::StepCompleted { op, .. }
            | Event::StepFailed { op, .. }
            | Event::TimerFired { op, .. }
            | Event::ChildCompleted { op, .. }
            | Event::ChildFailed { op, .. }
            | Event::SpawnCompleted { op, .. }
            | Event::SpawnFailed { op, .. }
            | Event::PromiseResolved { op, .. }
            | Event::PromiseRejected { op, .. } => self.end(*op, place, Some(event)),
            Event::SignalTaken { op, .. } | Event::OpDropped { op } => self.end(*op, place, None),
            _ => {}
        }
    }

    fn end(&mut self, op: OpId, place: usize, end: Option<&'a Event>) {
        let Some(trace) = self.ops.get_mut(&op) else { return };
        trace.ended = Some(place);
        if let Some(end) = end {
            let attempt = Some(trace.attempt).filter(|_| trace.class == OpClass::Step);
            trace.outcome.get_or_insert(Outcome { place, end, attempt });
        }
    }

    /// The place of the newest input at or before a place.
    pub(super) fn input_at(&self, place: usize) -> usize {
        let until = &self.log[..=place.min(self.log.len() - 1)];
        until.iter().rposition(|(_, event)| event.class() == EventClass::Input).unwrap_or(0)
    }

    /// The event at a place.
    pub(super) fn event(&self, place: usize) -> Option<&'a Event> {
        self.log.get(place).map(|(_, event)| *event)
    }

    /// The position of the first event that is not history.
    pub(super) fn seq_after(&self, keep: usize) -> Seq {
        let newest = self.log.last().map_or(Seq::ZERO, |(seq, _)| *seq);
        self.log.get(keep).map_or_else(|| newest.next(), |(seq, _)| *seq)
    }
}
