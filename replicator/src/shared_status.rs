//! What the lease document says about this process: kept by the loop, read by the lease's thread.

use tidemill_eventlog::host;
use tidemill_model::{BootId, Covered, Epoch, LeaseStatus, SidecarState, Timestamp};

use crate::problems::Problems;

/// What a start knows of the epoch that an app which lives on has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppsEpoch {
    /// Nothing yet.
    Unknown,
    /// Another is not the node's any more.
    Is(Epoch),
    /// Whichever it is, another owner has the node.
    Gone,
}

/// The parts of a status that change.
#[derive(Debug)]
pub(crate) struct SharedStatus {
    host: String,
    boot: BootId,
    /// What the sidecar is doing.
    pub(crate) state: SidecarState,
    /// What a start waits for or works on, for a person.
    pub(crate) doing: Option<String>,
    /// What is wrong, for a person.
    pub(crate) problems: Problems,
    /// Whether the lease was claimed by this process.
    pub(crate) claimed: bool,
    /// Which epoch an app that has the file open since before may still have.
    pub(crate) apps: AppsEpoch,
    /// Litestream's process, while there is one.
    pub(crate) litestream_pid: Option<u32>,
    /// The version of the last Litestream that ran.
    pub(crate) litestream_version: Option<String>,
    /// How much of the WAL waits to be shipped, in bytes.
    pub(crate) wal_lag_bytes: u64,
    /// When the head of the log was read that the last accepted upload shipped.
    pub(crate) shipped_until: Option<Timestamp>,
    /// What the last barrier that counted in this process covered.
    pub(crate) covered: Option<Covered>,
}

impl SharedStatus {
    pub(crate) fn new(host: String, boot: BootId) -> SharedStatus {
        SharedStatus {
            host,
            boot,
            state: SidecarState::Starting,
            doing: None,
            problems: Problems::default(),
            claimed: false,
            apps: AppsEpoch::Unknown,
            litestream_pid: None,
            litestream_version: None,
            wal_lag_bytes: 0,
            shipped_until: None,
            covered: None,
        }
    }

    /// What is wrong, or what a start waits for.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problems.shown().or_else(|| self.doing.clone())
    }

    /// The status as of now.
    pub(crate) fn lease_status(&self) -> LeaseStatus {
        LeaseStatus {
            state: self.state,
            host: self.host.clone(),
            pid: std::process::id(),
            boot: self.boot.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: host::wall_now(),
            wal_lag_bytes: self.wal_lag_bytes,
            shipped_until: self.shipped_until,
            unknown: serde_json::Map::new(),
        }
    }
}
