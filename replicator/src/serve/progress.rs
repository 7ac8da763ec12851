//! Logs each change of the node's state, and forgives earlier failures once this process has been
//! ready for long enough.

use tidemill_eventlog::host;
use tidemill_model::{BootTime, SidecarState};

use super::owners::NodeOwners;
use crate::node_record::NodeRecord;

/// The state that was logged last.
#[derive(Debug, Default)]
pub(super) struct Progress {
    said: Option<SidecarState>,
    /// When this process will have been ready for long enough; `None` while it is not ready.
    good_at: Option<BootTime>,
}

impl Progress {
    /// Notes what the node is doing now.
    pub(super) fn note(&mut self, state: SidecarState, node: &NodeOwners) {
        node.context.status().state = state;
        if self.said == Some(state) {
            return;
        }
        self.said = Some(state);
        let good_life = node.context.settings.pace_most;
        // A gate that closes for a while is the store's doing, not this process's.
        self.good_at = match state {
            SidecarState::Ready | SidecarState::Stalled => {
                self.good_at.or_else(|| Some(host::boot_now().saturating_add(good_life)))
            }
            SidecarState::Starting
            | SidecarState::Curing
            | SidecarState::Draining
            | SidecarState::Released
            | SidecarState::Fenced => None,
        };
        tracing::info!("{}", state.as_str());
    }

    /// When to call [`Progress::forgive_if_due`].
    pub(super) fn wake_at(&self, record: &NodeRecord) -> Option<BootTime> {
        self.good_at.filter(|_| record.has_failures())
    }

    pub(super) fn forgive_if_due(&mut self, record: &NodeRecord, now: BootTime) {
        if self.good_at.is_some_and(|at| now >= at) {
            self.good_at = None;
            record.forgive();
        }
    }
}
