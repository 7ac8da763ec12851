//! What a fork of a run is: pure decisions over the other run's log.
//!
//! | file | decides |
//! |---|---|
//! | `trace.rs` | what became of each operation |
//! | `point.rs` | where the cut is that a person names |
//! | `retry.rs` | where it is for a run that failed |
//! | `plan.rs` | which events the fork begins with, and what becomes of what was open at the cut |
//! | `made.rs` | all that its commit writes, and what parks it |
//! | `source.rs` | whether a history that was sent can be forked |
//! | `request.rs` | what may be asked for |
//! | `outlook.rs` | what a person is told of it before and after |
//! | `told.rs` | in which words |
//!
//! `docs/design/fork.md` has the reasons.

mod made;
mod outlook;
mod plan;
mod point;
mod request;
mod retry;
mod source;
mod told;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

pub use made::{MadeFork, MadeRun, RunTerms};
pub use outlook::{ForkOutlook, ForkedOp, ForkedOps};
pub use plan::{Fork, ForkAs, ForkChild, ForkChoices, ForkTie};
pub use point::ForkPoint;
pub use request::{ForkFromRequest, ForkRequest};
pub use source::{ForkSource, cannot_read as cannot_fork};
pub use trace::ForkLog;

use crate::position::OpId;

/// A place in a log before an input, at which a fork leaves the other run's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// How many events of the log are history: at least the first, `run_created`.
    keep: usize,
    /// The operation that begins again whatever became of it.
    again: Option<OpId>,
    /// The operation whose end the cut stands before and which is history all the same, even if it
    /// failed.
    observed: Option<OpId>,
}

impl Cut {
    /// Nothing but the creation is history.
    const BEGINNING: Cut = Cut { keep: 1, again: None, observed: None };

    /// Whether nothing but the run's creation is history.
    pub fn is_beginning(&self) -> bool {
        self.keep <= 1
    }

    fn before(place: usize) -> Cut {
        Cut { keep: place.max(1), ..Cut::BEGINNING }
    }
}

/// Operations by their ids, in a list of bounded length.
type Ops<T> = BTreeMap<OpId, T>;
type OpSet = BTreeSet<OpId>;

#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod tests;
