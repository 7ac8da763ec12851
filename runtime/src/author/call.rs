//! What `Ctx` gives out: builders that are the futures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tidemill_model::Event;

use super::operation::Operation;
use super::result::StepError;
use super::retry::Retry;
use crate::engine::bodies::StepBody;
use crate::engine::cell::Asked;

/// A step: set its options, then await it. It starts when it is first polled.
///
/// Dropped before its end, it is recorded as dropped: the body's cancellation token is cancelled
/// and its late result is ignored. The body itself has the [grace](crate::App::grace) to return;
/// then an async one is dropped at its next await, and a blocking one goes on until it returns.
#[must_use = "a step starts when it is awaited, or by .start()"]
pub struct Call<T: DeserializeOwned>(Operation<T>);

/// A timer: await it.
#[must_use = "a timer starts when it is awaited, or by .start()"]
pub struct Sleep {
    operation: Operation<()>,
    /// How long it takes from its start, unless it was given a moment.
    after: Option<Duration>,
}

/// A child run: await its output. Dropped before its end, the child is cancelled.
#[must_use = "a child starts when it is awaited, or by .start()"]
pub struct Child<T: DeserializeOwned>(Operation<T>);

impl<T: DeserializeOwned> Call<T> {
    pub(crate) fn new(operation: Operation<T>) -> Call<T> {
        Call(operation)
    }

    fn body(&mut self) -> Option<&mut StepBody> {
        self.0.asked()?.body.as_mut()
    }

    /// Tries again after an error, as `retry` says. Default: one attempt.
    ///
    /// # Panics
    /// After the step was started; so do the other options. A panic blocks the run.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result, Retry};
    /// async fn download(url: String) -> Result<u64> {
    ///     Ok(u64::try_from(url.len())?)
    /// }
    ///
    /// async fn fetch(ctx: Ctx, url: String) -> Result<u64> {
    ///     let fetch = ctx.run("fetch", move || download(url));
    ///     Ok(fetch.retry(Retry::attempts(3)).await?)
    /// }
    /// ```
    pub fn retry(mut self, retry: Retry) -> Call<T> {
        if let Some(body) = self.body() {
            body.retry = Some(Box::new(retry));
        }
        self
    }

    /// Ends an attempt that takes longer: its token is cancelled, an async body is dropped at its
    /// next await, and the attempt counts as failed once the body has returned. Default: no bound.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill::{Ctx, Result};
    /// async fn download(url: String) -> Result<u64> {
    ///     Ok(u64::try_from(url.len())?)
    /// }
    ///
    /// async fn fetch(ctx: Ctx, url: String) -> Result<u64> {
    ///     let fetch = ctx.run("fetch", async move || download(url).await);
    ///     Ok(fetch.timeout(Duration::from_secs(10)).await?)
    /// }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Call<T> {
        if let Some(body) = self.body() {
            body.timeout = Some(timeout);
        }
        self
    }

    /// Runs the body on a pool of threads for work that keeps a processor busy, as many as there
    /// are cores; what is over that waits in line.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result, Step};
    /// async fn train(step: Step, epochs: u32) -> Result<f64> {
    ///     let mut weight = step.last_checkpoint::<f64>()?.unwrap_or(0.0);
    ///     for _ in 0..epochs {
    ///         weight += 0.5; // a minute of arithmetic
    ///         step.checkpoint(weight).await?;
    ///     }
    ///     Ok(weight)
    /// }
    ///
    /// async fn sweep(ctx: Ctx, epochs: u32) -> Result<f64> {
    ///     Ok(ctx.step("train", train, epochs).blocking().await?)
    /// }
    /// ```
    pub fn blocking(mut self) -> Call<T> {
        if let Some(Asked { event: Event::StepStarted { queued, .. }, body: Some(body) }) =
            self.0.asked()
        {
            *queued = true;
            body.blocking = true;
        }
        self
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Call<T> {
        self.0.start(Waker::noop());
        self
    }
}

impl Sleep {
    /// A timer that fires so long after its start.
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

    /// Counts from now if it starts now.
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

impl<T: DeserializeOwned> Child<T> {
    pub(crate) fn new(operation: Operation<T>) -> Child<T> {
        Child(operation)
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Child<T> {
        self.0.start(Waker::noop());
        self
    }
}

/// Implements `Future` and `Debug` for a wrapper of an operation.
macro_rules! operation_future {
    ($name:ident) => {
        impl<T: DeserializeOwned> Future for $name<T> {
            type Output = Result<T, StepError>;

            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.0.poll(cx)
            }
        }

        impl<T: DeserializeOwned> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}
operation_future!(Call);
operation_future!(Child);
