//! What a person is told of a fork: what is carried over, and what will be done again.

use serde::{Deserialize, Serialize};

use super::plan::Fate;
use super::trace::{ForkLog, Trace};
use super::{Cut, Ops};
use crate::event::Event;
use crate::log_order::OpClass;
use crate::name::OpName;
use crate::position::{OpId, Seq};
use crate::time::Timestamp;

/// How many operations each list shows.
const LISTED_MAX: usize = 100;

/// What a fork does, and what of it has effects again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForkOutlook {
    /// The first event of the other run that is not in the fork's history.
    pub seq: Seq,
    /// How many of the other run's events are before it.
    pub history: usize,
    /// Steps and children whose output came after the cut and is carried over, and promises with their
    /// answers: they are not done or asked again.
    pub carried: ForkedOps,
    /// Steps and children whose output was given with the fork.
    pub set: ForkedOps,
    /// Steps, children and promises that were open at the cut and begin again.
    pub again: ForkedOps,
    /// Steps and children that completed and that the code started after the cut: if the code calls
    /// them again, they have their effects again.
    pub after: ForkedOps,
    /// When the timers are due that were open at the cut; those that are due fire at once.
    pub timers: Vec<Timestamp>,
    /// Whether the code was told before the cut that the run is to end: the fork is cancelling.
    pub cancelling: bool,
}

/// Operations: how many, and the first hundred.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForkedOps {
    /// How many.
    pub count: usize,
    /// The first of them, at most 100.
    pub first: Vec<ForkedOp>,
}

/// An operation of the run that is forked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForkedOp {
    /// Its number.
    pub op: OpId,
    /// Its name.
    pub name: OpName,
}

impl ForkedOps {
    fn add(&mut self, op: OpId, trace: &Trace<'_>) {
        self.count += 1;
        if self.first.len() < LISTED_MAX {
            self.first.push(ForkedOp { op, name: trace.name.clone() });
        }
    }
}

impl ForkLog<'_> {
    pub(super) fn outlook(&self, cut: &Cut, fates: &Ops<Fate<'_>>) -> ForkOutlook {
        let before = &self.log[..cut.keep.min(self.log.len())];
        let told = |event: &Event| matches!(event, Event::CancelRequested { .. });
        let mut outlook = ForkOutlook {
            seq: self.seq_after(cut.keep),
            history: before.len(),
            carried: ForkedOps::default(),
            set: ForkedOps::default(),
            again: ForkedOps::default(),
            after: ForkedOps::default(),
            timers: self.timers(fates),
            cancelling: before.iter().any(|(_, event)| told(event)),
        };
        for (op, trace) in &self.ops {
            match fates.get(op) {
                Some(Fate::Carried(_) | Fate::Answered) => outlook.carried.add(*op, trace),
                Some(Fate::Given(_)) => outlook.set.add(*op, trace),
                Some(Fate::Again) => outlook.again.add(*op, trace),
                None if trace.started >= cut.keep && trace.has_output() => {
                    outlook.after.add(*op, trace);
                }
                Some(Fate::Stays) | None => {}
            }
        }
        outlook
    }

    /// When the open timers are due, at most a hundred of them.
    fn timers(&self, fates: &Ops<Fate<'_>>) -> Vec<Timestamp> {
        let traces = fates.keys().filter_map(|op| self.ops.get(op));
        let timers = traces.filter(|trace| trace.class == OpClass::Timer);
        let due = timers.filter_map(|trace| match self.event(trace.started) {
            Some(Event::TimerStarted { fire_at, .. }) => Some(*fire_at),
            _ => None,
        });
        due.take(LISTED_MAX).collect()
    }
}
