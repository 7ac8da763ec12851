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

/// The names of timers that were given none.
const SLEEP: &str = "sleep";
const SLEEP_UNTIL: &str = "sleep_until";

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
    #[track_caller]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let fire_at = self.cell().wall();
        let operation = self.operation("ctx.sleep()", SLEEP, |op, name| {
            let event = Event::TimerStarted { op, name, fire_at };
            Ok(Asked { counted: true, ..event.into() })
        });
        Sleep::after(duration, operation)
    }

    /// A timer that fires at a moment of the wall clock: a [`Timestamp`] as `ctx.now()` gives it, a
    /// [`SystemTime`](std::time::SystemTime), or a `Timestamp` or `Zoned` of the crate `jiff`.
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
    #[track_caller]
    pub fn sleep_until(&self, at: impl Into<Timestamp>) -> Sleep {
        let fire_at = at.into();
        Sleep::until(self.operation("ctx.sleep_until()", SLEEP_UNTIL, |op, name| {
            Ok(Event::TimerStarted { op, name, fire_at }.into())
        }))
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

    /// Names it, for people: `show`, SQL and the events say what the run waits for. A run that began
    /// under code that gave its timer no name continues under code that does, and the other way
    /// round; another name is another timer.
    ///
    /// # Panics
    /// If the timer was started. A panic blocks the run.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn retry(ctx: Ctx, _: ()) -> Result<()> {
    ///     ctx.sleep(Duration::from_secs(300)).named("cool-down").await?;
    ///     Ok(())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("retry", retry);
    /// ```
    pub fn named(mut self, name: &str) -> Sleep {
        self.operation.rename("a timer", name);
        self
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

/// Whether a timer of the code may be the one of the log: by their names, of which one that was
/// given none fits every name that was given.
pub(crate) fn is_same_name(asked: &OpName, logged: &OpName) -> bool {
    let is_given = |name: &OpName| ![SLEEP, SLEEP_UNTIL].contains(&name.as_str());
    asked == logged || is_given(asked) != is_given(logged)
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
