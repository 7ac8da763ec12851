//! What the sidecar last reported about shipping, for the health endpoint.
//!
//! The sidecar sends a line when something changes. Until the next line arrives, a lag above zero
//! grows with the clock, even when the stream has broken and no line can arrive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{BootTime, LeaseLine};

/// The problem that the node reports while the sidecar's stream is broken.
const LOST: &str = "the sidecar does not answer: it is not known what is shipped";

/// The sidecar's last report; clones share it. It stays empty in a node without a sidecar.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shipping {
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// The lag, and when the sidecar reported it.
    lag: Option<(Duration, BootTime)>,
    problem: Option<String>,
    lost: bool,
}

impl Shipping {
    /// Takes the report in a line of the sidecar's stream.
    pub(crate) fn tell(&self, line: &LeaseLine) {
        let lag = line.lag_ms.map(|ms| (Duration::from_millis(ms), host::boot_now()));
        *self.told() = Told { lag, problem: line.problem.clone(), lost: false };
    }

    /// Notes that the stream broke.
    pub(crate) fn lose(&self) {
        self.told().lost = true;
    }

    /// Notes that the stream works again; its next line brings the next report.
    pub(crate) fn find(&self) {
        self.told().lost = false;
    }

    /// How long the oldest unshipped commit has waited; `None` if that is not known.
    pub(crate) fn lag(&self) -> Option<Duration> {
        let (lag, told_at) = self.told().lag?;
        if lag.is_zero() {
            return Some(lag);
        }
        Some(lag.saturating_add(host::boot_now().since(told_at)))
    }

    /// The sidecar's problem in words for a person; `None` if it has none.
    pub(crate) fn problem(&self) -> Option<String> {
        let told = self.told();
        if told.lost { Some(LOST.to_owned()) } else { told.problem.clone() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
