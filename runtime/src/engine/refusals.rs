//! Runs whose turns the writer refuses for a reason of their own, and the blocks that could not be
//! written for the same reason: those are held here and shown with the runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tidemill_model::{BlockReason, BlockReasonKind, RunId};

use crate::error::Error;

/// After so many refusals in a row a run is blocked: what is wrong with its turn does not mend
/// itself, and what is wrong with the machine refuses everyone's.
pub(super) const REFUSALS_MAX: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<FxHashMap<RunId, Option<BlockReason>>>);

impl Refusals {
    /// A turn of the run was refused.
    pub(super) fn note(&self, run: &RunId) {
        self.lock().entry(run.clone()).or_default();
    }

    /// The run is blocked, and that could not be written.
    pub(super) fn hold(&self, run: &RunId, reason: BlockReason) {
        self.lock().insert(run.clone(), Some(reason));
    }

    /// A turn of the run was written, or it is tried again.
    pub(super) fn forget(&self, run: &RunId) {
        self.lock().remove(run);
    }

    /// How many runs cannot commit.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Why a run is blocked, if only the memory of this process says so.
    pub(crate) fn held(&self, run: &RunId) -> Option<BlockReason> {
        self.lock().get(run).cloned().flatten()
    }

    /// The runs whose block is held.
    pub(crate) fn all_held(&self) -> Vec<RunId> {
        let held = self.lock();
        held.iter().filter(|(_, reason)| reason.is_some()).map(|(run, _)| run.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<RunId, Option<BlockReason>>> {
        // Nothing that runs under this lock panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a run is blocked whose turn was refused again and again.
pub(super) fn refused(error: &Error) -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Refused,
        op: None,
        logged: None,
        asked: Some(format!("what it did was refused {REFUSALS_MAX} times: {error}")),
        advice: "nothing is lost: mend what refuses it (a trigger or a key of the program's own \
                 tables, a damaged row: run `tidemill fsck`), then resume the run"
            .to_owned(),
    }
}
