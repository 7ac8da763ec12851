//! An event as it is shown: one JSON over HTTP, as a page and as a stream, and from
//! `events --json`.

use serde::{Deserialize, Serialize};

use crate::json::Json;
use crate::name::RunId;
use crate::position::{LogSum, OpId, Seq};
use crate::time::Timestamp;

/// One event, whether or not this version knows its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventView {
    /// Its position.
    pub seq: Seq,
    /// When it was written.
    pub ts: Timestamp,
    /// The run; `None` for events of the node.
    pub run: Option<RunId>,
    /// The text of its kind, which may be of a newer version.
    pub kind: String,
    /// The operation that it concerns.
    pub op: Option<OpId>,
    /// The operation's name, or the workflow's.
    pub name: Option<String>,
    /// What its kind carries; text that is no JSON is shown as a string.
    pub data: Option<Json>,
    /// The running checksum: with the row before, it proves this one.
    pub sum: LogSum,
}

/// A page of a run's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventPage {
    /// In the order of the log.
    pub events: Vec<EventView>,
    /// The `after` of the next page; `None` if there are no further events yet.
    pub next: Option<Seq>,
}
