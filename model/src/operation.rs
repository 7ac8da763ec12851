//! One operation of a run, and the one function that applies an event to it.

use crate::attempts::{Attempt, AttemptState, Attempts};
use crate::event::Event;
use crate::event_data::ProcessEnd;
use crate::failure::{Failure, FailureKind};
use crate::json::Json;
use crate::log_order::{OpClass, Standing};
use crate::name::{OpName, RunId};
use crate::position::{OpId, Seq};
use crate::promise::{self, GivenAnswer, PromiseAnswer, PromiseTerms};
use crate::signal::KeptSignal;
use crate::time::Timestamp;

/// What kind of operation it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpKind {
    /// A step with its input.
    Step {
        /// What its body is given.
        input: Json,
    },
    /// A timer.
    Timer {
        /// When it fires.
        fire_at: Timestamp,
    },
    /// A child run.
    Child {
        /// The child's id.
        child: RunId,
        /// The child's input.
        input: Json,
        /// Whether it goes on by itself when its run no longer waits for it.
        outlives_parent: bool,
    },
    /// The start of a run that is no child.
    Spawn {
        /// The run that it starts.
        run: RunId,
        /// Its input.
        input: Json,
    },
    /// A wait for a signal.
    Signal {
        /// The signal that it was given and the code has not taken.
        given: Option<Box<KeptSignal>>,
    },
    /// A promise.
    Promise {
        /// What the code says about it.
        terms: Box<PromiseTerms>,
        /// What it was answered.
        answers: Vec<GivenAnswer>,
    },
}

impl OpKind {
    /// Its text in every view.
    pub fn as_str(&self) -> &'static str {
        match self {
            OpKind::Step { .. } => "step",
            OpKind::Timer { .. } => "timer",
            OpKind::Child { .. } => "child",
            OpKind::Spawn { .. } => "spawn",
            OpKind::Signal { .. } => "signal",
            OpKind::Promise { .. } => "promise",
        }
    }
}

/// The state of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpStatus {
    /// Started; its end is not known.
    Open,
    /// Ended with an output (`null` for a timer).
    Completed(Json),
    /// Failed for good.
    Failed(Failure),
    /// Ended because its run was asked to end; with what its body said, if that ran.
    Cancelled(Option<Failure>),
    /// The run dropped it before its end.
    Dropped,
}

impl OpStatus {
    /// Its text in every view.
    pub fn as_str(&self) -> &'static str {
        match self {
            OpStatus::Open => "open",
            OpStatus::Completed(_) => "completed",
            OpStatus::Failed(_) => "failed",
            OpStatus::Cancelled(_) => "cancelled",
            OpStatus::Dropped => "dropped",
        }
    }
}

/// A value that a step's body recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// Where it stands in the log.
    pub seq: Seq,
    /// When it was recorded.
    pub at: Timestamp,
    /// Which attempt recorded it.
    pub attempt: u32,
    /// What the body recorded.
    pub value: Json,
}

/// An end that the run has not observed yet: it was blocked, or its process was stopping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Where it stands in the log.
    pub seq: Seq,
    /// When it was recorded.
    pub at: Timestamp,
    /// The input that it becomes.
    pub end: Event,
}

/// One operation of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The step's, timer's or child workflow's name.
    pub name: OpName,
    /// What kind of operation it is, with what it was given.
    pub kind: OpKind,
    /// Its state.
    pub status: OpStatus,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The attempts of a step; empty for a timer or child.
    pub attempts: Vec<Attempt>,
    /// The checkpoints of a step.
    pub checkpoints: Vec<CheckpointRecord>,
    /// The end of an operation that is still open for its run.
    pub held: Option<Held>,
}

impl Op {
    /// The operation that an event starts; `None` if it starts none.
    pub fn start(event: &Event, seq: Seq, at: Timestamp) -> Option<(OpId, Op)> {
        let (id, name, kind, attempts) = match event {
            Event::StepStarted { op, name, input, queued } => {
                let attempts = Attempts::first(*queued, seq, at);
                (*op, name, OpKind::Step { input: input.clone() }, attempts)
            }
            Event::TimerStarted { op, name, fire_at } => {
                (*op, name, OpKind::Timer { fire_at: *fire_at }, Vec::new())
            }
            Event::ChildStarted { op, name, child, input, outlives_parent } => {
                let (child, input) = (child.clone(), input.clone());
                let kind = OpKind::Child { child, input, outlives_parent: *outlives_parent };
                (*op, name, kind, Vec::new())
            }
            Event::SpawnStarted { op, name, run, input } => {
                let kind = OpKind::Spawn { run: run.clone(), input: input.clone() };
                (*op, name, kind, Vec::new())
            }
            Event::SignalStarted { op, name } => {
                (*op, name, OpKind::Signal { given: None }, Vec::new())
            }
            Event::PromiseStarted { op, name, terms } => {
                let kind = OpKind::Promise { terms: terms.clone(), answers: Vec::new() };
                (*op, name, kind, Vec::new())
            }
            _ => return None,
        };
        let op = Op {
            name: name.clone(),
            kind,
            status: OpStatus::Open,
            started_at: at,
            ended_at: None,
            attempts,
            checkpoints: Vec::new(),
            held: None,
        };
        Some((id, op))
    }

    /// The operation after an event of it that `log_order` has let pass; every other event leaves
    /// it as it is.
    pub fn apply(&mut self, event: &Event, seq: Seq, at: Timestamp) {
        let mut attempts = Attempts(&mut self.attempts);
        match event {
            Event::StepAttemptStarted { attempt, .. } => attempts.begun(*attempt, seq, at),
            Event::StepAttemptFailed { attempt, error, next_at, of, .. } => {
                attempts.failed((*attempt, error), (*next_at, *of), (seq, at));
            }
            Event::StepRestarted { attempt, after, queued, .. } => {
                let after = after.unwrap_or(ProcessEnd::Crash);
                attempts.restarted(*attempt, (after, *queued), (seq, at));
            }
            Event::Checkpoint { attempt, value, .. } => {
                attempts.seen(*attempt, seq, at);
                let (attempt, value) = (*attempt, value.clone());
                self.checkpoints.push(CheckpointRecord { seq, at, attempt, value });
            }
            Event::StepCompleted { output, .. }
            | Event::ChildCompleted { output, .. }
            | Event::PromiseResolved { output, .. } => {
                attempts.end(AttemptState::Completed, None, seq, at);
                self.end(at, OpStatus::Completed(output.clone()));
            }
            Event::SpawnCompleted { run, .. } => {
                self.end(at, OpStatus::Completed(Json::of(run).unwrap_or_else(|_| Json::null())));
            }
            Event::StepFailed { error, .. }
            | Event::ChildFailed { error, .. }
            | Event::SpawnFailed { error, .. }
            | Event::PromiseRejected { error, .. } => {
                attempts.end(AttemptState::Failed, Some(error), seq, at);
                let error = error.clone();
                self.end(
                    at,
                    match error.kind {
                        FailureKind::Cancelled => OpStatus::Cancelled(Some(error)),
                        FailureKind::Failed
                        | FailureKind::TimedOut
                        | FailureKind::Interrupted
                        | FailureKind::Rejected => OpStatus::Failed(error),
                    },
                );
            }
            Event::CancelRequested { .. } => {
                attempts.dropped(at);
                self.end(at, OpStatus::Cancelled(None));
            }
            Event::SignalTaken { .. } => {
                let value = self.take_given().map(|given| given.signal.value);
                self.end(at, OpStatus::Completed(value.unwrap_or_else(Json::null)));
            }
            Event::TimerFired { .. } => self.end(at, OpStatus::Completed(Json::null())),
            Event::OpDropped { .. } => {
                attempts.dropped(at);
                self.end(at, OpStatus::Dropped);
            }
            Event::OpHeld { end, .. } => self.hold(seq, at, end),
            Event::PromiseAnswered { op, answer, .. } => self.answer(*op, answer, (seq, at)),
            _ => {}
        }
    }

    /// Whether it has started and not ended.
    pub fn is_open(&self) -> bool {
        self.status == OpStatus::Open
    }

    /// What may follow in the log.
    pub fn standing(&self) -> Standing {
        match (&self.status, &self.kind) {
            (OpStatus::Open, OpKind::Step { .. }) => Standing::Open(OpClass::Step),
            (OpStatus::Open, OpKind::Timer { .. }) => Standing::Open(OpClass::Timer),
            (OpStatus::Open, OpKind::Child { .. }) => Standing::Open(OpClass::Child),
            (OpStatus::Open, OpKind::Spawn { .. }) => Standing::Open(OpClass::Spawn),
            (OpStatus::Open, OpKind::Signal { .. }) => Standing::Open(OpClass::Signal),
            (OpStatus::Open, OpKind::Promise { .. }) => Standing::Open(OpClass::Promise),
            (
                OpStatus::Completed(_)
                | OpStatus::Failed(_)
                | OpStatus::Cancelled(_)
                | OpStatus::Dropped,
                _,
            ) => Standing::Ended,
        }
    }

    /// The signal that a wait was given and the code has not taken.
    pub fn given(&self) -> Option<&KeptSignal> {
        match &self.kind {
            OpKind::Signal { given } => given.as_deref(),
            OpKind::Step { .. }
            | OpKind::Timer { .. }
            | OpKind::Child { .. }
            | OpKind::Spawn { .. }
            | OpKind::Promise { .. } => None,
        }
    }

    /// Gives a wait its signal.
    pub(crate) fn give(&mut self, signal: KeptSignal) {
        if let OpKind::Signal { given } = &mut self.kind {
            *given = Some(Box::new(signal));
        }
    }

    /// Takes away what a wait was given.
    pub(crate) fn take_given(&mut self) -> Option<KeptSignal> {
        match &mut self.kind {
            OpKind::Signal { given } => given.take().map(|given| *given),
            OpKind::Step { .. }
            | OpKind::Timer { .. }
            | OpKind::Child { .. }
            | OpKind::Spawn { .. }
            | OpKind::Promise { .. } => None,
        }
    }

    /// The attempt is over, the operation stays open until its run observes that. What was held
    /// first counts.
    fn hold(&mut self, seq: Seq, at: Timestamp, end: &Event) {
        if self.held.is_none() {
            Attempts(&mut self.attempts).end(AttemptState::Held, end.error(), seq, at);
            self.held = Some(Held { seq, at, end: end.clone() });
        }
    }

    /// A promise was answered; the run observes its end once that is settled.
    fn answer(&mut self, op: OpId, answer: &PromiseAnswer, (seq, at): (Seq, Timestamp)) {
        let OpKind::Promise { terms, answers } = &mut self.kind else { return };
        answers.push(GivenAnswer { answer: answer.clone(), seq, at });
        if answer.settles
            && let Some(end) = promise::settlement((op, &self.name), terms, answers)
        {
            self.held.get_or_insert(Held { seq, at, end });
        }
    }

    fn end(&mut self, at: Timestamp, status: OpStatus) {
        self.held = None;
        self.ended_at = Some(at);
        self.status = status;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;
    use crate::event::tests::sample;

    /// A new kind of event of an open operation needs its arm above.
    #[test]
    fn each_kind_of_an_open_operation_changes_it() {
        let starts = [
            EventKind::StepStarted,
            EventKind::TimerStarted,
            EventKind::ChildStarted,
            EventKind::SpawnStarted,
            EventKind::SignalStarted,
            EventKind::PromiseStarted,
        ];
        // `RunHead` gives an operation its signal; tokens are the writer's.
        let others = [
            EventKind::Now,
            EventKind::StatusSet,
            EventKind::SignalDelivered,
            EventKind::PromiseToken,
        ];
        let at = Timestamp::from_micros(9).expect("a moment of 1970");
        let seq = Seq::ZERO.next();
        for &kind in EventKind::ALL {
            let event = sample(kind);
            if event.op().is_none() || starts.contains(&kind) || others.contains(&kind) {
                continue;
            }
            let changes = |start: &EventKind| {
                let (_, op) = Op::start(&sample(*start), Seq::ZERO, at).expect("it starts one");
                let mut after = op.clone();
                after.apply(&event, seq, at);
                after != op
            };
            assert!(starts.iter().any(changes), "{kind} changes no operation");
        }
    }
}
