//! The alarm: loads a run when its timer is due.
//!
//! The file's index of timers is the list of timers. One task sleeps until the earliest timer of a
//! run that is not loaded (a loaded run has its own timer), loads the runs that are due then, and
//! looks for the next timer. While nothing is due it does not wake up. Runs that left memory in the
//! back-off of a step are listed here, because the file has no index of them: the next process loads
//! them at its start, as every run with an unfinished step.
//!
//! Failure: when the file cannot be read, the task reads it again after a pause. It skips the
//! timers of blocked runs, which fire after a `resume`. Crash: the next process finds the due
//! timers in the index.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_model::{RunId, Timestamp};
use tokio::sync::Notify;

use super::Engine;
use super::driver::{Next, READ_PAUSE};
use crate::error::Error;

/// How many timers one look reads: if all of them belong to loaded runs, the task looks at the rest
/// when the last of these is due.
const LOOKED_AT_MAX: usize = 4_096;

/// The moment for which the alarm's task waits.
#[derive(Default)]
pub(crate) struct Alarm {
    /// The next moment that is known; `None` if there is none.
    next: Mutex<Option<Timestamp>>,
    /// Notified when the next moment became an earlier one.
    earlier: Notify,
    /// Runs that left memory in a back-off, and when it ends. A run that was loaded before that for
    /// another reason stays listed, and loading a loaded run does nothing.
    back_offs: Mutex<BTreeSet<(Timestamp, RunId)>>,
}

impl Alarm {
    /// Notes that a run has left memory and has a timer due at `at`.
    pub(crate) fn note(&self, at: Timestamp) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none_or(|next| at < next) {
            *next = Some(at);
            self.earlier.notify_one();
        }
    }

    /// Notes that a run has left memory in a back-off that ends at `at`.
    pub(crate) fn note_back_off(&self, at: Timestamp, run: &RunId) {
        self.back_offs().insert((at, run.clone()));
        self.note(at);
    }

    /// A run whose back-off is over, and which is no longer listed; otherwise when the next one is
    /// over, or `None`.
    fn take_back_off(&self, now: Timestamp) -> Result<RunId, Option<Timestamp>> {
        let mut back_offs = self.back_offs();
        let Some(first) = back_offs.first() else { return Err(None) };
        if first.0 > now {
            return Err(Some(first.0));
        }
        let (_, run) = back_offs.pop_first().expect("there is a first one");
        Ok(run)
    }

    fn back_offs(&self) -> MutexGuard<'_, BTreeSet<(Timestamp, RunId)>> {
        self.back_offs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the next moment before a look at the file; only later notes count until `settle`.
    fn forget(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes the moment that the look found, and returns the earliest one known.
    fn settle(&self, found: Option<Timestamp>) -> Option<Timestamp> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = [*next, found].into_iter().flatten().min();
        *next
    }
}

/// Loads runs as their timers become due, until the node closes.
pub(super) async fn watch(engine: Arc<Engine>) {
    while !engine.closing.is_cancelled() {
        engine.alarm.forget();
        let next = match engine.load_due().await {
            Ok(next) => engine.alarm.settle(next),
            Err(error) => {
                tracing::warn!(%error, "the timers cannot be read now");
                engine.timers.sleep(READ_PAUSE).await;
                continue;
            }
        };
        let ring = async {
            match next {
                Some(at) => engine.timers.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = engine.closing.cancelled() => {}
            () = engine.alarm.earlier.notified() => {}
            () = ring => {}
        }
    }
}

impl Engine {
    /// Loads every run that has a due timer and is not loaded. Returns the next moment at which
    /// another timer may be due; `None` if there is none.
    async fn load_due(self: &Arc<Self>) -> Result<Option<Timestamp>, Error> {
        let back_off = self.load_backed_off().await;
        let timer = self.load_timers().await?;
        Ok([back_off, timer].into_iter().flatten().min())
    }

    /// The same for runs that left memory in a back-off.
    async fn load_backed_off(self: &Arc<Self>) -> Option<Timestamp> {
        loop {
            match self.alarm.take_back_off(self.clock.wall()) {
                Ok(run) if self.load_paced(&run, Next::Woken).await => {}
                Ok(_) => return None,
                Err(next) => return next,
            }
        }
    }

    async fn load_timers(self: &Arc<Self>) -> Result<Option<Timestamp>, Error> {
        let (mut after, mut looked_at) = (None, 0);
        loop {
            let page = self.store.reads().timers(after).await?;
            let Some(last) = page.last() else { return Ok(None) };
            after = Some(last.place());
            for timer in page.into_iter().filter(|timer| self.scope_of_runs.has(&timer.run)) {
                if self.registry.loaded(&timer.run).is_some() {
                    looked_at += 1;
                    if looked_at >= LOOKED_AT_MAX && timer.fire_at > self.clock.wall() {
                        return Ok(Some(timer.fire_at));
                    }
                } else if timer.fire_at > self.clock.wall() {
                    return Ok(Some(timer.fire_at));
                } else if !self.load_paced(&timer.run, Next::Woken).await {
                    return Ok(None);
                }
            }
        }
    }
}
