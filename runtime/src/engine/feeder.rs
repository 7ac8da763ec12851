//! Runs that were created when many others were on their way into memory: they follow in the order
//! of their creation, so many at a time.
//!
//! Each run that begins adds a turn to the writer's queue. Ten thousand children that begin in one
//! moment would keep everyone else waiting for as many turns.
//!
//! Crash and closing: a run that still waits here is pending in the file, and the next process
//! takes it up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_model::{RunCreated, RunId, Seq};
use tokio::sync::Notify;

use super::Engine;
use super::driver::Next;

/// See the module.
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
    /// Loads a run whose creation is durable: at once, if few others are on their way.
    pub(crate) fn adopt(self: &Arc<Self>, id: &RunId, seq: Seq, created: Box<RunCreated>) {
        match Arc::clone(&self.loads).try_acquire_owned() {
            Ok(place) => {
                let first = Next::first(seq, self.clock.wall(), created);
                self.registry.load(id, |run| self.drive(run, first, Some(place)));
            }
            Err(_) => self.feeder.push(id.clone()),
        }
    }
}

/// Loads what waits, until the node closes.
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
