//! What a ready node tells about itself: to its app on the attach stream, to people in the status.

use tidemill_eventlog::host;
use tidemill_model::{
    BarrierReply, BootTime, GateState, LeaseLine, SidecarState, SidecarStatus, SocketError,
    SocketErrorKind, unix_ms,
};

use crate::lease::renew::LeaseGate;
use crate::serve::Serving;
use crate::ship::barrier;
use crate::ship::wal::{WalEnd, wal_bytes};
use crate::supervise::AppPresence;

/// A lag below this is what every upload has.
const LAG_TOLD_MS: u64 = 1000;
/// A problem is cut here in a line to the app: its beginning says what is wrong.
const PROBLEM_CHARS_MAX: usize = 2000;

/// What the app was told last.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    line: LeaseLine,
    /// Since when something waits, if that is long.
    late: Option<BootTime>,
}

impl Serving {
    pub(super) fn state_now(&self) -> SidecarState {
        match (self.supervisor.state(), &self.view.gate) {
            (SidecarState::Ready, LeaseGate::Closed) => SidecarState::Stalled,
            (state, _) => state,
        }
    }

    /// What the app is told of the lease.
    pub(super) fn line(&self) -> LeaseLine {
        let (deadline, state) = match &self.view.gate {
            LeaseGate::Open { until } => (*until, GateState::Open),
            LeaseGate::Closed | LeaseGate::Released => (BootTime::from_nanos(0), GateState::Closed),
            LeaseGate::Fenced { .. } => (BootTime::from_nanos(0), GateState::Fenced),
        };
        let covered = self.context.status().covered;
        LeaseLine {
            lag_ms: Some(self.lag_ms()),
            problem: self.context.status().problem().map(shortened),
            covered: covered.map(|c| BarrierReply { epoch: c.epoch, txid: c.txid, seq: c.seq }),
            ..LeaseLine::new(self.context.boot.clone(), deadline, state)
        }
    }

    fn lag_ms(&self) -> u64 {
        let now = host::boot_now();
        self.barriers.dirty_since().map_or(0, |since| unix_ms(now.since(since)))
    }

    /// Tells the app what changed since the last line. A lag grows with the app's own clock, so it is
    /// told only when it begins to matter, begins anew, or is over.
    pub(super) fn tell_app(&mut self) {
        let Some(attachment) = &self.attachment else { return };
        let line = self.line();
        let late = self.barriers.dirty_since().filter(|_| self.lag_ms() >= LAG_TOLD_MS);
        let told = Told { line: LeaseLine { lag_ms: None, ..line.clone() }, late };
        if self.told.as_ref() != Some(&told) {
            attachment.tell(line);
            self.told = Some(told);
        }
    }

    pub(super) fn status(&self) -> SidecarStatus {
        let now = host::boot_now();
        let beside = self.context.beside();
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
                AppPresence::Attached { pid, .. } => Some(*pid),
                AppPresence::None | AppPresence::Orphaned { .. } => None,
            },
            shipped_txid: self.barriers.shipped().or(good.map(|good| good.txid)),
            shipped_at: self.shipped_at,
            lag_ms: self.lag_ms(),
            lag_bytes: lag,
            wal_bytes: wal_bytes(beside),
            barrier_ms: self.barriers.took().map(unix_ms),
            lease_age_ms: Some(unix_ms(now.since(self.view.last_write))),
            problem: self.context.status().problem(),
        }
    }
}

fn shortened(problem: String) -> String {
    match problem.char_indices().nth(PROBLEM_CHARS_MAX) {
        Some((end, _)) => problem[..end].to_owned(),
        None => problem,
    }
}

pub(super) fn refused(refusal: barrier::BarrierRefusal, problem: Option<&str>) -> SocketError {
    let (kind, message) = match refusal {
        barrier::BarrierRefusal::TimedOut => {
            let why = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
            (SocketErrorKind::TimedOut, format!("the barrier did not count in time{why}"))
        }
        barrier::BarrierRefusal::Fenced => {
            (SocketErrorKind::Fenced, "another owner has the node".to_owned())
        }
        barrier::BarrierRefusal::TooMany => {
            (SocketErrorKind::Unavailable, "too many barriers wait: try again".to_owned())
        }
    };
    SocketError { kind, message }
}
