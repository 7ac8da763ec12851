//! The status of this process for its lease document. The loop writes it; the lease's thread reads
//! it.

use tidemill_eventlog::host;
use tidemill_model::{BootId, Covered, Epoch, LeaseStatus, RunFigures, SidecarState, Timestamp};

use crate::problems::Problems;

/// What a start knows about the epoch that a still running app has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppsEpoch {
    /// Nothing yet.
    Unknown,
    /// The node's epoch: an app with any other epoch has lost the node.
    Is(Epoch),
    /// Another owner has the node, whatever epoch the app has.
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
    /// The problems to show to a person.
    pub(crate) problems: Problems,
    /// Whether the lease was claimed by this process.
    pub(crate) claimed: bool,
    /// Which epoch an app may have that opened the file before this process started.
    pub(crate) apps: AppsEpoch,
    /// Litestream's process, while there is one.
    pub(crate) litestream_pid: Option<u32>,
    /// The version of the last Litestream that ran.
    pub(crate) litestream_version: Option<String>,
    /// How much of the WAL waits to be shipped, in bytes.
    pub(crate) wal_lag_bytes: u64,
    /// When the sidecar read the head of the log that the last accepted upload shipped.
    pub(crate) shipped_until: Option<Timestamp>,
    /// What the runs do, as the app told last; kept when it has gone, because the time is in it.
    pub(crate) runs: Option<RunFigures>,
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
            runs: None,
            covered: None,
        }
    }

    /// The problem to show, or what a start waits for; `None` if all is well.
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
            runs: self.runs.clone(),
            unknown: serde_json::Map::new(),
        }
    }
}
