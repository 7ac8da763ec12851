//! Shadow replay: a debug build replays every finished run once from its log.
//!
//! A nondeterministic workflow works until the first crash. A shadow replay shows the mistake to
//! its author before that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_model::{BlockReason, RunId};

use super::Engine;
use super::inbox::Inbox;
use super::replay::ReplayContext;
use crate::store::Record;

/// The counts of shadow replays and of divergences.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    replayed: AtomicU64,
    diverged: AtomicU64,
}

impl Engine {
    /// Replays a finished run if this is a debug build.
    pub(crate) async fn shadow_replay(&self, run: &RunId) {
        if !cfg!(debug_assertions) {
            return;
        }
        let Ok(Ok(log)) = self.store.reads().log(run).await else { return };
        self.shadow.replayed.fetch_add(1, Ordering::Relaxed);
        let Err(reason) = self.replay_check(run, &log) else { return };
        self.shadow.diverged.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            %run, kind = reason.kind.as_str(), logged = reason.logged, asked = reason.asked,
            "a replay of this run takes another way than the run itself: its workflow is not \
             deterministic and would be blocked after a crash"
        );
    }

    /// Replays a log and drops the result.
    pub(crate) fn replay_check(&self, run: &RunId, log: &[Record]) -> Result<(), BlockReason> {
        let inbox = Arc::new(Inbox::default());
        let stage = ReplayContext {
            app: &self.app,
            run,
            clock: &self.clock,
            inbox: &inbox,
            floats_exact_from: Some(self.floats_exact_from),
            polls: None,
        };
        stage.replay(log).map(drop).map_err(|parted| parted.reason)
    }

    /// How many finished runs were replayed, and how many of them diverged.
    pub(crate) fn shadow_counts(&self) -> (u64, u64) {
        let shadow = &self.shadow;
        (shadow.replayed.load(Ordering::Relaxed), shadow.diverged.load(Ordering::Relaxed))
    }
}
