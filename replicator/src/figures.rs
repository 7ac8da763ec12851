//! What this process counts for its metrics.

use tidemill_telemetry::metrics::{Counter, Histogram};

/// Counts since the start of the process.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Writes of the lease that the store confirmed.
    pub(crate) renewals: Counter,
    /// Requests for the lease that failed or whose outcome is not known.
    pub(crate) renewals_failed: Counter,
    /// Barriers that counted, and how long each took from its look at the log.
    pub(crate) barriers: Histogram,
    /// Attempts at a barrier that failed: an upload, or the look at the lease after it.
    pub(crate) barriers_failed: Counter,
    /// Breaks that were opened, and that were closed.
    pub(crate) breaks_opened: Counter,
    pub(crate) breaks_closed: Counter,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            renewals: Counter::default(),
            renewals_failed: Counter::default(),
            barriers: Histogram::of_uploads(),
            barriers_failed: Counter::default(),
            breaks_opened: Counter::default(),
            breaks_closed: Counter::default(),
        }
    }
}
