//! What the lease document says about this process: kept by the loop, read by the lease's thread.

use tidemill_eventlog::host;
use tidemill_model::{BootId, Covered, LeaseStatus, SidecarState};

/// The parts of a status that change.
#[derive(Debug)]
pub(super) struct Report {
    host: String,
    boot: BootId,
    /// What the sidecar is doing.
    pub(super) state: SidecarState,
    /// What a start waits for or works on, for a person.
    pub(super) doing: Option<String>,
    /// Whether the lease was claimed by this process.
    pub(super) claimed: bool,
    /// How much of the WAL waits to be shipped, in bytes.
    pub(super) wal_lag_bytes: u64,
    /// What the last barrier that counted in this process covered.
    pub(super) covered: Option<Covered>,
}

impl Report {
    pub(super) fn new(host: String, boot: BootId) -> Report {
        Report {
            host,
            boot,
            state: SidecarState::Starting,
            doing: None,
            claimed: false,
            wal_lag_bytes: 0,
            covered: None,
        }
    }

    /// The status as of now.
    pub(super) fn status(&self) -> LeaseStatus {
        LeaseStatus {
            state: self.state,
            host: self.host.clone(),
            pid: std::process::id(),
            boot: self.boot.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: host::wall_now(),
            wal_lag_bytes: self.wal_lag_bytes,
            unknown: serde_json::Map::new(),
        }
    }
}
