//! Counts runs whose turns the writer refuses for a reason of their own, and keeps the blocks that
//! could not be written for the same reason, to be shown with the runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tidemill_model::{BlockReason, BlockReasonKind, RunId};

use crate::error::Error;

/// The number of refusals in a row after which a run is blocked: a fault of its own turn does not
/// cure itself, and a fault of the machine refuses the turns of all runs.
pub(super) const REFUSALS_MAX: u32 = 3;

/// The refused runs, each with the reason of its block if that could not be written.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<FxHashMap<RunId, Option<BlockReason>>>);

impl Refusals {
    /// Notes that a turn of the run was refused.
    pub(super) fn note(&self, run: &RunId) {
        self.lock().entry(run.clone()).or_default();
    }

    /// Keeps the reason of a block that could not be written.
    pub(super) fn hold(&self, run: &RunId, reason: BlockReason) {
        self.lock().insert(run.clone(), Some(reason));
    }

    /// Forgets a run whose turn was written, or that is tried again.
    pub(super) fn forget(&self, run: &RunId) {
        self.lock().remove(run);
    }

    /// How many runs cannot commit.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Why a run is blocked, if only this process's memory has its block.
    pub(crate) fn held(&self, run: &RunId) -> Option<BlockReason> {
        self.lock().get(run).cloned().flatten()
    }

    /// The runs whose block only memory has.
    pub(crate) fn all_held(&self) -> BTreeMap<RunId, BlockReason> {
        let held = self.lock();
        held.iter().filter_map(|(run, reason)| Some((run.clone(), reason.clone()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<RunId, Option<BlockReason>>> {
        // Nothing that runs under this lock panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reason for a run whose turn was refused again and again.
pub(super) fn refused(error: &Error) -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Refused,
        op: None,
        logged: None,
        asked: Some(format!("the file refused its turn {REFUSALS_MAX} times: {error}")),
        advice: "fix what refuses it (a trigger or a key of the program's own tables, a damaged \
                 row: run `tidemill fsck`), then resume the run; nothing is lost"
            .to_owned(),
    }
}
