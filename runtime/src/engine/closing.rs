//! Closing a node: a stop loses no result that comes in time, and waits for nobody for ever.
//!
//! Order: no new work; every driver cancels the tokens of its bodies at once and records what still
//! ends as held; with the last body, or when the grace is over, the writer writes what was accepted
//! and the clean end is noted; connections close; the lock goes. A body that is still running then
//! keeps the lock. Nothing depends on the end being reached.
//!
//! Fenced: there is no grace and nothing is recorded. Crash: as at any other moment.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::error::{Error, ErrorKind};

/// How long dropping the async bodies may take that are left when the grace is over, and recording
/// what had arrived by then: each ends at its next await.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Lets go of everything and closes the file.
pub(super) async fn close(engine: &Arc<Engine>) -> Result<(), Error> {
    if engine.grace_over.is_cancelled() {
        return Ok(());
    }
    engine.closing.cancel();
    engine.registry.close();
    engine.drivers.close();
    engine.pool.close();
    let mut ended = pin!(all_ended(engine));
    let in_time = tokio::select! {
        biased;
        () = engine.gate().fenced() => false,
        () = &mut ended => true,
        () = engine.timers.sleep(engine.app.grace) => false,
    };
    engine.grace_over.cancel();
    if !in_time {
        tracing::warn!(grace = ?engine.app.grace, "bodies that did not return in time are dropped");
        tokio::select! {
            biased;
            () = ended => {}
            () = engine.timers.sleep(LAST_MOMENT) => {}
        }
    }
    let closed = close_file(engine).await;
    if let Some(lock) = engine.take_lock() {
        for body in lock.still_running() {
            tracing::warn!(body, "a step's body did not return in time: it keeps the file locked");
        }
    }
    closed
}

/// Waits until nothing serves a run any more: no driver, and no body of a dropped step.
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
