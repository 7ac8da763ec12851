//! What a run is doing, in one word.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::Invalid;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RunStatus {
    /// Created; no process has taken it up yet.
    Pending,
    /// At least one step is open, or the driver is about to poll the workflow.
    Running,
    /// Everything that is open waits for time, a signal or a child.
    Suspended,
    /// A person asked it to start nothing new.
    Paused,
    /// It was asked to end: its code cleans up, or bodies of its steps still run.
    Cancelling,
    /// It pauses until a person fixes the cause.
    Blocked,
    /// It ended with an output.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [RunStatus; 9] = [
        RunStatus::Pending,
        RunStatus::Running,
        RunStatus::Suspended,
        RunStatus::Paused,
        RunStatus::Cancelling,
        RunStatus::Blocked,
        RunStatus::Completed,
        RunStatus::Failed,
        RunStatus::Cancelled,
    ];

    /// The status of a run that was taken up and has not ended, from what it has open: a run that
    /// only waits is suspended.
    pub fn active(steps_open: usize, waits_open: usize) -> RunStatus {
        if steps_open == 0 && waits_open > 0 { RunStatus::Suspended } else { RunStatus::Running }
    }

    /// The text of the `status` column.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Pending => "pending",
            RunStatus::Running => "running",
            RunStatus::Suspended => "suspended",
            RunStatus::Paused => "paused",
            RunStatus::Cancelling => "cancelling",
            RunStatus::Blocked => "blocked",
            RunStatus::Completed => "completed",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        }
    }

    /// Whether the run has ended.
    pub fn is_final(self) -> bool {
        match self {
            RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled => true,
            RunStatus::Pending
            | RunStatus::Running
            | RunStatus::Suspended
            | RunStatus::Paused
            | RunStatus::Cancelling
            | RunStatus::Blocked => false,
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RunStatus {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<RunStatus, Invalid> {
        let rule = "use pending, running, suspended, paused, cancelling, blocked, completed, failed or \
                    cancelled";
        let found = RunStatus::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| Invalid::new("run status", text, rule))
    }
}
