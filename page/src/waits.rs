//! What an unfinished run waits for, since when, and until when. Pure.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use tidemill_model::{AttemptState, Op, OpId, OpKind, OpStatus, RunState, Timestamp, Word};

use crate::words;

/// The open operation that a run waits for longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitView {
    /// The operation.
    pub op: OpId,
    /// `step`, `timer`, `child`, `signal` or `promise`.
    pub kind: Word,
    /// Its name.
    pub name: String,
    /// What it does: `running`, `queued`, `back_off`, `held`, `cut_off`, or `waiting` of what is
    /// no step.
    pub state: Word,
    /// Since when it does.
    pub since: Timestamp,
    /// Until when at least, of a timer, a back-off or a promise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// How many other operations are open.
    pub others: u64,
}

impl WaitView {
    /// What the run waits for; `None` if it has ended, or has no open operation.
    pub fn of(state: &RunState) -> Option<WaitView> {
        if state.status.is_final() {
            return None;
        }
        let open = || state.ops.iter().filter(|(_, op)| op.status == OpStatus::Open);
        let (id, op) = open().min_by_key(|(id, op)| (op.started_at, **id))?;
        let others = u64::try_from(open().count()).unwrap_or(u64::MAX).saturating_sub(1);
        let (state, since, until) = standing(op);
        Some(WaitView {
            op: *id,
            kind: op.kind.as_str().into(),
            name: op.name.to_string(),
            state: state.into(),
            since,
            until,
            others,
        })
    }

    /// As a list shows it.
    pub fn html(&self, now: Timestamp) -> Markup {
        let doing = match (self.kind.as_ref(), self.state.as_ref()) {
            ("timer", _) => "timer",
            ("child", _) => "child",
            ("signal", _) => "waits for signal",
            ("promise", _) => "waits for an answer to",
            (_, "running") => "in step",
            (_, "queued") => "queued for step",
            (_, "back_off") => "back-off of step",
            (_, "cut_off") => "cut off in step",
            (_, "held") => "has ended step",
            _ => "step",
        };
        html! {
            (doing) " " b { (self.name) } " since " (words::ago(self.since, now))
            @if let Some(until) = self.until { ", until " (words::time(until)) }
            @if self.others > 0 { span.soft { " and " (words::thousands(self.others)) " more" } }
        }
    }
}

fn standing(op: &Op) -> (&'static str, Timestamp, Option<Timestamp>) {
    let since = op.started_at;
    match &op.kind {
        OpKind::Timer { fire_at } => ("waiting", since, Some(*fire_at)),
        OpKind::Promise { terms, .. } => ("waiting", since, terms.deadline),
        OpKind::Child { .. } | OpKind::Spawn { .. } | OpKind::Signal { .. } => {
            ("waiting", since, None)
        }
        OpKind::Step { .. } => {
            let Some(attempt) = op.attempts.last() else { return ("queued", since, None) };
            let begun = attempt.started_at.unwrap_or(since);
            let failed = op.attempts.iter().rev().nth(1).and_then(|before| before.ended_at);
            match attempt.state {
                AttemptState::Waiting { until, .. } => {
                    ("back_off", failed.unwrap_or(since), Some(until))
                }
                AttemptState::Queued => ("queued", failed.unwrap_or(since), None),
                AttemptState::Held => ("held", attempt.ended_at.unwrap_or(begun), None),
                AttemptState::CutOff(_) => ("cut_off", attempt.seen_at.unwrap_or(begun), None),
                AttemptState::Running
                | AttemptState::Completed
                | AttemptState::Failed
                | AttemptState::Dropped => ("running", begun, None),
            }
        }
    }
}
