//! The events of the log: what each kind carries, and how it lies in the columns of a row.
//!
//! A kind is an *input* (the run observes it), an *act* (the run did it) or an *aside* (replay
//! skips it). Kinds and optional fields may be added; none is renamed and none is used again for
//! another thing, because files of every age must stay readable.

mod held;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event_data::{BlockReason, HeldEnd, NodeStarted, ProcessEnd, RunCreated};
use crate::failure::Failure;
use crate::json::Json;
use crate::name::{OpName, RunId};
use crate::position::{Epoch, OpId};
use crate::time::Timestamp;
use held::{Becomes, BecomesData, HeldData};

/// One event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named in each variant's own line")]
pub enum Event {
    /// A process opened the file for writing in a new epoch.
    NodeStarted(NodeStarted),
    /// A run was created with its input.
    RunCreated(Box<RunCreated>),
    /// A process took the run up: its epoch (none without a sidecar) and the run's attempt from 1.
    RunStarted { epoch: Option<Epoch>, attempt: u32 },
    /// The run started a step, with its input. Its first attempt begins with this event, unless it
    /// is `queued`.
    StepStarted { op: OpId, name: OpName, input: Json, queued: bool },
    /// The body of an attempt begins now: a retry's, and that of an attempt that was `queued`.
    StepAttemptStarted { op: OpId, name: OpName, attempt: u32 },
    /// An attempt (from 1) of a step failed; the next begins at `next_at` or later. `of`: how many
    /// attempts may fail in all, unknown in events from before `step_attempt_started`.
    StepAttemptFailed {
        op: OpId,
        name: OpName,
        attempt: u32,
        error: Failure,
        next_at: Timestamp,
        of: Option<u32>,
    },
    /// A step is run again as this attempt, because the process of the one before has ended; how,
    /// is unknown in old events, which mean a crash. It begins with this event, unless `queued`.
    StepRestarted { op: OpId, name: OpName, attempt: u32, after: Option<ProcessEnd>, queued: bool },
    /// A step ended with an output.
    StepCompleted { op: OpId, name: OpName, output: Json },
    /// A step failed for good after so many attempts.
    StepFailed { op: OpId, name: OpName, error: Failure, attempts: u32 },
    /// A step's body recorded how far it is.
    Checkpoint { op: OpId, name: OpName, attempt: u32, value: Json },
    /// The run started a timer.
    TimerStarted { op: OpId, name: OpName, fire_at: Timestamp },
    /// A timer fired.
    TimerFired { op: OpId, name: OpName },
    /// The run started a child, which runs workflow `name`.
    ChildStarted { op: OpId, name: OpName, child: RunId, input: Json },
    /// A child ended with an output.
    ChildCompleted { op: OpId, name: OpName, output: Json },
    /// A child failed.
    ChildFailed { op: OpId, name: OpName, error: Failure },
    /// The run asked for the time and was given this one.
    Now { op: OpId, at: Timestamp },
    /// The run dropped an open operation: the loser of a race.
    OpDropped { op: OpId },
    /// An open operation ended while its run took nothing in, because it was blocked or its process
    /// was stopping. The run observes it first of all when it goes on.
    OpHeld { op: OpId, name: OpName, end: HeldEnd },
    /// The run ended with an output.
    RunCompleted { output: Json },
    /// The run ended with an error.
    RunFailed { error: Failure },
    /// The run cannot go on until somebody mends what the reason names.
    RunBlocked { reason: BlockReason },
    /// Somebody asked for a blocked run to be tried again.
    RunResumed,
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

/// Declares the kinds once: variant, stored name, class.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident, $text:literal, $class:ident;)*) => {
        /// The kind of an event, whose text is the `kind` column.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $(#[doc = concat!("`", $text, "`.")] $variant,)*
        }

        impl EventKind {
            /// Every kind.
            pub const ALL: &[EventKind] = &[$(EventKind::$variant,)*];

            /// The text of the `kind` column.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(EventKind::$variant => $text,)*
                }
            }

            /// What replay does with events of this kind.
            pub fn class(self) -> EventClass {
                match self {
                    $(EventKind::$variant => EventClass::$class,)*
                }
            }

            /// The kind with this text, if this version knows it.
            pub fn from_text(text: &str) -> Option<EventKind> {
                match text {
                    $($text => Some(EventKind::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    NodeStarted, "node_started", Aside;
    RunCreated, "run_created", Input;
    RunStarted, "run_started", Aside;
    StepStarted, "step_started", Act;
    StepAttemptStarted, "step_attempt_started", Aside;
    StepAttemptFailed, "step_attempt_failed", Aside;
    StepRestarted, "step_restarted", Aside;
    StepCompleted, "step_completed", Input;
    StepFailed, "step_failed", Input;
    Checkpoint, "checkpoint", Aside;
    TimerStarted, "timer_started", Act;
    TimerFired, "timer_fired", Input;
    ChildStarted, "child_started", Act;
    ChildCompleted, "child_completed", Input;
    ChildFailed, "child_failed", Input;
    Now, "now", Act;
    OpDropped, "op_dropped", Act;
    OpHeld, "op_held", Aside;
    RunCompleted, "run_completed", Act;
    RunFailed, "run_failed", Act;
    RunBlocked, "run_blocked", Aside;
    RunResumed, "run_resumed", Aside;
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
    pub data: Option<std::borrow::Cow<'a, str>>,
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
    /// The `data` column is not what this kind carries.
    #[error("event {kind} carries unreadable data: {source}")]
    Data {
        /// The event's kind.
        kind: EventKind,
        /// What serde says.
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct RunStartedData {
    epoch: Option<Epoch>,
    attempt: u32,
}

#[derive(Serialize, Deserialize)]
struct StepStartedData {
    #[serde(default, skip_serializing_if = "is_false")]
    queued: bool,
    input: Json,
}

#[derive(Serialize, Deserialize)]
struct AttemptFailedData {
    attempt: u32,
    error: Failure,
    next_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct RestartedData {
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<ProcessEnd>,
    #[serde(default, skip_serializing_if = "is_false")]
    queued: bool,
}

#[derive(Serialize, Deserialize)]
struct AttemptData {
    attempt: u32,
}

#[derive(Serialize, Deserialize)]
struct StepFailedData {
    error: Failure,
    attempts: u32,
}

#[derive(Serialize, Deserialize)]
struct OutputData {
    output: Json,
}

#[derive(Serialize, Deserialize)]
struct CheckpointData {
    attempt: u32,
    value: Json,
}

#[derive(Serialize, Deserialize)]
struct ChildStartedData {
    child: RunId,
    input: Json,
}

#[derive(Serialize, Deserialize)]
struct ErrorData {
    error: Failure,
}

#[derive(Serialize, Deserialize)]
struct FireData {
    fire_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct NowData {
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct ReasonData {
    reason: BlockReason,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// The JSON of what an event carries. All of it is our own structs of strings, numbers and checked
/// JSON, which always have a JSON form.
fn json<T: Serialize>(data: &T) -> Option<String> {
    Some(serde_json::to_string(data).expect("an event's payload has string keys only"))
}

/// `{"field":value}`, without parsing `value`: it was checked when it was made, and this is the
/// path of every step.
fn one_field(field: &str, value: &Json) -> Option<String> {
    let value = value.as_str();
    let mut text = String::with_capacity(field.len() + value.len() + 5);
    text.push_str("{\"");
    text.push_str(field);
    text.push_str("\":");
    text.push_str(value);
    text.push('}');
    Some(text)
}

impl Event {
    /// The event's kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Event::NodeStarted(_) => EventKind::NodeStarted,
            Event::RunCreated(_) => EventKind::RunCreated,
            Event::RunStarted { .. } => EventKind::RunStarted,
            Event::StepStarted { .. } => EventKind::StepStarted,
            Event::StepAttemptStarted { .. } => EventKind::StepAttemptStarted,
            Event::StepAttemptFailed { .. } => EventKind::StepAttemptFailed,
            Event::StepRestarted { .. } => EventKind::StepRestarted,
            Event::StepCompleted { .. } => EventKind::StepCompleted,
            Event::StepFailed { .. } => EventKind::StepFailed,
            Event::Checkpoint { .. } => EventKind::Checkpoint,
            Event::TimerStarted { .. } => EventKind::TimerStarted,
            Event::TimerFired { .. } => EventKind::TimerFired,
            Event::ChildStarted { .. } => EventKind::ChildStarted,
            Event::ChildCompleted { .. } => EventKind::ChildCompleted,
            Event::ChildFailed { .. } => EventKind::ChildFailed,
            Event::Now { .. } => EventKind::Now,
            Event::OpDropped { .. } => EventKind::OpDropped,
            Event::OpHeld { .. } => EventKind::OpHeld,
            Event::RunCompleted { .. } => EventKind::RunCompleted,
            Event::RunFailed { .. } => EventKind::RunFailed,
            Event::RunBlocked { .. } => EventKind::RunBlocked,
            Event::RunResumed => EventKind::RunResumed,
        }
    }

    /// What replay does with the event.
    pub fn class(&self) -> EventClass {
        self.kind().class()
    }

    /// The operation that the event concerns; none for events of a run or a node.
    pub fn op(&self) -> Option<OpId> {
        match self {
            Event::StepStarted { op, .. }
            | Event::StepAttemptStarted { op, .. }
            | Event::StepAttemptFailed { op, .. }
            | Event::StepRestarted { op, .. }
            | Event::StepCompleted { op, .. }
            | Event::StepFailed { op, .. }
            | Event::Checkpoint { op, .. }
            | Event::TimerStarted { op, .. }
            | Event::TimerFired { op, .. }
            | Event::ChildStarted { op, .. }
            | Event::ChildCompleted { op, .. }
            | Event::ChildFailed { op, .. }
            | Event::Now { op, .. }
            | Event::OpDropped { op }
            | Event::OpHeld { op, .. } => Some(*op),
            Event::NodeStarted(_)
            | Event::RunCreated(_)
            | Event::RunStarted { .. }
            | Event::RunCompleted { .. }
            | Event::RunFailed { .. }
            | Event::RunBlocked { .. }
            | Event::RunResumed => None,
        }
    }

    /// The name in the event's row: the operation's, or the workflow's for `run_created`.
    pub fn name(&self) -> Option<&OpName> {
        match self {
            Event::RunCreated(created) => Some(&created.workflow),
            Event::StepStarted { name, .. }
            | Event::StepAttemptStarted { name, .. }
            | Event::StepAttemptFailed { name, .. }
            | Event::StepRestarted { name, .. }
            | Event::StepCompleted { name, .. }
            | Event::StepFailed { name, .. }
            | Event::Checkpoint { name, .. }
            | Event::TimerStarted { name, .. }
            | Event::TimerFired { name, .. }
            | Event::ChildStarted { name, .. }
            | Event::ChildCompleted { name, .. }
            | Event::ChildFailed { name, .. }
            | Event::OpHeld { name, .. } => Some(name),
            Event::NodeStarted(_)
            | Event::RunStarted { .. }
            | Event::Now { .. }
            | Event::OpDropped { .. }
            | Event::RunCompleted { .. }
            | Event::RunFailed { .. }
            | Event::RunBlocked { .. }
            | Event::RunResumed => None,
        }
    }

    /// The columns of the event's row.
    pub fn columns(&self) -> Columns<'_> {
        Columns {
            kind: self.kind().as_str(),
            op: self.op(),
            name: self.name().map(OpName::as_str),
            data: self.data().map(std::borrow::Cow::Owned),
        }
    }

    fn data(&self) -> Option<String> {
        match self {
            Event::NodeStarted(data) => json(data),
            Event::RunCreated(data) => json(data),
            Event::RunStarted { epoch, attempt } => {
                json(&RunStartedData { epoch: *epoch, attempt: *attempt })
            }
            Event::StepStarted { input, queued: false, .. } => one_field("input", input),
            Event::StepStarted { input, queued: true, .. } => {
                json(&StepStartedData { queued: true, input: input.clone() })
            }
            Event::StepAttemptStarted { attempt, .. } => json(&AttemptData { attempt: *attempt }),
            Event::StepAttemptFailed { attempt, error, next_at, of, .. } => {
                json(&AttemptFailedData {
                    attempt: *attempt,
                    error: error.clone(),
                    next_at: *next_at,
                    of: *of,
                })
            }
            Event::StepRestarted { attempt, after, queued, .. } => {
                json(&RestartedData { attempt: *attempt, after: *after, queued: *queued })
            }
            Event::StepCompleted { output, .. }
            | Event::ChildCompleted { output, .. }
            | Event::RunCompleted { output } => one_field("output", output),
            Event::StepFailed { error, attempts, .. } => {
                json(&StepFailedData { error: error.clone(), attempts: *attempts })
            }
            Event::Checkpoint { attempt, value, .. } => {
                json(&CheckpointData { attempt: *attempt, value: value.clone() })
            }
            Event::TimerStarted { fire_at, .. } => json(&FireData { fire_at: *fire_at }),
            Event::ChildStarted { child, input, .. } => {
                json(&ChildStartedData { child: child.clone(), input: input.clone() })
            }
            Event::ChildFailed { error, .. } | Event::RunFailed { error } => {
                json(&ErrorData { error: error.clone() })
            }
            Event::Now { at, .. } => json(&NowData { at: *at }),
            Event::OpHeld { end, .. } => json(&HeldData::of(end)),
            Event::RunBlocked { reason } => json(&ReasonData { reason: reason.clone() }),
            Event::TimerFired { .. } | Event::OpDropped { .. } | Event::RunResumed => None,
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

    fn event(&self) -> Result<Event, EventError> {
        match self.kind {
            EventKind::NodeStarted => Ok(Event::NodeStarted(self.data()?)),
            EventKind::RunCreated => Ok(Event::RunCreated(self.data()?)),
            EventKind::RunStarted => {
                let RunStartedData { epoch, attempt } = self.data()?;
                Ok(Event::RunStarted { epoch, attempt })
            }
            EventKind::RunCompleted => {
                Ok(Event::RunCompleted { output: self.data::<OutputData>()?.output })
            }
            EventKind::RunFailed => Ok(Event::RunFailed { error: self.data::<ErrorData>()?.error }),
            EventKind::RunBlocked => {
                Ok(Event::RunBlocked { reason: self.data::<ReasonData>()?.reason })
            }
            EventKind::RunResumed => Ok(Event::RunResumed),
            EventKind::StepStarted
            | EventKind::StepAttemptStarted
            | EventKind::StepAttemptFailed
            | EventKind::StepRestarted
            | EventKind::StepCompleted
            | EventKind::StepFailed
            | EventKind::Checkpoint => self.step_event(),
            EventKind::TimerStarted
            | EventKind::TimerFired
            | EventKind::ChildStarted
            | EventKind::ChildCompleted
            | EventKind::ChildFailed
            | EventKind::Now
            | EventKind::OpDropped
            | EventKind::OpHeld => self.wait_event(),
        }
    }

    fn step_event(&self) -> Result<Event, EventError> {
        let (op, name) = (self.op()?, self.name()?);
        Ok(match self.kind {
            EventKind::StepStarted => {
                let StepStartedData { queued, input } = self.data()?;
                Event::StepStarted { op, name, input, queued }
            }
            EventKind::StepAttemptStarted => {
                Event::StepAttemptStarted { op, name, attempt: self.data::<AttemptData>()?.attempt }
            }
            EventKind::StepAttemptFailed => {
                let AttemptFailedData { attempt, error, next_at, of } = self.data()?;
                Event::StepAttemptFailed { op, name, attempt, error, next_at, of }
            }
            EventKind::StepRestarted => {
                let RestartedData { attempt, after, queued } = self.data()?;
                Event::StepRestarted { op, name, attempt, after, queued }
            }
            EventKind::StepCompleted => {
                Event::StepCompleted { op, name, output: self.data::<OutputData>()?.output }
            }
            EventKind::StepFailed => {
                let StepFailedData { error, attempts } = self.data()?;
                Event::StepFailed { op, name, error, attempts }
            }
            EventKind::Checkpoint => {
                let CheckpointData { attempt, value } = self.data()?;
                Event::Checkpoint { op, name, attempt, value }
            }
            other => unreachable!("{other} is not an event of a step"),
        })
    }

    fn wait_event(&self) -> Result<Event, EventError> {
        let op = self.op()?;
        Ok(match self.kind {
            EventKind::TimerStarted => {
                let fire_at = self.data::<FireData>()?.fire_at;
                Event::TimerStarted { op, name: self.name()?, fire_at }
            }
            EventKind::TimerFired => Event::TimerFired { op, name: self.name()? },
            EventKind::ChildStarted => {
                let ChildStartedData { child, input } = self.data()?;
                Event::ChildStarted { op, name: self.name()?, child, input }
            }
            EventKind::ChildCompleted => {
                let output = self.data::<OutputData>()?.output;
                Event::ChildCompleted { op, name: self.name()?, output }
            }
            EventKind::ChildFailed => {
                let error = self.data::<ErrorData>()?.error;
                Event::ChildFailed { op, name: self.name()?, error }
            }
            EventKind::Now => Event::Now { op, at: self.data::<NowData>()?.at },
            EventKind::OpDropped => Event::OpDropped { op },
            EventKind::OpHeld => Event::OpHeld { op, name: self.name()?, end: self.held_end()? },
            other => unreachable!("{other} is not an event of a timer, child or marker"),
        })
    }

    fn held_end(&self) -> Result<HeldEnd, EventError> {
        let attempt = || Ok(self.data::<AttemptData>()?.attempt);
        Ok(match self.data::<BecomesData>()?.becomes {
            Becomes::StepCompleted => {
                let output = self.data::<OutputData>()?.output;
                HeldEnd::StepCompleted { attempt: attempt()?, output }
            }
            Becomes::StepFailed => {
                let StepFailedData { error, attempts } = self.data()?;
                HeldEnd::StepFailed { attempt: attempt()?, error, attempts }
            }
            Becomes::TimerFired => HeldEnd::TimerFired,
            Becomes::ChildCompleted => {
                HeldEnd::ChildCompleted { output: self.data::<OutputData>()?.output }
            }
            Becomes::ChildFailed => HeldEnd::ChildFailed { error: self.data::<ErrorData>()?.error },
        })
    }
}

#[cfg(test)]
mod tests;
