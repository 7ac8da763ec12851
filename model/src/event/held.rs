//! What `op_held` carries: the data of the input that it becomes, and which input that is.

use serde::{Deserialize, Serialize};

use crate::event_data::HeldEnd;
use crate::failure::Failure;
use crate::json::Json;

/// The input that a held end becomes.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Becomes {
    StepCompleted,
    StepFailed,
    TimerFired,
    ChildCompleted,
    ChildFailed,
}

#[derive(Deserialize)]
pub(super) struct BecomesData {
    pub(super) becomes: Becomes,
}

/// A held end: what its input carries, and which input that is.
#[derive(Serialize)]
pub(super) struct HeldData<'a> {
    becomes: Becomes,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
}

impl HeldData<'_> {
    pub(super) fn of(end: &HeldEnd) -> HeldData<'_> {
        let (becomes, attempt, attempts, output) = match end {
            HeldEnd::StepCompleted { attempt, output } => {
                (Becomes::StepCompleted, Some(*attempt), None, Some(output))
            }
            HeldEnd::StepFailed { attempt, attempts, .. } => {
                (Becomes::StepFailed, Some(*attempt), Some(*attempts), None)
            }
            HeldEnd::TimerFired => (Becomes::TimerFired, None, None, None),
            HeldEnd::ChildCompleted { output } => {
                (Becomes::ChildCompleted, None, None, Some(output))
            }
            HeldEnd::ChildFailed { .. } => (Becomes::ChildFailed, None, None, None),
        };
        HeldData { becomes, attempt, output, error: end.error(), attempts }
    }
}
