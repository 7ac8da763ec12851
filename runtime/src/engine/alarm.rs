//! Timers of runs that are not loaded: when the next one runs out, its run is loaded.
//!
//! The file's index of timers is the only list. One task sleeps until the earliest moment that
//! concerns a run which is not loaded (a loaded run has its own timer), loads what is due then, and
//! looks for the next moment. While nothing is due it does not wake up.
//!
//! Failure: a file that cannot be read now is read again after a pause. A timer of a blocked run is
//! left to whoever resumes the run. Crash: the next process finds in the index what ran out
//! meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use tidemill_model::Timestamp;
use tokio::sync::Notify;

use super::Engine;
use super::driver::{Next, READ_PAUSE};
use crate::error::Error;

/// How many timers are looked at between two moments: if all of these belong to loaded runs, the
/// last one's moment is when the rest is looked at.
const LOOKED_AT_MAX: usize = 4_096;

/// See the module.
#[derive(Default)]
pub(crate) struct Alarm {
    /// The next moment, as far as it is known. `None`: none.
    next: Mutex<Option<Timestamp>>,
    /// It became an earlier one.
    earlier: Notify,
}

impl Alarm {
    /// A run is not loaded any more and has a timer that runs out at `at`.
    pub(crate) fn note(&self, at: Timestamp) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none_or(|next| at < next) {
            *next = Some(at);
            self.earlier.notify_one();
        }
    }

    /// From here on only what is noted is earlier than never.
    fn forget(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The next moment, now that `found` is known, too.
    fn settle(&self, found: Option<Timestamp>) -> Option<Timestamp> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = [*next, found].into_iter().flatten().min();
        *next
    }
}

/// Loads runs as their timers run out, until the node closes.
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
    /// Loads every run that is not loaded and has a timer that ran out. The next moment at which
    /// there may be another.
    async fn load_due(self: &Arc<Self>) -> Result<Option<Timestamp>, Error> {
        let (mut after, mut looked_at) = (None, 0);
        loop {
            let page = self.store.reads().timers(after).await?;
            let Some(last) = page.last() else { return Ok(None) };
            after = Some(last.place());
            for timer in page {
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
