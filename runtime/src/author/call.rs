//! What `Ctx` gives out: builders that are the futures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::operation::Operation;
use super::result::StepError;
use super::retry::Retry;

/// A step: set its options, then await it. It starts when it is first polled.
///
/// Dropped before its end, it is recorded as dropped: the body's cancellation token is cancelled
/// and its late result is ignored. The body itself has the [grace](crate::App::grace) to return;
/// then an async one is dropped at its next await, and a blocking one goes on until it returns.
#[must_use = "a step starts when it is awaited, or by .start()"]
pub struct Call<T: DeserializeOwned>(Operation<T>);

/// A timer: await it.
#[must_use = "a timer starts when it is awaited, or by .start()"]
pub struct Sleep(Operation<()>);

/// A child run: await its output. Dropped before its end, the child is cancelled.
#[must_use = "a child starts when it is awaited, or by .start()"]
pub struct Child<T: DeserializeOwned>(Operation<T>);

impl<T: DeserializeOwned> Call<T> {
    pub(crate) fn new(operation: Operation<T>) -> Call<T> {
        Call(operation)
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
        if let Some(body) = self.0.body() {
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
        if let Some(body) = self.0.body() {
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
        if let Some(body) = self.0.body() {
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
    pub(crate) fn new(operation: Operation<()>) -> Sleep {
        Sleep(operation)
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Sleep {
        self.0.start(Waker::noop());
        self
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

/// Implements `Future` and `Debug` for a wrapper of an operation, whose output is `$output`.
macro_rules! operation_future {
    ($name:ident $(<$type:ident>)?, $output:ty) => {
        impl $(<$type: DeserializeOwned>)? Future for $name $(<$type>)? {
            type Output = Result<$output, StepError>;

            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.0.poll(cx)
            }
        }

        impl $(<$type: DeserializeOwned>)? fmt::Debug for $name $(<$type>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}
operation_future!(Call<T>, T);
operation_future!(Sleep, ());
operation_future!(Child<T>, T);
