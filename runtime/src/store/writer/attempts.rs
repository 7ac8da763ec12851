//! Which attempt of each open step may record events, as the log says.
//!
//! The writer reads a run's log once, when one of its attempts first records something, and from
//! then on follows the events that it appends. So a run whose attempts record nothing costs nothing
//! here, and a body in another process could ask the same question.
//!
//! Invariant: what is remembered of a run equals what the file has, with the open transaction.
//! Failure: the committer makes this forget every run whose part of a transaction is rolled back.

use rusqlite::Connection;
use rustc_hash::FxHashMap;
use tidemill_eventlog::query;
use tidemill_model::{Event, EventKind, OpId, RunId, Seq, StepRecorder};

use super::commit::LogResult;
use crate::error::Error;

/// How many runs are remembered. When there are more, all are forgotten; the file has them.
const RUNS_MAX: usize = 16_384;

/// The newest attempt of each open step of a run.
type OpenSteps = FxHashMap<OpId, u32>;

/// The open steps of the remembered runs.
#[derive(Default)]
pub(super) struct NewestAttempts {
    runs: FxHashMap<RunId, OpenSteps>,
}

impl NewestAttempts {
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

    /// Follows an event that is appended to the run in the open transaction.
    pub(super) fn appended(&mut self, run: &RunId, event: &Event) {
        if self.runs.is_empty() {
            return;
        }
        if let Some(steps) = self.runs.get_mut(run) {
            follow(steps, event);
        }
    }

    /// Forgets a run, so that the next question reads its log again.
    pub(super) fn forget(&mut self, run: &RunId) {
        self.runs.remove(run);
    }

    /// Forgets all runs.
    pub(super) fn forget_all(&mut self) {
        self.runs.clear();
    }
}

/// Reads the open steps from the log of a run.
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
    if let Event::CancelRequested { resolves, .. } = event {
        steps.retain(|op, _| !resolves.contains_key(op));
    }
    let Some((op, recorder)) = event.op().zip(StepRecorder::after(event)) else { return };
    match recorder {
        StepRecorder::Attempt(attempt) => steps.insert(op, attempt),
        StepRecorder::Nobody => steps.remove(&op),
    };
}
