//! Reports a ready node's state: to its app on the attach stream, to people in the status.

use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{
    BarrierReply, BootTime, GateState, LeaseLine, SidecarState, SidecarStatus, unix_ms,
};

use super::owners::NodeOwners;
use crate::lease::renew::LeaseGate;
use crate::ship::wal::wal_bytes;
use crate::start::proof;
use crate::supervise::{AppPresence, EpochEnding, Supervisor};
use crate::systemd::{HowFar, Shown};

/// A lag below this is normal for every upload, and is not reported to the app.
const LAG_TOLD_MS: u64 = 1000;
/// The longest problem in a line to the app; its beginning says what is wrong.
const PROBLEM_CHARS_MAX: usize = 2000;

impl NodeOwners {
    /// What the node is doing, by its supervisor and its lease.
    pub(super) fn state(&self, supervisor: &Supervisor) -> SidecarState {
        match (supervisor.state(), &self.epoch.lease().gate) {
            (SidecarState::Ready, LeaseGate::Closed) => SidecarState::Stalled,
            (state, _) => state,
        }
    }

    /// The line that the app gets now.
    pub(super) fn line(&self) -> LeaseLine {
        let (deadline, state) = match &self.epoch.lease().gate {
            LeaseGate::Open { until } => (*until, GateState::Open),
            LeaseGate::Closed | LeaseGate::Released => (BootTime::from_nanos(0), GateState::Closed),
            LeaseGate::Fenced { .. } => (BootTime::from_nanos(0), GateState::Fenced),
        };
        let covered = self.context.status().covered;
        LeaseLine {
            lag_ms: Some(self.shipping.lag_ms()),
            problem: self.context.status().problem().map(shortened),
            covered: covered.map(|c| BarrierReply { epoch: c.epoch, txid: c.txid, seq: c.seq }),
            compared: proof::compared(&self.record.state(), self.epoch.lease().covered),
            ..LeaseLine::new(self.context.boot.clone(), deadline, state)
        }
    }

    /// Sends the app a line if something changed.
    pub(super) fn tell_app(&mut self) {
        let late = self.shipping.lag_ms() >= LAG_TOLD_MS;
        let late = self.shipping.dirty_since().filter(|_| late);
        let line = self.line();
        self.door.tell(line, late);
    }

    /// What systemd is told.
    pub(super) fn shown(&self, supervisor: &Supervisor) -> Shown {
        let state = self.state(supervisor);
        let attached = matches!(supervisor.app(), AppPresence::Attached { .. });
        let open = matches!(state, SidecarState::Ready | SidecarState::Stalled);
        let far = match supervisor.ends_at() {
            Some(until) => HowFar::Leaving { until },
            None if attached => HowFar::Up,
            None if supervisor.cmd_lives() => HowFar::AppStarting,
            None if open && self.context.settings.command.is_none() => HowFar::Up,
            None => HowFar::Starting,
        };
        let node = &self.context.settings.node;
        let epoch = self.record.epoch();
        let status = match self.context.status().problem() {
            Some(problem) => format!("node {node}: {}: {problem}", state.as_str()),
            None => format!("node {node}: {} in epoch {epoch}", state.as_str()),
        };
        Shown { far, status }
    }

    pub(super) fn status(&self, supervisor: &Supervisor) -> SidecarStatus {
        let beside = self.context.beside();
        let (litestream_pid, litestream_version, problem) = {
            let status = self.context.status();
            (status.litestream_pid, status.litestream_version.clone(), status.problem())
        };
        SidecarStatus {
            node: self.context.settings.node.clone(),
            state: self.state(supervisor),
            epoch: Some(self.record.epoch()),
            pid: std::process::id(),
            litestream_pid,
            litestream_version,
            litestream_restarts: u64::from(supervisor.restarts()),
            app_pid: match supervisor.app() {
                AppPresence::Attached { pid, .. } => Some(*pid),
                AppPresence::None | AppPresence::Orphaned { .. } => None,
            },
            shipped_txid: self.shipping.shipped_txid(),
            shipped_at: self.shipping.shipped_at(),
            lag_ms: self.shipping.lag_ms(),
            lag_bytes: self.shipping.lag_bytes(),
            wal_bytes: wal_bytes(beside),
            barrier_ms: self.shipping.took().map(unix_ms),
            lease_age_ms: Some(unix_ms(host::boot_now().since(self.epoch.lease().last_write))),
            problem,
        }
    }

    /// The page of metrics.
    pub(super) fn metrics(&self, supervisor: &Supervisor) -> String {
        let status = self.status(supervisor);
        let left = match &self.epoch.lease().gate {
            LeaseGate::Open { until } => until.since(host::boot_now()),
            LeaseGate::Closed | LeaseGate::Released | LeaseGate::Fenced { .. } => Duration::ZERO,
        };
        self.context.metrics(&status, Some(left))
    }
}

impl NodeOwners {
    /// Logs what a person has to know about an end.
    pub(super) fn say_ending(&self, ending: EpochEnding) {
        let context = &self.context;
        match ending {
            EpochEnding::Fenced if context.beside().db().exists() => {
                tracing::warn!("the lost node's file is still there: the next start moves it");
            }
            EpochEnding::LeaseGone => tracing::error!(
                file = %context.beside().db().display(),
                fleet = %context.settings.fleet,
                "the lease is gone, and the bucket does not hold what was covered: the file stays \
                 where it is; check the bucket's address and its lifecycle rules, and restore the \
                 objects"
            ),
            EpochEnding::Fenced
            | EpochEnding::Released(_)
            | EpochEnding::NotCovered
            | EpochEnding::NotReleased => {}
        }
    }
}

fn shortened(problem: String) -> String {
    match problem.char_indices().nth(PROBLEM_CHARS_MAX) {
        Some((end, _)) => problem[..end].to_owned(),
        None => problem,
    }
}
