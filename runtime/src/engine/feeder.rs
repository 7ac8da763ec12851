//! The feeder: loads new runs in the order of their creation, a limited number at a time.
//!
//! Each run that begins adds a turn to the writer's queue. If ten thousand children began at once,
//! all other runs would wait for as many turns.
//!
//! Crash and closing: a run that still waits here is pending in the file, and the next process
//! loads it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_model::{RunCreated, RunId, Seq};
use tokio::sync::Notify;

use super::Engine;
use super::driver::Next;

/// The new runs that wait to be loaded.
#[derive(Default)]
pub(crate) struct Feeder {
    waiting: Mutex<VecDeque<RunId>>,
    arrived: Notify,
}

impl Feeder {
    fn push(&self, run: RunId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(run);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<RunId> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Engine {
    /// Loads a run whose creation is durable: at once, if few others are being loaded.
    pub(crate) fn adopt(self: &Arc<Self>, id: &RunId, seq: Seq, created: Box<RunCreated>) {
        self.scope_of_runs.add(id);
        if created.within_ms.is_some() {
            self.deadlines.look();
        }
        match Arc::clone(&self.loads).try_acquire_owned() {
            Ok(place) => {
                let first = Next::first(seq, self.clock.wall(), created);
                self.registry.load(id, |run| self.drive(run, first, Some(place)));
            }
            Err(_) => self.feeder.push(id.clone()),
        }
    }

    /// The same for a run that was sent a signal with its creation: it begins with that in its log.
    pub(crate) fn adopt_with_log(&self, id: &RunId) {
        self.scope_of_runs.add(id);
        self.deadlines.look();
        self.feeder.push(id.clone());
    }
}

/// Loads the waiting runs, until the node closes.
pub(super) async fn feed(engine: Arc<Engine>) {
    loop {
        while let Some(run) = engine.feeder.pop() {
            if !engine.load_paced(&run, Next::Rebuild(None)).await {
                return;
            }
        }
        tokio::select! {
            biased;
            () = engine.closing.cancelled() => return,
            () = engine.feeder.arrived.notified() => {}
        }
    }
}
