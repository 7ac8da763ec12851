//! Which runs a process continues: all of the file, or one run and its descendants.
//!
//! `run` executes one run. If it took up the others of the file too, it would drop them half way
//! when its own has ended. A run outside the scope stays as it is in the file; the next process
//! whose scope has it continues it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidemill_model::RunId;

/// The runs that a process continues.
#[derive(Debug, Default)]
pub(crate) enum Scope {
    /// Every run of the file.
    #[default]
    All,
    /// These, and those that they start.
    Only(Mutex<BTreeSet<RunId>>),
}

impl Scope {
    /// One run with its descendants in the file; with none of them if the run is yet to be created.
    pub(crate) fn family(of: Vec<RunId>) -> Scope {
        Scope::Only(Mutex::new(of.into_iter().collect()))
    }

    /// Whether the process continues every run of the file.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self, Scope::All)
    }

    /// Whether the process may continue this run.
    pub(crate) fn has(&self, run: &RunId) -> bool {
        match self {
            Scope::All => true,
            Scope::Only(runs) => lock(runs).contains(run),
        }
    }

    /// Adds a run that was created in this process.
    pub(crate) fn add(&self, run: &RunId) {
        match self {
            Scope::All => {}
            Scope::Only(runs) => drop(lock(runs).insert(run.clone())),
        }
    }
}

fn lock(runs: &Mutex<BTreeSet<RunId>>) -> MutexGuard<'_, BTreeSet<RunId>> {
    // Nothing that runs under this lock panics half way.
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}
