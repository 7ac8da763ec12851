//! Two runs beside each other, or one run at two moments: from which event on their histories
//! differ, and what differs in inputs, outputs and operations.
//!
//! Histories are compared as a replay compares them: the inputs and acts in log order, each by its
//! kind, operation and name, and an act by what it was given as well. What an input brought, such
//! as the output of a step, may differ without a divergence; the first such difference is said by
//! itself. An id of a child that follows from its parent's id is no difference.

mod divergence;
mod fields;
mod html;
mod operations;
mod read;
#[cfg(test)]
mod tests;

use maud::Markup;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::Result;
use tidemill_model::{OpName, RunId, RunStatus, Seq, Timestamp};

use crate::{Params, Site};

pub use divergence::What;
pub use fields::{Field, Fields};
pub use operations::{OpOfSide, OpPair, Operations};

/// What is compared: a run of a file, up to an event or all of it. The files may differ: each is
/// one moment of a node.
pub type Side<'a> = (&'a Connection, &'a RunId, Option<Seq>);

/// What is asked of a comparison: the parameters of its address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CompareQuery {
    /// `a=RUN`: the first run. `None` while the form asks for it.
    pub a: Option<RunId>,
    /// `b=RUN`: the second run. `None` while the form asks for it.
    pub b: Option<RunId>,
    /// `a_seq=SEQ`: up to which event of the first run.
    pub a_seq: Option<Seq>,
    /// `b_seq=SEQ`: up to which event of the second run.
    pub b_seq: Option<Seq>,
}

impl CompareQuery {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// `Invalid` for a parameter that is unknown or not what it has to be.
    pub fn parse(query: &str) -> Result<CompareQuery> {
        let params = Params::read(query, &["a", "b", "a_seq", "b_seq"])?;
        Ok(CompareQuery {
            a: params.get("a")?,
            b: params.get("b")?,
            a_seq: params.get("a_seq")?,
            b_seq: params.get("b_seq")?,
        })
    }
}

/// What is shown of two runs of one source: the comparison, or what asks for them. As JSON:
/// `{"query": {"a": "r1", "b": "r2", "a_seq": null, "b_seq": null}, "found": …}`, where `found`
/// is a [`ComparePage`], or `null` until both runs are named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Compare {
    /// What was asked for.
    pub query: CompareQuery,
    /// The comparison; `None` until both runs are named.
    pub found: Option<ComparePage>,
}

impl Compare {
    /// Compares the runs that were asked for, if both are named.
    ///
    /// # Errors
    /// As [`ComparePage::read`].
    pub fn read(connection: &Connection, asked: &CompareQuery) -> Result<Compare> {
        let sides = asked.a.as_ref().zip(asked.b.as_ref());
        let found = sides.map(|(a, b)| {
            ComparePage::read((connection, a, asked.a_seq), (connection, b, asked.b_seq))
        });
        Ok(Compare { query: asked.clone(), found: found.transpose()? })
    }

    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        match &self.found {
            Some(found) => found.html(site),
            None => html::asking(site, &self.query),
        }
    }
}

/// Two runs beside each other. As JSON:
///
/// ```json
/// {
///   "a": {"run": "r1", "seq": null, "workflow": "train", "status": "completed",
///         "started": "2026-11-20T10:00:00.000000Z", "duration_ms": 1200, "events": 40},
///   "b": {"run": "r2", "seq": null, "workflow": "train", "status": "failed",
///         "started": "2026-11-20T11:00:00.000000Z", "duration_ms": 900, "events": 12},
///   "same_events": 11,
///   "divergence": {"what": "kind", "position": 12, "a": {"seq": 30, "ts": "…",
///     "kind": "step_completed", "op": 4, "name": "train", "data": "{…}", "bytes": 120}, "b": null},
///   "payload": null,
///   "input": {"differing": 1, "same": 0, "left_out": 0,
///             "fields": [{"path": "rate", "differs": true, "a": "0.1", "b": "0.2"}]},
///   "output": {"differing": 0, "same": 0, "left_out": 0, "fields": []},
///   "operations": {"differing": 1, "same": 3, "left_out": 0, "rows": [
///     {"op": 4, "differs": ["status", "output"],
///      "a": {"kind": "step", "name": "train", "status": "completed", "duration_ms": 700,
///            "input": "null", "output": "{\"loss\":0.1}"},
///      "b": null}]}
/// }
/// ```
///
/// `divergence` is `null` where both histories are the same to their ends. Values are the
/// beginnings of their JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ComparePage {
    /// The first run.
    pub a: ComparedRun,
    /// The second run.
    pub b: ComparedRun,
    /// With how many inputs and acts both begin alike.
    pub same_events: u64,
    /// The events after those; `None` if both histories are the same to their ends.
    pub divergence: Option<EventPair>,
    /// The first event of those alike that brought something else.
    pub payload: Option<EventPair>,
    /// Their inputs.
    pub input: Fields,
    /// Their outputs, or the errors that they ended with.
    pub output: Fields,
    /// Their operations.
    pub operations: Operations,
}

/// One of the runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ComparedRun {
    /// The run.
    pub run: RunId,
    /// Up to which event it is compared; `None` for all.
    pub seq: Option<Seq>,
    /// Its workflow.
    pub workflow: OpName,
    /// Its status at that event, or now.
    pub status: RunStatus,
    /// When it was created.
    pub started: Timestamp,
    /// From then to its end, in milliseconds; `None` if it has not ended.
    pub duration_ms: Option<u64>,
    /// How many inputs and acts it has.
    pub events: u64,
}

/// The events of both runs at one place of their histories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventPair {
    /// In what they differ.
    pub what: What,
    /// The place among the inputs and acts of each, from 1.
    pub position: u64,
    /// That of the first run; `None` if its history ends before.
    pub a: Option<EventShown>,
    /// That of the second run; `None` if its history ends before.
    pub b: Option<EventShown>,
}

/// An event as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventShown {
    /// Its position in the log.
    pub seq: Seq,
    /// When it was written.
    pub ts: Timestamp,
    /// Its kind.
    pub kind: String,
    /// The operation that it concerns.
    pub op: Option<u32>,
    /// The operation's name, or the workflow's.
    pub name: Option<String>,
    /// The beginning of what it carries.
    pub data: Option<String>,
    /// The size of what it carries.
    pub bytes: usize,
}

impl ComparePage {
    /// Compares two runs.
    ///
    /// # Errors
    /// `NotFound` if a run is not there; `Corrupt` if a row is not what its columns say; otherwise
    /// what SQLite says.
    pub fn read(a: Side<'_>, b: Side<'_>) -> Result<ComparePage> {
        read::read(a, b)
    }
}
