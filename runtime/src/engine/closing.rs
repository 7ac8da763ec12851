//! Closes a node without losing a result that comes in time, and within a bound.
//!
//! The node takes no new work. Every driver cancels the tokens of its bodies at once, and records
//! as held what still ends. With the last body, or when the grace is over, the writer writes what
//! was accepted and notes the clean end; then the connections close and the lock is freed. A body
//! that still runs then keeps the lock. Nothing depends on completing all of this.
//!
//! Fenced: there is no grace and nothing is recorded. Crash: as at any other moment.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tidemill_model::unix_ms;

use super::Engine;
use crate::error::{Error, ErrorKind};

/// How long the node waits after the grace for the remaining async bodies, each of which is dropped
/// at its next await, and for recording what had arrived.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Stops every run and closes the file.
pub(super) async fn close(engine: &Arc<Engine>) -> Result<(), Error> {
    if engine.grace_over.is_cancelled() {
        return Ok(());
    }
    engine.closing.cancel();
    engine.registry.close();
    engine.drivers.close();
    engine.pool.close();
    let grace = engine.app.time_to_return();
    let mut ended = pin!(all_ended(engine));
    let in_time = tokio::select! {
        biased;
        () = engine.gate().fenced() => false,
        () = &mut ended => true,
        () = engine.timers.sleep(grace) => false,
    };
    engine.grace_over.cancel();
    if !in_time {
        let grace_ms = unix_ms(grace);
        tracing::warn!(grace_ms, "bodies that did not return in time are dropped");
        tokio::select! {
            biased;
            () = ended => {}
            () = engine.timers.sleep(LAST_MOMENT) => {}
        }
    }
    engine.traces.drain().await;
    let closed = close_file(engine).await;
    engine.traces.close().await;
    if let Some(lock) = engine.take_lock() {
        for body in lock.still_running() {
            tracing::warn!(body, "a step's body did not return in time: it keeps the file locked");
        }
    }
    closed
}

/// Waits until no driver and no body of a dropped step is left.
async fn all_ended(engine: &Engine) {
    engine.drivers.wait().await;
    engine.losers_ended().await;
}

async fn close_file(engine: &Arc<Engine>) -> Result<(), Error> {
    let Some(file) = engine.store.stop().await else { return Ok(()) };
    let engine = Arc::clone(engine);
    let closed = tokio::task::spawn_blocking(move || {
        engine.timers.close();
        let closed = file.close();
        engine.polls.end();
        closed
    });
    closed.await.map_err(|e| Error::caused(ErrorKind::Internal, "closing panicked", e))?
}
