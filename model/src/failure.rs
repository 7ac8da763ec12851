//! The recorded failure of an operation or a run.

use serde::{Deserialize, Serialize};

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The body returned an error, or panicked, in its last attempt.
    Failed,
    /// The last attempt took longer than its timeout.
    TimedOut,
    /// An at-most-once body was started and its end is not known.
    Interrupted,
    /// It was cancelled.
    Cancelled,
}

/// An error as it is recorded: its kind, its message, and the messages of its sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it was.
    pub kind: FailureKind,
    /// The error's own message.
    pub message: String,
    /// The messages of its sources, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
}
