//! Records an attempt's own events: its beginning, its checkpoints, its failure.

use std::sync::Arc;
use std::time::Duration;

use tidemill_model::{Event, Json, OpId, RunId};
use tokio_util::sync::CancellationToken;

use super::progress::BodyProgress;
use crate::author::step::Attempt;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::store::writer::Aside;

/// How long a refused record waits before it is tried again: a full disk is not freed sooner.
const REFUSED_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 500 });

/// Records checkpoints of one attempt.
pub(crate) struct Checkpointer {
    pub(crate) engine: Arc<Engine>,
}

impl Checkpointer {
    /// Records a checkpoint and returns once it is durable, however long the disk stays full.
    ///
    /// # Errors
    /// `Conflict` if the attempt is over; `Unavailable` once the node has shut down.
    pub(crate) async fn record(&self, attempt: &Attempt, value: Json) -> Result<(), Error> {
        let event = Event::Checkpoint {
            op: attempt.op,
            name: attempt.name.clone(),
            attempt: attempt.attempt,
            value,
        };
        record(&self.engine, &attempt.run, (attempt.op, attempt.attempt), &event).await
    }
}

/// Records an event of an attempt, and tries again for as long as the disk is full, because that
/// says nothing about the step. Gives up only if the attempt is over or the node has shut down.
pub(super) async fn record(
    engine: &Engine,
    run: &RunId,
    (op, attempt): (OpId, u32),
    event: &Event,
) -> Result<(), Error> {
    loop {
        let (run, event) = (run.clone(), event.clone().into());
        let aside = |reply| Aside { run, op, attempt, event, reply };
        let Err(error) = engine.store.record(aside).await else { return Ok(()) };
        if error.kind() == ErrorKind::Conflict || engine.grace_over.is_cancelled() {
            return Err(error);
        }
        tokio::select! {
            biased;
            () = engine.grace_over.cancelled() => return Err(error),
            () = engine.timers.sleep(REFUSED_PAUSE) => {}
        }
    }
}

/// The entrance that an attempt passes right before its body begins.
pub(super) struct Entrance {
    pub(super) engine: Arc<Engine>,
    pub(super) run: RunId,
    pub(super) op: OpId,
    pub(super) token: CancellationToken,
    pub(super) progress: Arc<BodyProgress>,
    pub(super) attempt: u32,
    /// The event that records the attempt's beginning.
    pub(super) begins: Event,
}

impl Entrance {
    /// Waits until the gate is open and the log says that the attempt begins; false if its step is
    /// no longer wanted or was taken away. `told` means that the log says so already, which holds unless the attempt
    /// has to wait here.
    pub(super) async fn pass(&self, told: bool) -> bool {
        let Some(waited) = self.opened().await else { return false };
        if told && !waited {
            return true;
        }
        if !self.progress.tells() {
            return false;
        }
        let recorded = record(&self.engine, &self.run, (self.op, self.attempt), &self.begins).await;
        // Writing the event may have taken longer than the lease lasted.
        recorded.is_ok() && self.opened().await.is_some()
    }

    /// Waits for the gate and returns whether it was closed; `None` if the attempt is no longer
    /// wanted.
    async fn opened(&self) -> Option<bool> {
        let waits = !self.engine.gate().is_open();
        if waits {
            tokio::select! {
                biased;
                () = self.token.cancelled() => return None,
                opened = self.engine.gate().opened() => opened.ok()?,
            }
        }
        (!self.token.is_cancelled()).then_some(waits)
    }
}
