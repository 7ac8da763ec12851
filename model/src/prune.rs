//! What is asked of retention and what it did: `POST /v1/prune` and `tidemill prune`.

use serde::{Deserialize, Serialize};

use crate::position::Seq;
use crate::retention::Retention;

/// Positions of the log at which a sidecar still compares checksums: retention keeps their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedSeqs {
    /// A single one: what the epoch began from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Seq>,
    /// This one and all after it.
    pub from: Seq,
}

impl ComparedSeqs {
    /// None: the file was never shipped.
    pub const NONE: ComparedSeqs = ComparedSeqs { base: None, from: Seq::MAX };
}

/// Why a family of runs that its rule lets go stays for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stays {
    /// One of its runs has not ended, or a step body of it still runs.
    NotEnded,
    /// One of its events is at a position that is still compared: the lease does not say yet that a
    /// barrier covered a later one, or the epoch began from it.
    Compared,
    /// It has the newest event of the log.
    Newest,
}

/// Asks a node to remove ended runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PruneRequest {
    /// The rules; `None` for the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Retention>,
    /// Count what would leave, and remove nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What left, or would leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PruneReport {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// How many runs leave, children included.
    pub runs: u64,
    /// How many events they have.
    pub events: u64,
    /// How many bytes the data of these events have.
    pub bytes: u64,
    /// How many families their rules keep.
    pub kept: u64,
    /// How many families their rules let go and that stay for now.
    pub stays: StaysCount,
    /// Whether the request's time was over before all ended runs were looked at: ask again.
    pub more: bool,
}

impl PruneReport {
    /// Adds what another part of the same pass found.
    pub fn join(&mut self, part: &PruneReport) {
        self.runs += part.runs;
        self.events += part.events;
        self.bytes += part.bytes;
        self.kept += part.kept;
        self.stays.join(part.stays);
    }
}

/// How many families stay for now, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StaysCount {
    /// For [`Stays::NotEnded`].
    pub not_ended: u64,
    /// For [`Stays::Compared`].
    pub compared: u64,
    /// For [`Stays::Newest`].
    pub newest: u64,
}

impl StaysCount {
    /// Adds another count.
    pub fn join(&mut self, other: StaysCount) {
        self.not_ended += other.not_ended;
        self.compared += other.compared;
        self.newest += other.newest;
    }

    /// Counts a family.
    pub fn add(&mut self, why: Stays) {
        match why {
            Stays::NotEnded => self.not_ended += 1,
            Stays::Compared => self.compared += 1,
            Stays::Newest => self.newest += 1,
        }
    }
}
