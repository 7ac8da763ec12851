//! A run and its events as they are shown: one JSON over HTTP, from `show --json`, `runs --json`
//! and `events --json`, and what the text of these commands is made of.
//!
//! A field that every run, operation or attempt gets at some time is `null` until then; one that
//! only some ever have is left out of the others. A reader ignores the fields that it does not
//! know.

mod event;
mod operation;
mod page;
mod promise;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::activity::Activity;
use crate::event_data::{BlockReason, Durability, ForkOrigin, Forked, Parent, Requester, WaitsFor};
use crate::failure::Failure;
use crate::json::Json;
use crate::lease::unix_ms;
use crate::name::{OpName, RunId};
use crate::position::{Epoch, OpId, Seq};
use crate::run_state::RunState;
use crate::run_status::RunStatus;
use crate::signal::KeptSignal;
use crate::time::Timestamp;

pub use event::{EventPage, EventView};
pub use operation::{AttemptView, Cut, Cuts, OperationView, PromiseAsked};
pub use page::{OperationPage, PageRequest, Payloads};
pub use promise::{PromisePage, PromiseView};

/// A word of the format, such as `step` or `cut_off`: a newer node may say one that this version
/// does not know.
pub type Word = Cow<'static, str>;

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Its workflow.
    pub workflow: OpName,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its last event was written.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// From its creation to its end, in milliseconds.
    ///
    /// The field is always there. A node of a version that lists runs in another shape lacks it.
    #[serde(deserialize_with = "present")]
    pub duration_ms: Option<u64>,
    /// Who started it as a child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What its code says that it is doing; `None` if it never said.
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    pub custom_status: Option<Json>,
    /// Its error, once failed or cancelled; of a long one the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Why it is blocked; of long texts the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<BlockReason>,
    /// The blocked run that it waits for, directly or through its children.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// Its place in the order of starts: the cursor of lists.
    pub seq: Seq,
    /// What its open steps do; `None` if it has none, or too long a history for a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
}

impl RunSummary {
    /// How many bytes the parts have that can be large, and some for the rest.
    pub fn bytes(&self) -> usize {
        let labels = self.labels.iter().map(|(name, value)| name.len() + value.len());
        let status = self.custom_status.as_ref().map_or(0, |status| status.as_str().len());
        let error = self.error.as_ref().map_or(0, |error| error.message.len());
        let blocked = self.blocked.as_ref().map_or(0, |blocked| blocked.why().len());
        500 + labels.sum::<usize>() + status + error + blocked
    }
}

/// A page of a list of runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunPage {
    /// The newest first.
    pub runs: Vec<RunSummary>,
    /// The `after` of the next page; `None` at the end.
    pub next: Option<Seq>,
    /// How many runs the node has of each status, whatever the list was filtered by; only on the
    /// first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RunCounts>,
}

/// How many runs there are of each status; a status that no run has is 0.
pub type RunCounts = BTreeMap<RunStatus, u64>;

/// A run with its operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunView {
    /// Its id.
    pub id: RunId,
    /// Its workflow.
    pub workflow: OpName,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its last event was written.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// From its creation to its end, in milliseconds.
    pub duration_ms: Option<u64>,
    /// How many processes have taken it up.
    pub attempt: u32,
    /// The epoch of the last of them; `None` without a sidecar.
    pub epoch: Option<Epoch>,
    /// Who started it as a child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Who started it as a run of its own, which nobody waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawned_by: Option<Parent>,
    /// Whether a child goes on by itself when its parent no longer waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outlives_parent: bool,
    /// The run whose history it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked: Option<ForkedView>,
    /// Who started it, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it is cancelled if it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When its effects may be released.
    pub durability: Durability,
    /// The version of the author's program that started it.
    pub app_version: String,
    /// Its input.
    pub input: Json,
    /// Its output, once completed.
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// Its error, once failed or cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Why it is blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<BlockReason>,
    /// Who asked it to end; `None` if nobody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelView>,
    /// Who paused it, while it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Requester>,
    /// The signals that it was sent and its code has not taken, in the order in which they arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SignalView>,
    /// What its code says that it is doing; `None` if it never said.
    #[serde(default, deserialize_with = "value", skip_serializing_if = "Option::is_none")]
    pub custom_status: Option<Json>,
    /// The blocked run that it waits for, directly or through its children.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// The event up to which it is shown.
    pub last_seq: Seq,
    /// What its open steps do; `None` if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// How many operations it has.
    pub operations_total: usize,
    /// The `after` of the next page of its operations; `None` if the last one is here.
    ///
    /// The field is always there. A node of a version that shows runs in another shape lacks it.
    #[serde(deserialize_with = "present")]
    pub operations_next: Option<OpId>,
    /// Its operations in the order of their ids, from the first.
    pub operations: Vec<OperationView>,
}

/// A cancel that a run was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CancelView {
    /// Who asked, and why.
    #[serde(flatten)]
    pub requester: Requester,
    /// When.
    pub at: Timestamp,
    /// Whether the run's code has been told: not yet, while the run cannot be taken up.
    pub observed: bool,
    /// Whether the run was ended without its code.
    pub terminated: bool,
}

/// A signal that a run's code has not taken. Its value is in the event at `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignalView {
    /// Which of the run's signals it is, from 1 in the order in which they arrived.
    pub number: u32,
    /// Its name.
    pub name: OpName,
    /// When it arrived.
    pub at: Timestamp,
    /// Its event.
    pub seq: Seq,
    /// How many bytes its value has.
    pub bytes: usize,
    /// The sender's word for this one signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who sent it, as the sender says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl SignalView {
    fn of(kept: &KeptSignal) -> SignalView {
        let KeptSignal { signal, seq, at } = kept;
        SignalView {
            number: signal.number,
            name: signal.name.clone(),
            at: *at,
            seq: *seq,
            bytes: signal.value.as_str().len(),
            key: signal.key.clone(),
            by: signal.by.clone(),
        }
    }
}

/// The run whose history a run began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForkedView {
    /// The other run.
    pub from: RunId,
    /// The first event of that run that does not belong to the history.
    pub seq: Seq,
    /// The operations whose outputs a person gave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<OpId>,
    /// Who asked for the fork, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// Where the other run was, if not in the file of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ForkOrigin>,
}

impl ForkedView {
    fn of(forked: Forked) -> ForkedView {
        let Forked { from, seq, set, requester, origin, .. } = forked;
        ForkedView { from, seq, set: set.into_keys().collect(), requester, origin }
    }
}

impl RunView {
    /// A run with the operations that are asked for.
    pub fn of(state: RunState, waits_for: Option<WaitsFor>, request: PageRequest) -> RunView {
        let page = OperationPage::of(&state, request);
        let activity = Some(state.activity()).filter(|activity| activity.open() > 0);
        let blocked = state.block_reason();
        let deadline = state.created.deadline(state.created_at);
        RunView {
            id: state.id,
            workflow: state.created.workflow,
            status: state.status,
            created_at: state.created_at,
            updated_at: state.updated_at,
            ended_at: state.ended_at,
            duration_ms: took_ms(state.created_at, state.ended_at),
            attempt: state.head.attempt,
            epoch: state.head.epoch,
            parent: state.created.parent,
            spawned_by: state.created.spawned_by,
            outlives_parent: state.created.outlives_parent,
            forked: state.created.forked.map(ForkedView::of),
            deadline,
            by: state.created.by,
            labels: state.created.labels,
            durability: state.created.durability,
            app_version: state.created.app_version,
            input: state.created.input,
            output: state.output,
            error: state.error,
            blocked,
            cancel: state.head.cancel.map(|asked| CancelView {
                requester: asked.requester,
                at: asked.at,
                observed: asked.observed,
                terminated: state.head.terminated,
            }),
            paused: state.head.paused,
            signals: state.head.signals.kept().map(SignalView::of).collect(),
            custom_status: state.head.custom_status,
            waits_for,
            last_seq: state.last_seq,
            activity,
            operations_total: state.ops.len(),
            operations_next: page.next,
            operations: page.operations,
        }
    }
}

/// How long something took that has ended, in milliseconds.
pub fn took_ms(from: Timestamp, to: Option<Timestamp>) -> Option<u64> {
    to.map(|to| unix_ms(to.since(from)))
}

/// A field that must be there, also when it is null.
fn present<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from)
}

/// A value, which may be `null`: that is not the same as none.
fn value<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests;
