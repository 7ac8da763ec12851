//! The clocks, passed to every component that reads one, so that a test can set the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{BootTime, Timestamp};

/// The host's clocks; the wall clock may be moved by a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    wall_step_micros: Arc<AtomicI64>,
}

impl Clock {
    /// The wall clock, for people and for what must survive a reboot.
    pub(crate) fn wall(&self) -> Timestamp {
        let now = host::wall_now();
        let step = self.wall_step_micros.load(Ordering::Relaxed);
        let by = Duration::from_micros(step.unsigned_abs());
        if step < 0 { now.saturating_sub(by) } else { now.saturating_add(by) }
    }

    /// The boot clock, for waiting.
    pub(crate) fn boot(&self) -> BootTime {
        host::boot_now()
    }

    /// Moves the wall clock, as an operator or NTP would.
    #[cfg(test)]
    pub(crate) fn step_wall(&self, micros: i64) {
        self.wall_step_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
