//! What `op_held` carries: the data of the input that it becomes, preceded by which input that is.

use serde::Deserialize;

use super::{Event, EventClass, EventError, EventKind, Reader};
use crate::event::Columns;

#[derive(Deserialize)]
struct Becomes {
    becomes: String,
}

/// A later version may hold the ends of other operations, which have no attempt.
#[derive(Deserialize)]
struct HeldAttempt {
    #[serde(default)]
    attempt: Option<u32>,
}

/// The fields that [`data`] adds to those of the end.
#[cfg(test)]
pub(super) const FIELDS: &[&str] = &["becomes", "attempt?"];

/// The `data` column.
pub(super) fn data(attempt: &Option<u32>, end: &Event) -> String {
    let mut text = format!(r#"{{"becomes":"{}""#, end.kind());
    if let Some(attempt) = attempt {
        text.push_str(&format!(r#","attempt":{attempt}"#));
    }
    match end.data().as_deref().and_then(|data| data.strip_prefix('{')) {
        None | Some("}") => text.push('}'),
        Some(fields) => {
            text.push(',');
            text.push_str(fields);
        }
    }
    text
}

/// Reads it back.
pub(super) fn read(reader: &Reader<'_>) -> Result<(Option<u32>, Box<Event>), EventError> {
    let Becomes { becomes } = reader.data()?;
    let columns = Columns { kind: &becomes, ..reader.columns.clone() };
    let end = Event::from_columns(&columns)?;
    if end.class() != EventClass::Input || end.op().is_none() {
        return Err(EventError::NoEnd(end.kind()));
    }
    let HeldAttempt { attempt } = reader.data()?;
    let is_step = matches!(end, Event::StepCompleted { .. } | Event::StepFailed { .. });
    if is_step && attempt.is_none() {
        return Err(EventError::Missing { kind: EventKind::OpHeld, column: "data.attempt" });
    }
    Ok((attempt, Box::new(end)))
}
