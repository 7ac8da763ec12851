//! Signals: a run waits for what it is sent from outside.
//!
//! | event | |
//! |---|---|
//! | `signal_received` | the run was sent a signal, whoever waits: the writer records it, and the run keeps it |
//! | `signal_started` | the code waits for a signal of this name |
//! | `signal_delivered` | the oldest signal of that name goes to the oldest wait |
//! | `signal_taken` | the code has it |
//!
//! Between the last two the code may drop the wait, because another branch of a `select!` won in the
//! same poll: then the run has the signal again, at its old place. So a wait that loses has taken
//! nothing.
//!
//! Crash: what was received is in the log, and a process that loads the run delivers it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tidemill_model::Event;

use super::{Operation, Sleep};
use crate::author::Ctx;
use crate::author::result::StepError;

impl Ctx {
    /// The next signal of this name: awaits what [`RunHandle::signal`](crate::RunHandle::signal),
    /// `tidemill signal` or `POST /v1/runs/{id}/signals/{name}` sends. The run keeps signals in the
    /// order in which they arrive, also those that came before this call, and gives each out once.
    ///
    /// A signal whose value is no `T` blocks the run, until code that can read it is deployed. Once a
    /// program has made this call, a node refuses such a value when it is sent.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn publish(ctx: Ctx, draft: String) -> Result<String> {
    ///     let week = Duration::from_secs(7 * 86_400);
    ///     match ctx.signal::<bool>("approve").timeout(week).await? {
    ///         Some(true) => Ok(format!("published {draft}")),
    ///         Some(false) => Ok("refused".to_owned()),
    ///         None => Ok("nobody looked".to_owned()),
    ///     }
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("publish", publish);
    /// ```
    #[track_caller]
    pub fn signal<T: DeserializeOwned + 'static>(&self, name: &str) -> SignalWait<T> {
        let operation = self.operation("ctx.signal()", name, |op, name| {
            self.cell().outside_types().signals.note::<T>(&name);
            Ok(Event::SignalStarted { op, name }.into())
        });
        SignalWait { ctx: self.clone(), operation }
    }
}

/// A wait for a signal: await it, or give it a [timeout](SignalWait::timeout) first. If it is dropped
/// before it has its signal, the run keeps that for the next wait.
#[must_use = "a wait for a signal begins when it is awaited"]
pub struct SignalWait<T: DeserializeOwned> {
    ctx: Ctx,
    operation: Operation<T>,
}

impl<T: DeserializeOwned> SignalWait<T> {
    /// Waits no longer than this; then it gives `None`. A timer of the run counts the time, also while
    /// no process runs.
    #[track_caller]
    pub fn timeout(self, after: Duration) -> SignalWithin<T> {
        let timer = self.ctx.sleep(after);
        SignalWithin { wait: Some(self), timer }
    }
}

impl<T: DeserializeOwned> Future for SignalWait<T> {
    type Output = Result<T, StepError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.operation.poll(cx)
    }
}

impl<T: DeserializeOwned> fmt::Debug for SignalWait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalWait").finish_non_exhaustive()
    }
}

/// A wait for a signal with a timeout: `None` if no signal came in time.
#[must_use = "a wait for a signal begins when it is awaited"]
pub struct SignalWithin<T: DeserializeOwned> {
    /// `None` once the time is over.
    wait: Option<SignalWait<T>>,
    timer: Sleep,
}

impl<T: DeserializeOwned> Future for SignalWithin<T> {
    type Output = Result<Option<T>, StepError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(wait) = &mut this.wait else { return Poll::Pending };
        if let Poll::Ready(signal) = Pin::new(wait).poll(cx) {
            return Poll::Ready(signal.map(Some));
        }
        let Poll::Ready(fired) = Pin::new(&mut this.timer).poll(cx) else { return Poll::Pending };
        this.wait = None;
        Poll::Ready(fired.map(|()| None))
    }
}

impl<T: DeserializeOwned> fmt::Debug for SignalWithin<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalWithin").finish_non_exhaustive()
    }
}
