//! Whether two events are the same to a replay. Pure.

use serde::{Deserialize, Serialize};
use tidemill_eventlog::Row;
use tidemill_model::{Event, EventClass, Floats, Json, OpId, RunId};

/// In what two events differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// One history ends before the other.
    End,
    /// The kind.
    Kind,
    /// The operation's number.
    Op,
    /// The name.
    Name,
    /// What the event carries.
    Payload,
}

/// What two events at the same place are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Same,
    /// A replay would take both, but they bring something else.
    OtherPayload,
    Diverged(What),
}

/// Compares an event of a run with that of another one at the same place.
pub(super) fn compare(a: &Row, b: &Row, runs: (&RunId, &RunId)) -> Compared {
    if a.kind != b.kind {
        return Compared::Diverged(What::Kind);
    }
    if a.op != b.op {
        return Compared::Diverged(What::Op);
    }
    if a.name != b.name {
        return Compared::Diverged(What::Name);
    }
    match (a.event(), b.event()) {
        (Ok(first), Ok(second)) => events(&first, second, runs),
        // Of a newer version, or damaged: what they carry is all there is to compare.
        (Ok(_) | Err(_), Ok(_) | Err(_)) if same_data(a, b) => Compared::Same,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Compared::Diverged(What::Payload),
    }
}

fn events(a: &Event, b: Event, runs: (&RunId, &RunId)) -> Compared {
    let payload = |same: bool| if same { Compared::Same } else { Compared::OtherPayload };
    match (a, b) {
        (Event::RunCreated(a), Event::RunCreated(b)) => payload(a.input.same(&b.input)),
        (a, b) if a.class() == EventClass::Act => {
            match a.is_same_act(&as_of(b, runs), Floats::Exact) {
                true => Compared::Same,
                false => Compared::Diverged(What::Payload),
            }
        }
        (a, b @ Event::SpawnCompleted { .. }) => payload(*a == as_of(b, runs)),
        (a, b) => payload(same_text(a.columns().data.as_deref(), b.columns().data.as_deref())),
    }
}

/// The second run's event with the id of a run that it started which the first run's would have.
fn as_of(event: Event, (a, b): (&RunId, &RunId)) -> Event {
    match event {
        Event::ChildStarted { op, name, child, input, outlives_parent } => {
            let child = id_as_of(child, op, (a, b));
            Event::ChildStarted { op, name, child, input, outlives_parent }
        }
        Event::SpawnStarted { op, name, run, input } => {
            let run = id_as_of(run, op, (a, b));
            Event::SpawnStarted { op, name, run, input }
        }
        Event::SpawnCompleted { op, name, run } => {
            let run = id_as_of(run, op, (a, b));
            Event::SpawnCompleted { op, name, run }
        }
        event => event,
    }
}

fn id_as_of(started: RunId, op: OpId, (a, b): (&RunId, &RunId)) -> RunId {
    match (a.child(op), b.child(op)) {
        (Ok(of_a), Ok(of_b)) if started == of_b => of_a,
        _ => started,
    }
}

fn same_data(a: &Row, b: &Row) -> bool {
    same_text(a.data.as_deref(), b.data.as_deref())
}

/// Whether two texts of JSON mean the same.
pub(super) fn same_text(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) if a != b => {
            Json::parse(a).is_ok_and(|a| Json::parse(b).is_ok_and(|b| a.same(&b)))
        }
        (a, b) => a == b,
    }
}
