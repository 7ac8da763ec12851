//! Which attempt of each open step may record something: what the log says, for the writer.
//!
//! The writer reads a run's log once, when an attempt of it first asks, and follows the events that
//! it appends from then on. So a run whose attempts record nothing costs nothing here, and a body
//! in another process could ask the same question.
//!
//! Invariant: what is kept of a run is what the file has, with the transaction in hand. Failure: the
//! committer lets this forget every run whose part of a transaction is rolled back.

use rusqlite::Connection;
use rustc_hash::FxHashMap;
use tidemill_eventlog::query;
use tidemill_model::{Event, EventKind, OpId, RunId, Seq, StepRecorder};

use super::commit::LogResult;
use crate::error::Error;

/// Of very many runs only the latest are kept; the file knows all.
const RUNS_MAX: usize = 16_384;

/// The newest attempt of each open step of a run.
type OpenSteps = FxHashMap<OpId, u32>;

/// See the module.
#[derive(Default)]
pub(super) struct Attempts {
    runs: FxHashMap<RunId, OpenSteps>,
}

impl Attempts {
    /// Whether this attempt is the newest of a step that is open.
    ///
    /// # Errors
    /// What SQLite says, and `Corrupt` if an event of the run cannot be read.
    pub(super) fn may_record(
        &mut self,
        connection: &Connection,
        run: &RunId,
        (op, attempt): (OpId, u32),
    ) -> LogResult<bool> {
        if let Some(steps) = self.runs.get(run) {
            return Ok(steps.get(&op) == Some(&attempt));
        }
        let steps = read(connection, run)?;
        let may = steps.get(&op) == Some(&attempt);
        if self.runs.len() >= RUNS_MAX {
            self.runs.clear();
        }
        self.runs.insert(run.clone(), steps);
        Ok(may)
    }

    /// An event of the run is appended in the transaction in hand.
    pub(super) fn appended(&mut self, run: &RunId, event: &Event) {
        if self.runs.is_empty() {
            return;
        }
        if let Some(steps) = self.runs.get_mut(run) {
            follow(steps, event);
        }
    }

    /// The file says again what is true of the run.
    pub(super) fn forget(&mut self, run: &RunId) {
        self.runs.remove(run);
    }

    /// The file says again what is true of every run.
    pub(super) fn forget_all(&mut self) {
        self.runs.clear();
    }
}

/// What the log of the run says.
fn read(connection: &Connection, run: &RunId) -> LogResult<OpenSteps> {
    let mut steps = OpenSteps::default();
    query::for_each_event(connection, Some(run), Seq::ZERO, u32::MAX, |row| {
        let kind = EventKind::from_text(&row.kind);
        if kind.is_some_and(StepRecorder::is_told_by) {
            let unreadable = |e| Error::corrupt(format!("event {}: {e}", row.seq));
            follow(&mut steps, &row.event().map_err(unreadable)?);
        }
        Ok(())
    })?;
    Ok(steps)
}

fn follow(steps: &mut OpenSteps, event: &Event) {
    let Some((op, recorder)) = event.op().zip(StepRecorder::after(event)) else { return };
    match recorder {
        StepRecorder::Attempt(attempt) => steps.insert(op, attempt),
        StepRecorder::Nobody => steps.remove(&op),
    };
}
