//! The shell of a loaded run: polls the author's code, and lets the core decide.

use tidemill_model::Event;

use super::life::Life;
use super::run_core::{RunCore, Surroundings};
use super::turn::Pending;

/// A run with a life.
pub(crate) struct Live {
    pub(crate) life: Life,
    pub(crate) core: RunCore,
}

impl Live {
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
