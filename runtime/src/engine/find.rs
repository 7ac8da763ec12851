//! Finding a run by its id: with its driver, or in the file with its end.

use std::sync::Arc;
use std::time::Duration;

use tidemill_model::RunId;

use super::handle::RunResult;
use super::{Engine, Run};
use crate::error::{Error, ErrorKind, closed};
use crate::store::Stored;

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
            match self.store.reads().find(run).await? {
                None => {
                    let message = format!("there is no run `{run}` in this file");
                    return Err(Error::new(ErrorKind::NotFound, message));
                }
                Some(Stored::Ended(_, ended)) => {
                    return ended.map(Found::Ended).ok_or_else(|| unreadable_end(run));
                }
                Some(Stored::Unfinished) if self.closing.is_cancelled() => {
                    return Err(closed());
                }
                Some(Stored::Unfinished) => self.timers.sleep(MOMENT).await,
            }
        }
    }

    /// Whether a run has ended, so that nobody waits for its children.
    pub(super) async fn has_ended(&self, run: &RunId) -> Result<bool, Error> {
        if self.run(run).is_some() {
            return Ok(false);
        }
        let stored = self.store.reads().find(run).await?;
        Ok(matches!(stored, Some(Stored::Ended(..))))
    }
}

fn unreadable_end(run: &RunId) -> Error {
    let message = format!(
        "run `{run}` has ended with an event that this version cannot read: use the version of \
         tidemill that wrote it"
    );
    Error::new(ErrorKind::Corrupt, message)
}
