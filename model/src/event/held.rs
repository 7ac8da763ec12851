//! What `op_held` carries: the data of the input that it becomes, and which input that is.

use serde::{Deserialize, Serialize};

use super::{EventError, Reader, text};
use crate::event_data::HeldEnd;
use crate::failure::Failure;
use crate::json::Json;

/// The input that a held end becomes.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Becomes {
    StepCompleted,
    StepFailed,
    TimerFired,
    ChildCompleted,
    ChildFailed,
}

#[derive(Deserialize)]
struct BecomesData {
    becomes: Becomes,
}

/// A held end: what its input carries, and which input that is.
#[derive(Serialize)]
struct HeldData<'a> {
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
    fn of(end: &HeldEnd) -> HeldData<'_> {
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

#[derive(Deserialize)]
struct Completed {
    output: Json,
}

#[derive(Deserialize)]
struct Failed {
    error: Failure,
}

#[derive(Deserialize)]
struct Tried {
    attempt: u32,
}

#[derive(Deserialize)]
struct Attempts {
    attempts: u32,
}

/// The `data` column.
pub(super) fn data(end: &HeldEnd) -> String {
    text(&HeldData::of(end))
}

/// Reads it back.
pub(super) fn read(reader: &Reader<'_>) -> Result<HeldEnd, EventError> {
    let output = || Ok(reader.data::<Completed>()?.output);
    let error = || Ok(reader.data::<Failed>()?.error);
    let attempt = || Ok(reader.data::<Tried>()?.attempt);
    Ok(match reader.data::<BecomesData>()?.becomes {
        Becomes::StepCompleted => HeldEnd::StepCompleted { attempt: attempt()?, output: output()? },
        Becomes::StepFailed => {
            let attempts = reader.data::<Attempts>()?.attempts;
            HeldEnd::StepFailed { attempt: attempt()?, error: error()?, attempts }
        }
        Becomes::TimerFired => HeldEnd::TimerFired,
        Becomes::ChildCompleted => HeldEnd::ChildCompleted { output: output()? },
        Becomes::ChildFailed => HeldEnd::ChildFailed { error: error()? },
    })
}
