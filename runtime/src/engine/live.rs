//! The shell of a loaded run: polls the author's code, and lets the core decide.

use tidemill_model::Event;

use super::call_site::CallSite;
use super::handle::RunResult;
use super::life::Life;
use super::run_core::{RunCore, Surroundings};
use super::turn::Pending;
use crate::store::Record;

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

    /// Takes in a signal that the writer has recorded.
    pub(crate) fn keep_signal(&mut self, record: &Record) -> Result<(), String> {
        let Record { seq, ts, event } = record;
        self.core.journal.apply(*seq, *ts, event)?;
        if let Event::SignalReceived(signal) = event {
            self.life.keep_signal(signal);
        }
        Ok(())
    }

    /// Takes in an answer that the writer has recorded. The end of the promise, if that is settled.
    pub(crate) fn take_answer(&mut self, record: &Record) -> Result<Option<Event>, String> {
        let Record { seq, ts, event } = record;
        let Some(op) = event.op().filter(|op| self.core.journal.open(*op).is_some()) else {
            return Ok(None);
        };
        self.core.journal.apply(*seq, *ts, event)?;
        let held = self.core.journal.open(op).and_then(|open| open.held.as_ref());
        Ok(held.filter(|held| held.seq == *seq).map(|held| held.end.clone()))
    }

    /// Delivers the inputs one after another, and then the signals that the code waits for, as many as
    /// fit into one turn.
    pub(crate) fn turn(&mut self, inputs: &[Event], around: Surroundings) -> Pending {
        let mut pending = Pending::default();
        self.life.stands_at(self.core.last());
        for input in inputs {
            if !self.core.observe(&mut pending, input, around) {
                continue;
            }
            let asked = self.life.deliver(input);
            if !self.core.react(&mut pending, asked, around) {
                self.core.settle(&mut pending);
                return pending;
            }
        }
        self.deliver_signals(&mut pending, around);
        self.core.settle(&mut pending);
        pending
    }

    /// Delivers the signals that the code waits for, as many as fit into the turn.
    pub(crate) fn deliver_signals(&mut self, pending: &mut Pending, around: Surroundings) {
        while let Some(input) = self.core.journal.deliverable()
            && self.core.observe(pending, &input, around)
        {
            let asked = self.life.deliver(&input);
            if !self.core.react(pending, asked, around) {
                break;
            }
        }
    }
}
