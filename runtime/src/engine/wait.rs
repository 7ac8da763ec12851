//! Waiting for a run's end, and trying a blocked one again, wherever the run is.

use std::sync::Arc;

use tidemill_model::RunId;
use tokio::sync::oneshot;

use super::Engine;
use super::driver::Next;
use super::handle::RunResult;
use super::inbox::Control;
use super::registry::Outcome;
use crate::error::{Error, ErrorKind, closed};
use crate::store::Stored;

impl Engine {
    /// Waits until a run has ended or is blocked.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` when the node shuts down; `Corrupt` if the run has ended in a way
    /// that this version cannot read; what reading the file says.
    pub(super) async fn outcome(self: &Arc<Self>, run: &RunId) -> Result<RunResult, Error> {
        // Watched before the first look, so that no end in between is missed.
        let (mut watch, is_loaded) = self.registry.watch(run);
        if !is_loaded && let Some(outcome) = self.stored_outcome(run).await? {
            return Ok(outcome);
        }
        tokio::select! {
            biased;
            outcome = watch.wait_for(Option::is_some) => outcome.ok_or_else(closed),
            () = self.closing.cancelled() => Err(closed()),
        }
    }

    /// The outcome that the file knows; `None` if the run is loaded now and will tell. Who waits is
    /// to learn at once if this program cannot go on with a run.
    async fn stored_outcome(self: &Arc<Self>, run: &RunId) -> Result<Outcome, Error> {
        let mut was_tried = false;
        loop {
            match self.stored(run).await? {
                Stored::Ended(ended) => return ended.map(Some).ok_or_else(|| unreadable_end(run)),
                Stored::Blocked(seq, _) if self.retries.has_yet_to(seq) => {
                    self.load(run, Next::Rebuild(None));
                    return Ok(None);
                }
                Stored::Blocked(..) if self.registry.loaded(run).is_some() => return Ok(None),
                Stored::Blocked(_, reason) if was_tried => {
                    return Ok(Some(RunResult::Blocked(reason)));
                }
                // What was read may be from before it was tried again.
                Stored::Blocked(..) => was_tried = true,
                Stored::Going => {
                    self.load(run, Next::Woken);
                    return Ok(None);
                }
            }
        }
    }

    /// Tries a blocked run again, once that is recorded.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the run has ended or is not blocked; `Unavailable` if nothing can
    /// be written now.
    pub(super) async fn resume(self: &Arc<Self>, run: &RunId) -> Result<(), Error> {
        let has_ended =
            || Error::new(ErrorKind::Conflict, format!("run `{run}` has ended: nothing to resume"));
        let (mut watch, is_loaded) = self.registry.watch(run);
        if !is_loaded {
            match self.stored(run).await? {
                Stored::Ended(..) => return Err(has_ended()),
                Stored::Going => return Err(not_blocked(run)),
                Stored::Blocked(..) => {}
            }
        }
        let (reply, answer) = oneshot::channel();
        let engine = Arc::clone(self);
        let drive = move |run| engine.drive(run, Next::Blocked, None);
        if !self.registry.control(run, Control::Resume(reply), drive) {
            return Err(closed());
        }
        let ended = |outcome: &Option<RunResult>| match outcome {
            Some(RunResult::Completed(_) | RunResult::Failed(_)) => true,
            Some(RunResult::Blocked(_)) | None => false,
        };
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(has_ended())),
            // Its driver may have ended before it saw the question.
            _ = watch.wait_for(ended) => Err(has_ended()),
            () = self.closing.cancelled() => Err(closed()),
        }
    }

    /// Where the file says that a run stands.
    async fn stored(&self, run: &RunId) -> Result<Stored, Error> {
        let stored = self.store.reads().find(run).await?;
        stored.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no run `{run}` in this file"))
        })
    }
}

/// The error for a run that cannot be resumed, because nothing is wrong with it.
pub(super) fn not_blocked(run: &RunId) -> Error {
    let message = format!("run `{run}` is not blocked: there is nothing to resume");
    Error::new(ErrorKind::Conflict, message)
}

fn unreadable_end(run: &RunId) -> Error {
    let message = format!(
        "run `{run}` has ended with an event that this version cannot read: use the version of \
         tidemill that wrote it"
    );
    Error::new(ErrorKind::Corrupt, message)
}
