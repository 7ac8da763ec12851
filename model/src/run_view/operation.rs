//! The JSON of one operation of a run, whole or with only the heads of large values.

use serde::{Deserialize, Serialize};

use super::{RunView, Word, took_ms, value};
use crate::attempts::Attempt;
use crate::event_data::ProcessEnd;
use crate::failure::{Failure, head};
use crate::json::Json;
use crate::limits::PAYLOAD_LISTED_BYTES_MAX;
use crate::name::{OpName, RunId};
use crate::operation::{Op, OpKind, OpStatus};
use crate::position::OpId;
use crate::promise::{AnswerNote, ApprovalRule, GivenAnswer, PromiseTerms};
use crate::time::Timestamp;

/// An operation of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OperationView {
    /// Its number in its run.
    pub op: OpId,
    /// `step`, `timer`, `child`, `spawn`, `signal` or `promise`.
    pub kind: Word,
    /// The step's, timer's or child workflow's name.
    pub name: OpName,
    /// `open`, `completed`, `failed` or `dropped`.
    pub status: Word,
    /// It ended and its run has not observed that yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// From its start to its end, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What a step, a child or the run of a spawn was given.
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
    /// Its output, once completed.
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// Its error, once failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// When a timer fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fire_at: Option<Timestamp>,
    /// The run that a child is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<RunId>,
    /// The run that a spawn starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawned: Option<RunId>,
    /// Whether a child goes on by itself when its run no longer waits for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub outlives_parent: bool,
    /// What a promise asks, and what it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Box<PromiseAsked>>,
    /// The attempts of a step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
    /// How many checkpoints a step recorded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub checkpoints: usize,
    /// The value of the last of them.
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<Json>,
    /// What is too large for a list.
    #[serde(default, skip_serializing_if = "Cuts::is_empty")]
    pub cut: Cuts,
    /// Where the node has the whole operation, if anything of it is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<String>,
    /// The run that a child is, where children are shown too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_run: Option<Box<RunView>>,
}

/// What a promise asks, and what it was answered; the values are in the events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromiseAsked {
    /// The question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// From this moment on no answer is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Who may approve, and how many must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
    /// The answers, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<AnswerNote>,
}

impl PromiseAsked {
    fn of(op: &Op) -> Option<Box<PromiseAsked>> {
        let OpKind::Promise { terms, answers } = &op.kind else { return None };
        let PromiseTerms { message, deadline, approval, .. } = (**terms).clone();
        let answers = answers.iter().map(GivenAnswer::note).collect();
        Some(Box::new(PromiseAsked { message, deadline, approval, answers }))
    }
}

/// An attempt of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttemptView {
    /// Its number, from 1.
    pub number: u32,
    /// `waiting`, `queued`, `running`, `held`, `completed`, `failed`, `cut_off` or `dropped`.
    pub state: Word,
    /// When its body began. `None` before that, and if the log does not know.
    pub started_at: Option<Timestamp>,
    /// When it was last heard of: it began or recorded a checkpoint.
    pub seen_at: Option<Timestamp>,
    /// When it ended. `None` before that, and for one that was cut off: the log does not know.
    pub ended_at: Option<Timestamp>,
    /// From its beginning to its end, in milliseconds, if the log knows both.
    pub duration_ms: Option<u64>,
    /// When a waiting attempt begins at the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The number of the last attempt that can follow a waiting one, counting itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// How the process ended that cut it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_off_by: Option<ProcessEnd>,
    /// Its error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What of it is too large for a list.
    #[serde(default, skip_serializing_if = "Cuts::is_empty")]
    pub cut: Cuts,
    /// How the process of the attempt before this one ended, if it was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<ProcessEnd>,
    /// Whether that was a crash.
    pub after_crash: bool,
}

/// What stands in the place of the fields that are too large for a list. A value that is cut is
/// left out; an error that is cut keeps its kind and the head of its message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cuts {
    /// Of `input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Cut>,
    /// Of `output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Cut>,
    /// Of `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Cut>,
    /// Of `last_checkpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<Cut>,
}

/// A value that is too large for a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cut {
    /// The size of the whole as JSON.
    pub bytes: usize,
    /// How the whole begins: of a value its JSON, of an error its message.
    pub head: String,
}

impl Cuts {
    /// Nothing is cut.
    pub fn is_empty(&self) -> bool {
        *self == Cuts::default()
    }
}

impl OperationView {
    /// An operation with all of its payloads.
    pub fn whole(id: OpId, op: &Op) -> OperationView {
        let (output, error) = match &op.status {
            OpStatus::Completed(output) => (Some(output.clone()), None),
            OpStatus::Failed(error) => (None, Some(error.clone())),
            OpStatus::Cancelled(error) => (None, error.clone()),
            OpStatus::Open | OpStatus::Dropped => (None, None),
        };
        let (input, fire_at) = match &op.kind {
            OpKind::Step { input } | OpKind::Child { input, .. } | OpKind::Spawn { input, .. } => {
                (Some(input.clone()), None)
            }
            OpKind::Timer { fire_at } => (None, Some(*fire_at)),
            OpKind::Signal { .. } | OpKind::Promise { .. } => (None, None),
        };
        let (child, outlives_parent) = match &op.kind {
            OpKind::Child { child, outlives_parent, .. } => (Some(child.clone()), *outlives_parent),
            _ => (None, false),
        };
        let spawned = match &op.kind {
            OpKind::Spawn { run, .. } => Some(run.clone()),
            _ => None,
        };
        OperationView {
            op: id,
            kind: op.kind.as_str().into(),
            name: op.name.clone(),
            status: op.status.as_str().into(),
            held: op.held.is_some(),
            started_at: op.started_at,
            ended_at: op.ended_at,
            duration_ms: took_ms(op.started_at, op.ended_at),
            input,
            output,
            error,
            fire_at,
            child,
            spawned,
            outlives_parent,
            promise: PromiseAsked::of(op),
            attempts: op.attempts.iter().map(AttemptView::of).collect(),
            checkpoints: op.checkpoints.len(),
            last_checkpoint: op.checkpoints.last().map(|checkpoint| checkpoint.value.clone()),
            cut: Cuts::default(),
            whole: None,
            child_run: None,
        }
    }

    /// An operation for a list, with only the heads of large values.
    pub fn listed(run: &RunId, id: OpId, op: &Op) -> OperationView {
        let mut view = OperationView::whole(id, op);
        view.cut = Cuts {
            input: cut_value(&mut view.input),
            output: cut_value(&mut view.output),
            error: cut_error(&mut view.error),
            last_checkpoint: cut_value(&mut view.last_checkpoint),
        };
        for attempt in &mut view.attempts {
            attempt.cut.error = cut_error(&mut attempt.error);
        }
        let is_cut = |cut: &Cuts| !cut.is_empty();
        if is_cut(&view.cut) || view.attempts.iter().any(|attempt| is_cut(&attempt.cut)) {
            view.whole = Some(format!("/v1/runs/{run}/operations/{id}"));
        }
        view
    }

    /// About how large it is as JSON: its payloads, and some 200 bytes for each of the rest.
    pub(super) fn bytes(&self) -> usize {
        let json = |value: &Option<Json>| value.as_ref().map_or(0, |value| value.as_str().len());
        let error = |error: &Option<Failure>| error.as_ref().map_or(0, failure_bytes);
        let attempts: usize = self.attempts.iter().map(|it| 200 + error(&it.error)).sum();
        let values = json(&self.input) + json(&self.output) + json(&self.last_checkpoint);
        200 + values + error(&self.error) + attempts
    }
}

impl AttemptView {
    fn of(attempt: &Attempt) -> AttemptView {
        AttemptView {
            number: attempt.number,
            state: attempt.state.as_str().into(),
            started_at: attempt.started_at,
            seen_at: attempt.seen_at,
            ended_at: attempt.ended_at,
            duration_ms: attempt.started_at.and_then(|from| took_ms(from, attempt.ended_at)),
            until: attempt.state.until(),
            of: attempt.state.of(),
            cut_off_by: attempt.state.cut_off_by(),
            error: attempt.error.clone(),
            cut: Cuts::default(),
            after: attempt.after,
            after_crash: attempt.after == Some(ProcessEnd::Crash),
        }
    }
}

fn cut_value(value: &mut Option<Json>) -> Option<Cut> {
    let large = value.take_if(|value| value.as_str().len() > PAYLOAD_LISTED_BYTES_MAX)?;
    Some(Cut { bytes: large.as_str().len(), head: head(large.as_str()) })
}

fn cut_error(error: &mut Option<Failure>) -> Option<Cut> {
    let error = error.as_mut().filter(|error| failure_bytes(error) > PAYLOAD_LISTED_BYTES_MAX)?;
    let bytes = serde_json::to_string(error).map_or_else(|_| failure_bytes(error), |it| it.len());
    error.message = head(&error.message);
    error.chain.clear();
    Some(Cut { bytes, head: error.message.clone() })
}

fn failure_bytes(error: &Failure) -> usize {
    error.message.len() + error.chain.iter().map(String::len).sum::<usize>()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
