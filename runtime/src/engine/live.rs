//! The shell of a loaded run: polls the author's code, and lets the core decide.

use tidemill_model::Event;

use super::call_site::CallSite;
use super::handle::RunResult;
use super::life::Life;
use super::run_core::{RunCore, Surroundings};
use super::turn::Pending;

/// A run with a life.
pub(crate) struct Live {
    pub(crate) life: Life,
    pub(crate) core: RunCore,
}

impl Live {
    /// Where the operation was called whose error the workflow returned, if that is known.
    pub(crate) fn failed_at(&self, ended: &RunResult) -> Option<CallSite> {
        match ended {
            RunResult::Failed(failure) => self.life.behind(failure),
            RunResult::Completed(_) | RunResult::Blocked(_) => None,
        }
    }

    /// Delivers the inputs one after another, as many as fit into one turn.
    pub(crate) fn turn(&mut self, inputs: &[Event], around: Surroundings) -> Pending {
        let mut pending = Pending::default();
        self.life.stands_at(self.core.last());
        for input in inputs {
            if !self.core.observe(&mut pending, input, around) {
                continue;
            }
            let asked = self.life.deliver(input);
            if !self.core.react(&mut pending, asked, around) {
                break;
            }
        }
        self.core.settle(&mut pending);
        pending
    }
}
