//! The events of the log: the fields of each kind, and the columns of a row that hold them.
//!
//! A kind is an *input* (the run observes it), an *act* (the run did it) or an *aside* (replay
//! skips it). Kinds and optional fields may be added; none is renamed and none is used again for
//! another thing, because files of every age must stay readable.

#[macro_use]
mod declare;
mod encoded;
mod held;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event_data::{BlockReason, NodeStarted, ProcessEnd, Requester, RunCreated, Seed};
use crate::failure::Failure;
use crate::json::{Floats, Json};
use crate::name::{OpName, RunId};
use crate::position::{Epoch, OpId};
use crate::promise::{PromiseAnswer, PromiseTerms, TokenGrant};
use crate::signal::Signal;
use crate::time::Timestamp;
use declare::{Compared as _, is_default};
pub use encoded::EncodedEvent;

events! {
    /// A process opened the file for writing in a new epoch.
    NodeStarted(NodeStarted) = "node_started", Aside;
    /// A run was created with its input.
    RunCreated(Box<RunCreated>) = "run_created", Input, named workflow;
    /// The run was sent a signal, which it keeps until its code takes it.
    SignalReceived(Box<Signal>) = "signal_received", Aside, named name;
    --
    /// A process took the run up: its epoch (`None` without a sidecar) and the run's attempt
    /// from 1.
    RunStarted = "run_started", Aside, [] { epoch: Option<Epoch>, attempt: u32 };
    /// The run started a step, with its input. Its first attempt begins with this event, unless it
    /// is `queued`.
    StepStarted = "step_started", Act, [op name] {
        #[serde(default, skip_serializing_if = "is_default")]
        queued: bool [given],
        input: Json,
    };
    /// The body of an attempt begins now: a retry's, and that of an attempt that was `queued`.
    StepAttemptStarted = "step_attempt_started", Aside, [op name] { attempt: u32 };
    /// An attempt (from 1) of a step failed; the next begins at `next_at` or later. `of`: how many
    /// attempts may fail in all, unknown in events from before `step_attempt_started`.
    StepAttemptFailed = "step_attempt_failed", Aside, [op name] {
        attempt: u32,
        error: Failure,
        next_at: Timestamp,
        #[serde(default, skip_serializing_if = "is_default")]
        of: Option<u32>,
    };
    /// A step is run again as this attempt, because the process of the one before has ended; how,
    /// is unknown in old events, which mean a crash. It begins with this event, unless `queued`.
    StepRestarted = "step_restarted", Aside, [op name] {
        attempt: u32,
        #[serde(default, skip_serializing_if = "is_default")]
        after: Option<ProcessEnd>,
        #[serde(default, skip_serializing_if = "is_default")]
        queued: bool,
    };
    /// A step ended with an output.
    StepCompleted = "step_completed", Input, [op name] { output: Json };
    /// A step failed, and its attempts are used up.
    StepFailed = "step_failed", Input, [op name] { error: Failure, attempts: u32 };
    /// A step's body recorded how far it is.
    Checkpoint = "checkpoint", Aside, [op name] { attempt: u32, value: Json };
    /// The run started a timer.
    TimerStarted = "timer_started", Act, [op name] { fire_at: Timestamp [given] };
    /// A timer fired.
    TimerFired = "timer_fired", Input, [op name];
    /// The run started a child, which runs workflow `name`. `outlives_parent`: the child goes on by
    /// itself when the run no longer waits for it.
    ChildStarted = "child_started", Act, [op name] {
        child: RunId,
        input: Json,
        #[serde(default, skip_serializing_if = "is_default")]
        outlives_parent: bool [given],
    };
    /// A child ended with an output.
    ChildCompleted = "child_completed", Input, [op name] { output: Json };
    /// A child failed.
    ChildFailed = "child_failed", Input, [op name] { error: Failure };
    /// The run starts another one, of workflow `name`, which is no child of it.
    SpawnStarted = "spawn_started", Act, [op name] { run: RunId, input: Json };
    /// The other run was created, in the commit of `spawn_started`.
    SpawnCompleted = "spawn_completed", Input, [op name] { run: RunId };
    /// The other run was not created: there is a run of its id.
    SpawnFailed = "spawn_failed", Input, [op name] { error: Failure };
    /// The run began to wait for a signal of this name.
    SignalStarted = "signal_started", Act, [op name];
    /// The operation is given the oldest signal of its name, by the number that `signal_received` has.
    SignalDelivered = "signal_delivered", Input, [op name] { number: u32 };
    /// The code took the signal that its operation had been given. Without this, dropping the
    /// operation gives the signal back.
    SignalTaken = "signal_taken", Act, [op name];
    /// The run began to wait for an answer from outside.
    PromiseStarted = "promise_started", Act, [op name] { terms: Box<PromiseTerms> [given] };
    /// A token was made with which its holder can answer.
    PromiseToken = "promise_token", Aside, [op name] { grant: TokenGrant };
    /// The promise was answered. With the answer that `settles` it, the run observes its end next.
    PromiseAnswered = "promise_answered", Aside, [op name] { answer: PromiseAnswer };
    /// The promise ended with a value; that of an approval says how it ended.
    PromiseResolved = "promise_resolved", Input, [op name] { output: Json };
    /// The promise was rejected, or nobody answered in time.
    PromiseRejected = "promise_rejected", Input, [op name] { error: Failure };
    /// The run asked for the time, and this is the answer.
    Now = "now", Act, [op] { at: Timestamp [given] };
    /// The run's code says what it is doing, for people; nothing depends on the value.
    StatusSet = "status_set", Act, [op] { value: Json [given] };
    /// The run dropped an open operation: the loser of a race.
    OpDropped = "op_dropped", Act, [op];
    /// An open operation ended while its run took nothing in, because it was blocked or its process
    /// was stopping: `end` is the input that the run observes first when it is taken up, and
    /// `attempt` the one that a step's body ended with.
    OpHeld = "op_held", Aside, [op name] { attempt: Option<u32>, end: Box<Event> } by held;
    /// The run was asked to end. `resolves`: the operations that end as cancelled with this event,
    /// in the order of their ids, and how many attempts of each have failed. A step whose body runs
    /// and a child end later, by events of their own.
    CancelRequested = "cancel_requested", Input, [] {
        requester: Requester,
        #[serde(default, skip_serializing_if = "is_default")]
        resolves: BTreeMap<OpId, u32>,
    };
    /// The run was asked to end while its code could not be told, because it was blocked, paused, or
    /// had not begun; the code observes it first when the run is taken up, as `cancel_requested`.
    CancelHeld = "cancel_held", Aside, [] { requester: Requester };
    /// The acts after the last input are written in parts, and more of them follow.
    TurnParted = "turn_parted", Aside, [];
    /// The run ended with an output.
    RunCompleted = "run_completed", Act, [] { output: Json };
    /// The run ended with an error. `terminated`: a person ended it, without its code.
    RunFailed = "run_failed", Act, [] {
        error: Failure,
        #[serde(default, skip_serializing_if = "is_default")]
        terminated: bool [given],
    };
    /// The run pauses until a person fixes what the reason names.
    RunBlocked = "run_blocked", Aside, [] { reason: BlockReason };
    /// A person or a program asked the node to try a blocked run again.
    RunResumed = "run_resumed", Aside, [];
    /// What stands before is the history of run `from`, copied when this run was made of it. What the
    /// code calls from here on is the run's own, and has the random numbers of `seed`.
    RunForked = "run_forked", Aside, [] { from: RunId, seed: Seed [given] };
    /// The run starts nothing new until it is resumed.
    RunPaused = "run_paused", Aside, [] { requester: Requester };
}

/// What replay does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventClass {
    /// The run observes it: replay delivers it.
    Input,
    /// The run did it: replay compares it with what the code does now.
    Act,
    /// Neither: replay skips it.
    Aside,
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The columns of a row that an event decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns<'a> {
    /// The `kind` column.
    pub kind: &'a str,
    /// The `op` column; null for run-level events.
    pub op: Option<OpId>,
    /// The `name` column.
    pub name: Option<&'a str>,
    /// The `data` column: a JSON object, or null for kinds that carry nothing.
    pub data: Option<Cow<'a, str>>,
}

/// Why a row is not an event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The kind is of a newer version of Tidemill.
    #[error("unknown event kind `{0}`: a newer version of tidemill wrote it, use that one")]
    UnknownKind(String),
    /// A column that this kind needs is null.
    #[error("event {kind} has no {column}")]
    Missing {
        /// The event's kind.
        kind: EventKind,
        /// The column that is null.
        column: &'static str,
    },
    /// The `name` column is not a name.
    #[error("event {kind}: {source}")]
    Name {
        /// The event's kind.
        kind: EventKind,
        /// The rule that it breaks.
        source: crate::name::Invalid,
    },
    /// The kind is not the end of an operation.
    #[error("event op_held holds {0}, which ends no operation")]
    NoEnd(EventKind),
    /// The `data` column is not what this kind carries.
    #[error("event {kind} carries unreadable data: {source}")]
    Data {
        /// The event's kind.
        kind: EventKind,
        /// What serde says.
        source: serde_json::Error,
    },
}

impl Event {
    /// What replay does with the event.
    pub fn class(&self) -> EventClass {
        self.kind().class()
    }

    /// The operation that the event concerns; `None` for events of a run or a node.
    pub fn op(&self) -> Option<OpId> {
        self.keys().0
    }

    /// The name in the event's row: the operation's, or the workflow's for `run_created`.
    pub fn name(&self) -> Option<&OpName> {
        self.keys().1
    }

    /// The columns of the event's row.
    pub fn columns(&self) -> Columns<'_> {
        self.columns_with(self.data().map(Cow::Owned))
    }

    fn columns_with<'a>(&'a self, data: Option<Cow<'a, str>>) -> Columns<'a> {
        let (op, name) = self.keys();
        Columns { kind: self.kind().as_str(), op, name: name.map(OpName::as_str), data }
    }

    /// The error, of an operation or a run that failed for good.
    pub fn error(&self) -> Option<&Failure> {
        match self {
            Event::StepFailed { error, .. }
            | Event::ChildFailed { error, .. }
            | Event::SpawnFailed { error, .. }
            | Event::PromiseRejected { error, .. }
            | Event::RunFailed { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Reads the event back from its columns.
    ///
    /// # Errors
    /// [`EventError`] says which column is wrong; an unknown kind is an error of its own.
    pub fn from_columns(columns: &Columns<'_>) -> Result<Event, EventError> {
        let kind = EventKind::from_text(columns.kind)
            .ok_or_else(|| EventError::UnknownKind(columns.kind.to_owned()))?;
        Reader { kind, columns }.event()
    }
}

/// The JSON of what an event carries. All of it is our own structs of strings, numbers and checked
/// JSON, which always have a JSON form.
fn text<T: Serialize>(data: &T) -> String {
    serde_json::to_string(data).expect("an event's payload has string keys only")
}

/// Reads the columns of one kind.
struct Reader<'a> {
    kind: EventKind,
    columns: &'a Columns<'a>,
}

impl Reader<'_> {
    fn op(&self) -> Result<OpId, EventError> {
        self.columns.op.ok_or(EventError::Missing { kind: self.kind, column: "op" })
    }

    fn name(&self) -> Result<OpName, EventError> {
        let missing = EventError::Missing { kind: self.kind, column: "name" };
        OpName::new(self.columns.name.ok_or(missing)?)
            .map_err(|source| EventError::Name { kind: self.kind, source })
    }

    fn data<T: DeserializeOwned>(&self) -> Result<T, EventError> {
        let missing = EventError::Missing { kind: self.kind, column: "data" };
        serde_json::from_str(self.columns.data.as_deref().ok_or(missing)?)
            .map_err(|source| EventError::Data { kind: self.kind, source })
    }
}

#[cfg(test)]
pub(crate) mod tests;
