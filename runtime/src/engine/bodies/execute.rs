//! Runs one attempt of a step, on the author's runtime or on the pool.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use tidemill_eventlog::host;
use tidemill_model::{Json, OpId, OpName, RunId, unix_ms};
use tidemill_telemetry::log::{Doing, while_doing};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::attempts::Work;
use super::pulse::Pulse;
use super::{BeginBody, BodyFuture, UnreadableInput};
use crate::author::result::BoxError;
use crate::author::step::Step;
use crate::engine::life::panic_message;
use crate::engine::timers::Timers;

/// A body that holds a worker for longer in one poll gets a warning, because it delays other tasks.
const POLL_WARN: Duration = Duration::from_secs(1);

impl Work {
    /// Runs the body to its end, on the author's runtime or on the pool.
    pub(super) async fn execute(
        &mut self,
        step: Option<Step>,
        (token, pulse): (CancellationToken, Option<Arc<Pulse>>),
    ) -> AttemptEnd {
        let bound = self.is_bounded().then(|| Bound {
            timers: self.engine.timers.clone(),
            runtime: self.engine.runtime.clone(),
            timeout: self.body.timeout,
            heartbeat: self.body.heartbeat().zip(pulse),
            attempt: token,
            step: self.token.clone(),
        });
        if self.body.blocking {
            let Some(run) = self.body.run.take() else { return AttemptEnd::LetGo };
            return Box::pin(self.execute_on_pool(run, step, bound)).await;
        }
        if !self.progress.begins(self.facts.attempt) {
            return AttemptEnd::LetGo;
        }
        let Some(run) = self.body.run.as_mut() else { return AttemptEnd::LetGo };
        self.body_clock.begins();
        let doing = Doing { run: self.run.id.clone(), op: Some(self.op) };
        let body = match while_doing(doing, || run(step, &self.facts.input)) {
            Ok(body) => body,
            Err(unreadable) => return AttemptEnd::Unreadable(unreadable),
        };
        watched(bounded_body(body, bound), &self.run.id, self.op, &self.name).await
    }

    /// Runs a whole body on the pool, including the part before its first await.
    async fn execute_on_pool(
        &mut self,
        mut run: Box<BeginBody>,
        step: Option<Step>,
        bound: Option<Bound>,
    ) -> AttemptEnd {
        let place = tokio::select! {
            biased;
            () = self.gives_up().cancelled() => return AttemptEnd::LetGo,
            place = self.engine.line.enter() => place,
        };
        let Some(place) = place else { return AttemptEnd::LetGo };
        let entered = host::boot_now();
        if !self.entrance().pass(false).await {
            return AttemptEnd::LetGo;
        }
        place.recorded(host::boot_now().since(entered));
        let (done, ended) = oneshot::channel();
        let input = self.facts.input.clone();
        let (runtime, entrance) = (self.engine.runtime.clone(), self.entrance());
        let (progress, attempt) = (Arc::clone(&self.progress), self.facts.attempt);
        let body_clock = self.body_clock.clone();
        let (lock, id, op, name) =
            (Arc::clone(&self.lock), self.run.id.clone(), self.op, self.name.clone());
        let job = Box::new(move || {
            let keeps_the_lock = lock.note(&id, op, &name);
            drop(lock);
            let work = async {
                // It may have waited for its thread, and its step may have been dropped since.
                if !entrance.pass(true).await || !progress.begins(attempt) {
                    return AttemptEnd::LetGo;
                }
                body_clock.begins();
                let began = host::boot_now();
                let ended = match run(step, &input) {
                    Ok(body) => bounded_body(body, bound).await,
                    Err(unreadable) => AttemptEnd::Unreadable(unreadable),
                };
                place.ran(host::boot_now().since(began));
                ended
            };
            let doing = Doing { run: id.clone(), op: Some(op) };
            let ended =
                catch_unwind(AssertUnwindSafe(|| while_doing(doing, || runtime.block_on(work))));
            let ended = ended
                .unwrap_or_else(|panic| AttemptEnd::Panicked(panic_message(&*panic).to_owned()));
            drop(place);
            // Before the answer, because a caller who learns that the node has closed may open the
            // file.
            drop(keeps_the_lock);
            // The waiting task may have been shut down, and then nobody needs the result.
            let _ = done.send((ended, run));
        });
        if self.engine.pool.run(job).is_err() {
            return AttemptEnd::LetGo;
        }
        let Ok((ended, run)) = ended.await else { return AttemptEnd::LetGo };
        self.body.run = Some(run);
        ended
    }
}

/// How an attempt ended.
pub(super) enum AttemptEnd {
    Returned(Result<Json, BoxError>),
    Panicked(String),
    Unreadable(UnreadableInput),
    OutOfTime,
    /// It gave no sign of life for too long.
    Silent,
    /// It did not begin, because its step was dropped or the node is closing.
    LetGo,
}

/// How long an attempt may take, and stay silent, from when its body begins.
struct Bound {
    timers: Timers,
    runtime: Handle,
    timeout: Option<Duration>,
    heartbeat: Option<(Duration, Arc<Pulse>)>,
    attempt: CancellationToken,
    step: CancellationToken,
}

/// Runs the body, catches its panics, and drops it when it is out of time. A result that it has
/// returned by then counts, because its work is done.
async fn bounded_body(body: BodyFuture, bound: Option<Bound>) -> AttemptEnd {
    let body = AssertUnwindSafe(body).catch_unwind().map(|ended| match ended {
        Ok(result) => AttemptEnd::Returned(result),
        Err(panic) => AttemptEnd::Panicked(panic_message(&*panic).to_owned()),
    });
    match bound {
        Some(bound) => Box::pin(within(body, bound)).await,
        None => body.await,
    }
}

async fn within(body: impl Future<Output = AttemptEnd>, bound: Bound) -> AttemptEnd {
    let Bound { timers, runtime, timeout, heartbeat, attempt, step } = bound;
    let timer = timeout.map(|timeout| timers.cancel_after(timeout, attempt.clone()));
    let watch = heartbeat.as_ref().map(|(limit, pulse)| {
        // It may have waited for its thread since it was made.
        pulse.beat();
        pulse.watch(*limit, (timers.clone(), &runtime), attempt.clone())
    });
    let is_silent = || heartbeat.as_ref().is_some_and(|(_, pulse)| pulse.is_silent());
    let mut body = pin!(body);
    let ended = tokio::select! {
        biased;
        ended = &mut body => ended,
        // The token of a dropped step cancels its attempt, too; that body ends by itself.
        () = attempt.cancelled() => {
            match step.is_cancelled() {
                true => body.await,
                false if is_silent() => AttemptEnd::Silent,
                false => AttemptEnd::OutOfTime,
            }
        }
    };
    drop(watch);
    if let Some(timer) = timer {
        timers.cancel(timer);
    }
    ended
}

/// Warns of a poll that held its worker for long.
async fn watched(
    body: impl Future<Output = AttemptEnd>,
    run: &RunId,
    op: OpId,
    step: &OpName,
) -> AttemptEnd {
    let mut body = pin!(body);
    poll_fn(|cx| {
        let began = host::boot_now();
        let doing = Doing { run: run.clone(), op: Some(op) };
        let polled = while_doing(doing, || body.as_mut().poll(cx));
        let took = host::boot_now().since(began);
        if took >= POLL_WARN {
            tracing::warn!(
                %run, %op, %step, took_ms = unix_ms(took),
                "a step's body held a worker of the runtime: make it .blocking()"
            );
        }
        match polled {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
