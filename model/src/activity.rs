//! The activity of an unfinished run: the counts of its open steps by state.

use serde::{Deserialize, Serialize};

use crate::attempts::AttemptState;
use crate::event_data::ProcessEnd;
use crate::operation::OpKind;
use crate::position::Seq;
use crate::run_state::RunState;
use crate::time::Timestamp;

/// The open steps of a run, counted by the state of their newest attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Activity {
    /// Their bodies run.
    pub running: u32,
    /// They wait for a thread of the pool, or for the lease.
    pub queued: u32,
    /// They failed and wait until they are tried again.
    pub waiting: u32,
    /// Their bodies have ended and the run has not observed that.
    pub held: u32,
    /// The process of their bodies has ended and none has taken them up since.
    pub cut_off: u32,
    /// The attempt that begins first of those that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextAttempt>,
    /// How the process of a cut-off attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_off_by: Option<ProcessEnd>,
}

/// An attempt that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NextAttempt {
    /// When it begins at the earliest.
    pub until: Timestamp,
    /// Its number.
    pub attempt: u32,
    /// The number of the last attempt that can follow, counting itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
}

impl Activity {
    /// How many steps are open.
    pub fn open(&self) -> u32 {
        let all = [self.running, self.queued, self.waiting, self.held, self.cut_off];
        all.into_iter().fold(0, u32::saturating_add)
    }

    fn add(&mut self, number: u32, state: AttemptState) {
        match state {
            AttemptState::Waiting { until, of } => {
                self.waiting += 1;
                let this = NextAttempt { until, attempt: number, of };
                self.next = Some(self.next.map_or(this, |next| next.min(this)));
            }
            AttemptState::Queued => self.queued += 1,
            AttemptState::Running => self.running += 1,
            AttemptState::Held => self.held += 1,
            AttemptState::CutOff(by) => {
                self.cut_off += 1;
                self.cut_off_by = Some(by);
            }
            // Not the newest attempt of a step that is open.
            AttemptState::Completed | AttemptState::Failed | AttemptState::Dropped => {}
        }
    }
}

impl RunState {
    /// What the run does now.
    pub fn activity(&self) -> Activity {
        let mut activity = Activity::default();
        for op in self.ops.values().filter(|op| op.is_open()) {
            match (&op.kind, op.attempts.last()) {
                (OpKind::Step { .. }, Some(last)) => activity.add(last.number, last.state),
                (OpKind::Step { .. }, None)
                | (
                    OpKind::Timer { .. }
                    | OpKind::Child { .. }
                    | OpKind::Spawn { .. }
                    | OpKind::Signal { .. }
                    | OpKind::Promise { .. },
                    _,
                ) => {}
            }
        }
        activity
    }

    /// Marks the attempts whose process has ended. `ended` tells how the process ended that wrote
    /// an event; `None` if that process may still live.
    pub fn cut_off(&mut self, ended: impl Fn(Seq) -> Option<ProcessEnd>) {
        for op in self.ops.values_mut().filter(|op| op.is_open()) {
            let Some(last) = op.attempts.last_mut() else { continue };
            if last.state == AttemptState::Running
                && let Some(by) = last.started_seq.and_then(&ended)
            {
                last.state = AttemptState::CutOff(by);
            }
        }
    }
}

#[cfg(test)]
mod tests;
