//! What the sidecar tells about shipping, for whoever asks this node how it is.
//!
//! The sidecar tells when something changes. A lag that is above zero grows with the clock until the
//! next line, also when no line can come any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{BootTime, LeaseLine};

/// What is shown while the sidecar's stream is lost.
const LOST: &str = "the sidecar does not answer: it is not known what is shipped";

/// The last that was told; a clone is the same. It stays empty in a node without a sidecar.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shipping {
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// The lag, and when it was told.
    lag: Option<(Duration, BootTime)>,
    problem: Option<String>,
    lost: bool,
}

impl Shipping {
    /// A line of the sidecar's stream.
    pub(crate) fn tell(&self, line: &LeaseLine) {
        let lag = line.lag_ms.map(|ms| (Duration::from_millis(ms), host::boot_now()));
        *self.told() = Told { lag, problem: line.problem.clone(), lost: false };
    }

    /// The stream broke.
    pub(crate) fn lose(&self) {
        self.told().lost = true;
    }

    /// The stream is there again; what it tells comes with its next line.
    pub(crate) fn find(&self) {
        self.told().lost = false;
    }

    /// For how long something has waited to be shipped; `None` if that is not known.
    pub(crate) fn lag(&self) -> Option<Duration> {
        let (lag, told_at) = self.told().lag?;
        if lag.is_zero() {
            return Some(lag);
        }
        Some(lag.saturating_add(host::boot_now().since(told_at)))
    }

    /// What is wrong with the sidecar.
    pub(crate) fn problem(&self) -> Option<String> {
        let told = self.told();
        if told.lost { Some(LOST.to_owned()) } else { told.problem.clone() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
