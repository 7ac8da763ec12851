//! Finding a run by its id: with its driver, or in the file with its end.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::query;
use tidemill_model::{Event, Parent, RunId, Seq};

use super::handle::RunResult;
use super::{Engine, Run};
use crate::error::{Error, ErrorKind};

/// A run whose creation is durable has its driver a moment later; the wait in between.
const MOMENT: Duration = Duration::from_millis(1);

/// Where a run is.
pub(super) enum Found {
    Here(Arc<Run>),
    Ended(RunResult),
}

impl Engine {
    /// Finds a run.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` when the node shuts down; `Corrupt` if the run has ended in a way
    /// that this version cannot read; what reading the file says.
    pub(super) async fn find(&self, run: &RunId) -> Result<Found, Error> {
        loop {
            if let Some(here) = self.run(run) {
                return Ok(Found::Here(here));
            }
            let id = run.clone();
            let read = self.readers.read(move |connection| {
                let Some(summary) = query::run(connection, &id)? else { return Ok(None) };
                if !summary.status.is_final() {
                    return Ok(Some(None));
                }
                match last_result(connection, &id)? {
                    Some(ended) => Ok(Some(Some(ended))),
                    None => Err(unreadable_end(&id)),
                }
            });
            match read.await? {
                Some(Some(ended)) => return Ok(Found::Ended(ended)),
                None => {
                    let message = format!("there is no run `{run}` in this file");
                    return Err(Error::new(ErrorKind::NotFound, message));
                }
                Some(None) if self.closing.is_cancelled() => return Err(Error::closed()),
                Some(None) => self.timers.sleep(MOMENT).await,
            }
        }
    }

    /// How a run ended, and who started it; none if it has not ended.
    pub(crate) async fn ended(
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

/// The end that the newest event of a run records.
fn last_result(connection: &rusqlite::Connection, run: &RunId) -> Result<Option<RunResult>, Error> {
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

fn unreadable_end(run: &RunId) -> Error {
    let message = format!(
        "run `{run}` has ended with an event that this version cannot read: use the version of \
         tidemill that wrote it"
    );
    Error::new(ErrorKind::Corrupt, message)
}
