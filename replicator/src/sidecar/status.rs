//! What a ready node tells about itself: to its app on the attach stream, to people in the status.

use tidemill_eventlog::host;
use tidemill_model::{
    BootTime, GateState, LeaseLine, SidecarState, SidecarStatus, SocketError, SocketErrorKind,
    unix_ms,
};

use super::serving::Serving;
use crate::adapters::wal_watch::{WalEnd, wal_bytes};
use crate::core::barrier;
use crate::core::holder::Gate;
use crate::core::supervisor::App;

impl Serving {
    pub(super) fn state_now(&self) -> SidecarState {
        match (self.supervisor.state(), &self.view.gate) {
            (SidecarState::Ready, Gate::Closed) => SidecarState::Stalled,
            (state, _) => state,
        }
    }

    /// What the app is told of the lease.
    pub(super) fn line(&self) -> LeaseLine {
        let (deadline, state) = match &self.view.gate {
            Gate::Open { until } => (*until, GateState::Open),
            Gate::Closed | Gate::Released => (BootTime::from_nanos(0), GateState::Closed),
            Gate::Fenced { .. } => (BootTime::from_nanos(0), GateState::Fenced),
        };
        LeaseLine { boot: self.place.boot.clone(), deadline_boottime_ns: deadline, state }
    }

    pub(super) fn status(&self) -> SidecarStatus {
        let now = host::boot_now();
        let beside = self.place.beside();
        let end = WalEnd::read(beside, self.shipped_end.as_ref());
        let lag = end.map_or(0, |end| end.bytes_since(self.shipped_end.as_ref()));
        let good = self.barriers.last_good();
        SidecarStatus {
            node: self.state.node.clone(),
            state: self.state_now(),
            epoch: Some(self.epoch),
            pid: std::process::id(),
            litestream_pid: self.litestream_pid,
            litestream_version: self.litestream_version.clone(),
            litestream_restarts: u64::from(self.supervisor.restarts()),
            app_pid: match self.supervisor.app() {
                App::Attached { pid, .. } => Some(*pid),
                App::None | App::Orphaned { .. } => None,
            },
            shipped_txid: self.barriers.shipped().or(good.map(|good| good.txid)),
            shipped_at: self.shipped_at,
            lag_ms: self.barriers.dirty_since().map_or(0, |since| unix_ms(now.since(since))),
            lag_bytes: lag,
            wal_bytes: wal_bytes(beside),
            barrier_ms: self.barriers.took().map(unix_ms),
            lease_age_ms: Some(unix_ms(now.since(self.view.last_write))),
            problem: self.place.report().problem(),
        }
    }
}

pub(super) fn refused(refusal: barrier::Refusal, problem: Option<&str>) -> SocketError {
    let (kind, message) = match refusal {
        barrier::Refusal::TimedOut => {
            let why = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
            (SocketErrorKind::TimedOut, format!("the barrier did not count in time{why}"))
        }
        barrier::Refusal::Fenced => {
            (SocketErrorKind::Fenced, "another owner has the node".to_owned())
        }
        barrier::Refusal::TooMany => {
            (SocketErrorKind::Unavailable, "too many barriers wait: try again".to_owned())
        }
    };
    SocketError { kind, message }
}
