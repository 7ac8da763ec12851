//! Parents and children: a child is a run of its own whose end is an input of its parent.
//!
//! The child is created in the commit of the parent's turn. Its end is pushed to the parent's
//! inbox; a parent that was not there then finds the end in the file when it is rebuilt. A parent
//! that drops a child, or ends, cancels it.

use std::sync::Arc;

use tidemill_eventlog::query;
use tidemill_model::{Event, OpId, OpName, Parent, RunId, RunStatus, Seed, Seq};

use super::handle::RunResult;
use super::inbox::Control;
use super::{Engine, Run};
use crate::author::result::failed;
use crate::error::Error;

/// The seed of a child: made from the parent's, so that a replay of the parent asks for the same.
pub(super) fn seed_of(parent: &Seed, op: OpId) -> Seed {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&parent.to_bytes());
    hash.update(&op.get().to_be_bytes());
    hash.update(b"child");
    Seed::from_random(hash.digest128().to_be_bytes())
}

impl Engine {
    /// Tells the parent, if it is here, how its child of this workflow ended.
    pub(super) fn tell_parent(&self, parent: &Parent, workflow: &OpName, ended: &RunResult) {
        let Some(run) = self.run(&parent.run) else { return };
        let Some(end) = end_of(parent.op, workflow, ended) else { return };
        run.inbox.push(end);
    }

    /// Cancels a child that its parent dropped. A run of that id which somebody else started is
    /// none of the parent's business.
    pub(super) fn cancel_child(&self, parent: &RunId, child: &RunId) {
        let Some(run) = self.run(child) else { return };
        if run.parent.as_ref().is_some_and(|its| its.run == *parent) {
            run.inbox.control(Control::Cancel);
        }
    }

    /// Finds out what became of a child that the log leaves open.
    pub(super) async fn look_for_child(
        self: &Arc<Self>,
        run: &Arc<Run>,
        (op, name): (OpId, &OpName),
        child: &RunId,
    ) -> Result<(), Error> {
        let parent = Parent { run: run.id.clone(), op };
        let end = match self.run(child) {
            // Its driver tells us at its end.
            Some(here) if here.parent.as_ref() == Some(&parent) => None,
            Some(_) => Some(not_ours(op, name, child)),
            None => match self.ended(child).await? {
                Some((by, ended)) if by.as_ref() == Some(&parent) => end_of(op, name, &ended),
                Some(_) => Some(not_ours(op, name, child)),
                None => None,
            },
        };
        if let Some(end) = end {
            run.inbox.push(end);
        }
        Ok(())
    }

    /// How a run ended, and who started it; none if it has not ended.
    pub(super) async fn ended(
        &self,
        run: &RunId,
    ) -> Result<Option<(Option<Parent>, RunResult)>, Error> {
        let id = run.clone();
        self.readers
            .read(move |connection| {
                let Some(summary) = query::run(connection, &id)? else { return Ok(None) };
                if !summary.status.is_final() {
                    return Ok(None);
                }
                Ok(last_result(connection, &id)?.map(|ended| (summary.parent, ended)))
            })
            .await
    }

    /// Whether the parent of a run has ended, so that nobody waits for the run.
    pub(super) async fn has_ended(&self, run: &RunId) -> Result<bool, Error> {
        if self.run(run).is_some() {
            return Ok(false);
        }
        let id = run.clone();
        let summary = self.readers.read(move |c| Ok(query::run(c, &id)?)).await?;
        Ok(summary.is_some_and(|summary| summary.status.is_final()))
    }
}

/// What a parent observes whose child has an id that was taken.
pub(crate) fn not_ours(op: OpId, name: &OpName, child: &RunId) -> Event {
    let error = failed(format!(
        "there is a run `{child}` already, which this run did not start: start the parent under \
         another id"
    ));
    Event::ChildFailed { op, name: name.clone(), error }
}

/// The end that the newest event of a run records.
pub(super) fn last_result(
    connection: &rusqlite::Connection,
    run: &RunId,
) -> Result<Option<RunResult>, Error> {
    let last = query::last_observed(connection, run)?.unwrap_or(Seq::ZERO);
    let before = Seq::new(last.get().saturating_sub(1))?;
    let rows = query::events(connection, Some(run), before, 1)?;
    let event = rows.first().map(tidemill_eventlog::Row::event);
    Ok(match event {
        Some(Ok(Event::RunCompleted { output })) => Some(RunResult::Completed(output)),
        Some(Ok(Event::RunFailed { error })) => Some(RunResult::Failed(error)),
        Some(Ok(_) | Err(_)) | None => None,
    })
}

/// What a parent observes of its child's end.
fn end_of(op: OpId, name: &OpName, ended: &RunResult) -> Option<Event> {
    let name = name.clone();
    match ended {
        RunResult::Completed(output) => {
            Some(Event::ChildCompleted { op, name, output: output.clone() })
        }
        RunResult::Failed(error) => Some(Event::ChildFailed { op, name, error: error.clone() }),
        RunResult::Blocked(_) => None,
    }
}

/// Whether a status needs no driver.
pub(super) fn needs_driver(status: RunStatus) -> bool {
    !status.is_final()
}
