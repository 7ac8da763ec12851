//! Cancels the runs that have not ended at their deadline.
//!
//! The file's index of deadlines is the list of them, so it does not matter whether a run is loaded,
//! blocked or paused, or which process started it. One task sleeps until the earliest one, asks the runs
//! that are late to end, as a person would (`asks.rs`), and looks for the next. An ask may take as long
//! as its run's code, so each has a task of its own, and the run is not asked again meanwhile.
//!
//! A parked run has no deadline until a person lets it go on: the time of the machine that it was copied
//! from says nothing about the copy.
//!
//! Failure: when the file cannot be read, or a cancel cannot be recorded, the task tries again after a
//! pause. Crash: the next process finds in the index what is late.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_eventlog::due::RunDeadline;
use tidemill_model::{Requester, RunId, Timestamp};
use tokio::sync::Notify;

use super::Engine;
use super::asks::Verb;
use super::driver::READ_PAUSE;
use crate::error::{Error, ErrorKind};
use crate::store::Stored;

/// How many runs are asked at one time: each of them is loaded for it.
const ASKED_MAX: usize = 256;

/// What the task waits for.
#[derive(Default)]
pub(crate) struct Deadlines {
    /// Notified when the list has changed in a way that the task has to know.
    changed: Notify,
    /// The runs that are being asked to end.
    asked: Mutex<BTreeSet<RunId>>,
}

impl Deadlines {
    /// Lets the task look at the list again: it has an earlier deadline, or lacks one.
    pub(super) fn look(&self) {
        self.changed.notify_one();
    }

    fn asked(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at the list found.
struct Look {
    late: Vec<RunDeadline>,
    /// When there is something to do again; `None` if something has to change first.
    next: Option<Timestamp>,
}

/// Asks the runs to end whose deadline has passed, until the node closes.
pub(super) async fn watch(engine: Arc<Engine>) {
    while !engine.closing.is_cancelled() {
        let look = match engine.look_at_deadlines().await {
            Ok(look) => look,
            Err(error) => {
                tracing::warn!(%error, "the deadlines cannot be read now");
                engine.timers.sleep(READ_PAUSE).await;
                continue;
            }
        };
        for late in look.late {
            engine.deadlines.asked().insert(late.run.clone());
            let asks = Arc::clone(&engine);
            engine.spawn(async move {
                if asks.cancel_late(&late).await {
                    asks.deadlines.asked().remove(&late.run);
                }
                asks.deadlines.look();
            });
        }
        let rings = async {
            match look.next {
                Some(at) => engine.timers.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = engine.closing.cancelled() => {}
            () = engine.deadlines.changed.notified() => {}
            () = rings => {}
        }
    }
}

impl Engine {
    /// The runs that are late and not being asked, as many as may be, or when the next one is.
    async fn look_at_deadlines(&self) -> Result<Look, Error> {
        let (mut after, mut late) = (None, Vec::new());
        loop {
            let page = self.store.reads().deadlines(after).await?;
            let now = self.clock.wall();
            for deadline in &page {
                if deadline.at > now {
                    return Ok(Look { late, next: Some(deadline.at) });
                }
                let is_asked = self.deadlines.asked().contains(&deadline.run);
                if is_asked || !self.scope_of_runs.has(&deadline.run) {
                    continue;
                }
                if self.deadlines.asked().len() + late.len() >= ASKED_MAX {
                    // The end of an ask lets the task look again.
                    return Ok(Look { late, next: None });
                }
                late.push(deadline.clone());
            }
            after = page.into_iter().next_back();
            if after.is_none() {
                return Ok(Look { late, next: None });
            }
        }
    }

    /// Asks a run to end until that is recorded, or the run has ended by itself. `false` if this process
    /// cannot ask it: it stays in the list, and is not asked again.
    async fn cancel_late(self: &Arc<Self>, late: &RunDeadline) -> bool {
        while !self.closing.is_cancelled() {
            let asked = self.ask(&late.run, Verb::Cancel, Requester::deadline(late.at)).await;
            match asked {
                Ok(_) => return true,
                Err(error)
                    if [ErrorKind::Conflict, ErrorKind::NotFound].contains(&error.kind()) =>
                {
                    if !matches!(
                        self.stored(&late.run).await,
                        Ok(Stored::Going | Stored::Paused | Stored::Blocked(..))
                    ) {
                        return true;
                    }
                    // Its log is of a newer version.
                    tracing::warn!(run = %late.run, %error, "a late run cannot be cancelled");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(run = %late.run, %error, "a late run cannot be cancelled now");
                    self.timers.sleep(READ_PAUSE).await;
                }
            }
        }
        true
    }
}
