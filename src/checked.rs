//! What a program's `check --json` says of a run: one line of JSON.
//!
//! The program may have been built with an earlier or a later version of Tidemill, so what is not
//! known is left out and what is missing is `None`.

use serde::{Deserialize, Serialize};

/// A line of `check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) run: String,
    #[serde(default)]
    pub(crate) workflow: String,
    /// How many events the run's log has.
    #[serde(default)]
    pub(crate) events: u64,
    pub(crate) agrees: bool,
    /// Where the code and the log differ; `None` if they agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) divergence: Option<Divergence>,
    /// The event of the log at which they part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    /// Where the call is that asks for something else, such as `src/main.rs:42:9`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// Where the code waits, if it asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_at: Option<String>,
}

/// What the log has, and what the code asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Divergence {
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) op: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logged: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<String>,
    pub(crate) advice: String,
}
