//! Waits for a run's end, and resumes a blocked run, whether it is loaded or not.

use std::sync::Arc;

use tidemill_model::RunId;
use tokio::sync::oneshot;

use super::Engine;
use super::driver::Next;
use super::handle::RunResult;
use super::inbox::Control;
use super::registry::Outcome;
use super::virtual_time::WaitKind;
use crate::error::{Error, ErrorKind, closed};
use crate::store::Stored;

impl Engine {
    /// Waits until a run has ended or is blocked.
    ///
    /// # Errors
    /// `NotFound` if no run has this id; `Unavailable` when the node shuts down; `Corrupt` if this
    /// version cannot read the run's last event; otherwise what reading the file says.
    pub(super) async fn outcome(self: &Arc<Self>, run: &RunId) -> Result<RunResult, Error> {
        // Watched before the first look, so that no end in between is missed.
        let (mut watch, is_loaded) = self.registry.watch(run);
        if !is_loaded && let Some(outcome) = self.stored_outcome(run).await? {
            return Ok(outcome);
        }
        let ended = async {
            tokio::select! {
                biased;
                outcome = watch.wait_for(Option::is_some) => outcome.ok_or_else(closed),
                () = self.closing.cancelled() => Err(closed()),
            }
        };
        self.clock.wait(WaitKind::Run, ended).await?
    }

    /// The outcome in the file; `None` if the run is loaded now and will report its own. Loads a
    /// run that may turn out to be blocked in this program, so that the caller learns that at once.
    async fn stored_outcome(self: &Arc<Self>, run: &RunId) -> Result<Outcome, Error> {
        let mut was_tried = false;
        loop {
            match self.stored(run).await? {
                Stored::Ended(_, ended) => {
                    return ended.map(Some).ok_or_else(|| unreadable_end(run));
                }
                Stored::Blocked(seq, _) if self.retries.has_yet_to(seq) => {
                    self.load(run, Next::Rebuild(None));
                    return Ok(None);
                }
                Stored::Blocked(..) if self.registry.loaded(run).is_some() => return Ok(None),
                Stored::Blocked(_, reason) if was_tried => {
                    return Ok(Some(RunResult::Blocked(reason)));
                }
                // This may have been read before the run was tried again.
                Stored::Blocked(..) => was_tried = true,
                Stored::Paused => return Ok(None),
                Stored::Going => {
                    self.load(run, Next::Woken);
                    return Ok(None);
                }
            }
        }
    }

    /// Tries a blocked run again, once that is recorded. The children that are parked with a fork go on
    /// with it, and before it: if the process dies in between, the fork is parked still, and is resumed
    /// again.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the run has ended or is not blocked; `Unavailable` if nothing can
    /// be written now.
    pub(super) async fn resume(self: &Arc<Self>, run: &RunId) -> Result<(), Error> {
        for child in self.store.reads().parked_with(run).await? {
            match self.resume_alone(&child).await {
                Ok(()) => {}
                // Somebody else resumed or ended it.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        self.resume_alone(run).await
    }

    async fn resume_alone(self: &Arc<Self>, run: &RunId) -> Result<(), Error> {
        let has_ended =
            || Error::new(ErrorKind::Conflict, format!("run `{run}` has ended: nothing to resume"));
        let (mut watch, is_loaded) = self.registry.watch(run);
        if !is_loaded {
            match self.stored(run).await? {
                Stored::Ended(..) => return Err(has_ended()),
                Stored::Going => return Err(not_blocked(run)),
                Stored::Blocked(..) | Stored::Paused => {}
            }
        }
        let (reply, answer) = oneshot::channel();
        let engine = Arc::clone(self);
        let drive = move |run| engine.drive(run, Next::Halted, None);
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
            // Its driver may have ended before it saw the request.
            _ = watch.wait_for(ended) => Err(has_ended()),
            () = self.closing.cancelled() => Err(closed()),
        }
    }

    /// The run's state in the file.
    pub(super) async fn stored(&self, run: &RunId) -> Result<Stored, Error> {
        let stored = self.store.reads().find(run).await?;
        stored.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no run `{run}`")))
    }
}

/// The error for a run that cannot be resumed, because nothing is wrong with it.
pub(super) fn not_blocked(run: &RunId) -> Error {
    let message = format!("run `{run}` is neither blocked nor paused: there is nothing to resume");
    Error::new(ErrorKind::Conflict, message)
}

fn unreadable_end(run: &RunId) -> Error {
    let message = format!(
        "run `{run}` has ended with an event that this version cannot read: use the version of \
         tidemill that wrote it"
    );
    Error::new(ErrorKind::Corrupt, message)
}
