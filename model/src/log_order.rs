//! Which event may follow which in the log of one run: one rule for all code that folds it.
//!
//! The engine's journal, the state that is shown and the check of a file all ask here, so that none
//! of them reads a log that another one refuses.

use crate::event::Event;
use crate::position::OpId;

/// How far a run's log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has no event.
    Empty,
    /// It has begun and not ended.
    Going,
    /// The run has ended.
    Ended,
}

/// What an operation is, for the events that may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpClass {
    /// What `ctx.step` and `ctx.run` make.
    Step,
    /// What `ctx.sleep` and `ctx.sleep_until` make.
    Timer,
    /// What `ctx.child` makes.
    Child,
    /// What `ctx.spawn` makes.
    Spawn,
    /// What `ctx.signal` makes.
    Signal,
    /// What `ctx.promise` and `ctx.approval` make.
    Promise,
}

impl OpClass {
    fn as_str(self) -> &'static str {
        match self {
            OpClass::Step => "step",
            OpClass::Timer => "timer",
            OpClass::Child => "child",
            OpClass::Spawn => "spawn",
            OpClass::Signal => "signal",
            OpClass::Promise => "promise",
        }
    }
}

/// The state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has not started.
    Unknown,
    /// It has started and not ended.
    Open(OpClass),
    /// It has ended or was dropped.
    Ended,
}

/// Whether an event may come next.
///
/// # Errors
/// What does not fit.
pub fn check(
    event: &Event,
    phase: Phase,
    standing: impl Fn(OpId) -> Standing,
) -> Result<(), String> {
    match (phase, event) {
        (Phase::Empty, Event::RunCreated(_)) => return Ok(()),
        (Phase::Empty, _) => {
            return Err(format!("a run begins with run_created, not with {}", event.kind()));
        }
        (Phase::Going, _) => {}
        (Phase::Ended, _) => return Err(format!("{} after the run ended", event.kind())),
    }
    match event {
        Event::NodeStarted(_) | Event::RunCreated(_) => {
            Err(format!("{} inside a run", event.kind()))
        }
        Event::StepStarted { op, .. }
        | Event::TimerStarted { op, .. }
        | Event::ChildStarted { op, .. }
        | Event::SpawnStarted { op, .. }
        | Event::SignalStarted { op, .. }
        | Event::PromiseStarted { op, .. } => match standing(*op) {
            Standing::Unknown => Ok(()),
            Standing::Open(_) | Standing::Ended => {
                Err(format!("operation {op} starts a second time"))
            }
        },
        Event::StepAttemptStarted { op, .. }
        | Event::StepAttemptFailed { op, .. }
        | Event::StepRestarted { op, .. }
        | Event::Checkpoint { op, .. }
        | Event::StepCompleted { op, .. }
        | Event::StepFailed { op, .. } => is_open(event, *op, standing(*op), Some(OpClass::Step)),
        Event::TimerFired { op, .. } => is_open(event, *op, standing(*op), Some(OpClass::Timer)),
        Event::ChildCompleted { op, .. } | Event::ChildFailed { op, .. } => {
            is_open(event, *op, standing(*op), Some(OpClass::Child))
        }
        Event::SpawnCompleted { op, .. } | Event::SpawnFailed { op, .. } => {
            is_open(event, *op, standing(*op), Some(OpClass::Spawn))
        }
        Event::SignalDelivered { op, .. } | Event::SignalTaken { op, .. } => {
            is_open(event, *op, standing(*op), Some(OpClass::Signal))
        }
        Event::PromiseToken { op, .. }
        | Event::PromiseAnswered { op, .. }
        | Event::PromiseResolved { op, .. }
        | Event::PromiseRejected { op, .. } => {
            is_open(event, *op, standing(*op), Some(OpClass::Promise))
        }
        Event::OpDropped { op } => is_open(event, *op, standing(*op), None),
        Event::CancelRequested { resolves, .. } => {
            resolves.keys().try_for_each(|op| is_open(event, *op, standing(*op), None))
        }
        // The end that it holds has to fit now.
        Event::OpHeld { end, .. } => {
            check(end, phase, standing).map_err(|why| format!("a held {why}"))
        }
        // An event without an operation fits anywhere in an unfinished run.
        _ => Ok(()),
    }
}

/// Whether the operation is open, and of the class that the event is about.
fn is_open(
    event: &Event,
    op: OpId,
    standing: Standing,
    class: Option<OpClass>,
) -> Result<(), String> {
    let kind = event.kind();
    match standing {
        Standing::Unknown => Err(format!("{kind} of operation {op}, which has not started")),
        Standing::Ended => Err(format!("{kind} of operation {op}, which has ended")),
        Standing::Open(is) => match class {
            Some(class) if class != is => {
                Err(format!("{kind} of operation {op}, which is a {}", is.as_str()))
            }
            Some(_) | None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;
    use crate::event::tests::sample;

    /// A new kind that starts, ends or concerns an operation needs its line above.
    #[test]
    fn each_kind_of_an_operation_is_checked_against_where_the_operation_stands() {
        for &kind in EventKind::ALL {
            let event = sample(kind);
            let concerns_none = matches!(kind, EventKind::Now | EventKind::StatusSet);
            if event.op().is_none() || concerns_none {
                continue;
            }
            let fits = |standing| check(&event, Phase::Going, |_| standing).is_ok();
            assert!(!fits(Standing::Ended), "{kind} after the operation has ended");
            let classes = [
                OpClass::Step,
                OpClass::Timer,
                OpClass::Child,
                OpClass::Spawn,
                OpClass::Signal,
                OpClass::Promise,
            ];
            let starts = fits(Standing::Unknown);
            let goes_on = classes.iter().any(|class| fits(Standing::Open(*class)));
            assert!(starts != goes_on, "{kind} either starts an operation or is of an open one");
        }
    }
}
