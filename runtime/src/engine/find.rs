//! Finding a run by its id: with its driver, or ended in the file.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::query;
use tidemill_model::RunId;

use super::handle::RunResult;
use super::{Engine, Run, children};
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
                match children::last_result(connection, &id)? {
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
}

fn unreadable_end(run: &RunId) -> Error {
    let message = format!(
        "run `{run}` has ended with an event that this version cannot read: use the version of \
         tidemill that wrote it"
    );
    Error::new(ErrorKind::Corrupt, message)
}
