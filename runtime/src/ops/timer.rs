//! Timers: a run waits until a moment, even while no process runs.
//!
//! A timer starts with `timer_started`, which has the moment, and ends with `timer_fired`. The
//! timers of the process serve it (`engine/timers.rs`). When it is dropped, the engine cancels it.
//! When the run is loaded again, the engine sets it for the same moment.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidemill_model::{Event, OpId, OpName, Timestamp};

use super::Operation;
use crate::author::Ctx;
use crate::author::result::StepError;
use crate::engine::cell::Asked;
use crate::engine::driver::Driver;
use crate::engine::journal::Journal;

/// The name of a timer for a duration.
const SLEEP: &str = "sleep";

impl Ctx {
    /// A timer. The log records the moment at which it fires, so it counts even while no process
    /// runs.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn remind(ctx: Ctx, days: u64) -> Result<()> {
    ///     ctx.sleep(Duration::from_secs(days * 86_400)).await?;
    ///     Ok(())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("remind", remind);
    /// ```
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::after(duration, self.timer("ctx.sleep()", SLEEP, self.cell().wall()))
    }

    /// A timer that fires at a moment of the wall clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn tomorrow(ctx: Ctx, _: ()) -> Result<()> {
    ///     let at = ctx.now().saturating_add(Duration::from_secs(86_400));
    ///     ctx.sleep_until(at).await?;
    ///     Ok(())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("tomorrow", tomorrow);
    /// ```
    pub fn sleep_until(&self, at: Timestamp) -> Sleep {
        Sleep::until(self.timer("ctx.sleep_until()", "sleep_until", at))
    }

    fn timer(&self, what: &str, name: &str, fire_at: Timestamp) -> Operation<()> {
        self.operation(what, name, |op, name| Ok(Event::TimerStarted { op, name, fire_at }.into()))
    }
}

/// A timer: await it.
#[must_use = "a timer starts when it is awaited, or by .start()"]
pub struct Sleep {
    operation: Operation<()>,
    /// How long it takes from its start; `None` if it has a moment instead.
    after: Option<Duration>,
}

impl Sleep {
    /// A timer that fires `duration` after its start.
    pub(crate) fn after(duration: Duration, operation: Operation<()>) -> Sleep {
        Sleep { operation, after: Some(duration) }
    }

    /// A timer that fires at the moment that the operation has.
    pub(crate) fn until(operation: Operation<()>) -> Sleep {
        Sleep { operation, after: None }
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Sleep {
        self.count();
        self.operation.start(Waker::noop());
        self
    }

    /// Sets its moment, counted from now, if it has not started yet.
    fn count(&mut self) {
        if !self.operation.is_new() {
            return;
        }
        let Some(after) = self.after.take() else { return };
        let at = self.operation.cell().wall().saturating_add(after);
        if let Some(Asked { event: Event::TimerStarted { fire_at, .. }, .. }) =
            self.operation.asked()
        {
            *fire_at = at;
        }
    }
}

impl Future for Sleep {
    type Output = Result<(), StepError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.count();
        self.operation.poll(cx)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}

/// Whether a timer that starts is counted on the boot clock, or fires at a moment of the wall
/// clock.
pub(super) fn is_counted(name: &OpName) -> bool {
    name.as_str() == SLEEP
}

/// Sets a timer whose start is durable, unless the same turn dropped it.
pub(super) fn set(
    driver: &mut Driver,
    journal: &Journal,
    op: OpId,
    (fire_at, counted): (Timestamp, bool),
) {
    let Some(open) = journal.open(op) else { return };
    let (inbox, end) =
        (Arc::clone(&driver.run.inbox), Event::TimerFired { op, name: open.name.clone() });
    let key = driver.engine.timers.fire_at(fire_at, counted, inbox, end);
    driver.timers.insert(op, key);
}
