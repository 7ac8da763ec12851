//! Steps: a body that touches the world, whose output is recorded.
//!
//! A step starts with `step_started` and ends with `step_completed` or `step_failed`; in between,
//! asides record its attempts and checkpoints. A body serves it (`engine/bodies/`). When the step
//! is dropped, the engine cancels the body's token. When the run is loaded by another process, the
//! body runs again, as another attempt if the newest one began; a step in which the process dies
//! again and again blocks the run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::{BlockReason, BlockReasonKind, Event, Json, Op, OpId, Seq, Timestamp};

use super::{Effect, Operation};
use crate::author::result::{BoxError, Result as AuthorResult, StepError};
use crate::author::{Ctx, Retry, Step, payload};
use crate::engine::bodies::{RunningBody, StepBody};
use crate::engine::call_site::CallSite;
use crate::engine::cell::Asked;
use crate::engine::driver::Driver;
use crate::engine::journal::{Journal, StepFacts};
use crate::engine::run_core::RunCore;
use crate::engine::turn::Pending;

/// The number of deaths of the process in a row after which a step is poison.
const CRASHES_MAX: usize = 5;

impl Ctx {
    /// A step: runs `body` with `input` and records its output, after which it never runs again.
    ///
    /// The log records the input with the step's start. The body may run more than once if the
    /// process dies before its output is recorded: [`Step::idempotency_key`] is the same each time.
    /// An input that has no JSON or is over 1 MiB fails the step without an attempt.
    ///
    /// ```
    /// use tidemill::{Ctx, Result, Step};
    ///
    /// async fn greet(step: Step, name: String) -> Result<String> {
    ///     Ok(format!("hello {name}, attempt {}", step.attempt()))
    /// }
    ///
    /// async fn welcome(ctx: Ctx, name: String) -> Result<String> {
    ///     Ok(ctx.step("greet", greet, name).await?)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("welcome", welcome);
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "it is given away, as to the body itself")]
    #[track_caller]
    pub fn step<F, In, Fut, Out, E>(&self, name: &str, body: F, input: In) -> Call<Out>
    where
        F: Fn(Step, In) -> Fut + Send + 'static,
        In: Serialize + DeserializeOwned,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        let at = CallSite::of_caller();
        Call::new(self.operation("ctx.step()", name, |op, name| {
            let event =
                Event::StepStarted { op, name, queued: false, input: payload("input", &input)? };
            Ok(Asked { body: Some(StepBody::of_step(body, at)), ..event.into() })
        }))
    }

    /// A step without an input: a closure, cloned for each attempt. Its errors are of any type:
    /// `?` takes them all.
    ///
    /// ```
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn measure(ctx: Ctx, path: String) -> Result<u64> {
    ///     let size = ctx.run("size", async move || {
    ///         let size = std::fs::metadata(path)?.len();
    ///         Ok(u64::try_from(size)?)
    ///     });
    ///     Ok(size.await?)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("measure", measure);
    /// ```
    ///
    /// A function whose error is of another type than [`BoxError`] goes through a `?`, too:
    /// `async move || Ok(fetch(url).await?)`.
    #[track_caller]
    pub fn run<F, Fut, Out>(&self, name: &str, body: F) -> Call<Out>
    where
        F: FnOnce() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = AuthorResult<Out>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
    {
        let at = CallSite::of_caller();
        Call::new(self.operation("ctx.run()", name, |op, name| {
            let event = Event::StepStarted { op, name, queued: false, input: Json::null() };
            Ok(Asked { body: Some(StepBody::of_closure(body, at)), ..event.into() })
        }))
    }
}

/// A step: set its options, then await it. It starts when it is first polled.
///
/// If this future is dropped before the step's end, the log records the step as dropped: the body's
/// cancellation token is cancelled and its late result is ignored. The body has the
/// [grace](crate::App::grace) to return; after that an async body is dropped at its next await, and
/// a blocking body continues until it returns.
#[must_use = "a step starts when it is awaited, or by .start()"]
pub struct Call<T: DeserializeOwned>(Operation<T>);

impl<T: DeserializeOwned> Call<T> {
    pub(crate) fn new(operation: Operation<T>) -> Call<T> {
        Call(operation)
    }

    fn body(&mut self) -> Option<&mut StepBody> {
        self.0.asked()?.body.as_mut()
    }

    /// Attempts the step again after an error, as `retry` says. Default: one attempt.
    ///
    /// # Panics
    /// If the step was started, as do the other options. A panic blocks the run.
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
    /// next await, and the attempt counts as failed once the body has returned or was dropped.
    /// Default: no bound.
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

    /// Ends an attempt whose body gives no sign of life for this long: neither
    /// [`Step::heartbeat`] nor [`Step::checkpoint`]. It ends as one that takes
    /// [longer](Call::timeout) than it may. For a body that may take hours, but whose parts take
    /// seconds. A closure of [`Ctx::run`] has no `Step`, so for it this is a timeout. Default: no
    /// bound.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill::{Ctx, Result, Retry, Step};
    /// async fn copy(step: Step, pages: u32) -> Result<u32> {
    ///     for _ in 0..pages {
    ///         step.heartbeat(); // then fetch a page
    ///     }
    ///     Ok(pages)
    /// }
    ///
    /// async fn mirror(ctx: Ctx, pages: u32) -> Result<u32> {
    ///     let copy = ctx.step("copy", copy, pages).heartbeat(Duration::from_secs(30));
    ///     Ok(copy.retry(Retry::attempts(5)).await?)
    /// }
    /// ```
    pub fn heartbeat(mut self, limit: Duration) -> Call<T> {
        if let Some(body) = self.body() {
            body.limits.get_or_insert_default().heartbeat = Some(limit);
        }
        self
    }

    /// Fails the step, without an attempt, if its first one has not begun this long after the step's
    /// start: because all threads of [`blocking`](Call::blocking) are taken, because the node does not
    /// have its lease, or because no process had the run. The error's kind is
    /// [`TimedOut`](crate::FailureKind::TimedOut), and there is no retry. Default: no bound.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill::{Ctx, Result, Step};
    /// async fn render(_: Step, page: u32) -> Result<u32> {
    ///     Ok(page)
    /// }
    ///
    /// async fn preview(ctx: Ctx, page: u32) -> Result<Option<u32>> {
    ///     let render = ctx.step("render", render, page).blocking();
    ///     Ok(render.begin_within(Duration::from_secs(5)).await.ok())
    /// }
    /// ```
    pub fn begin_within(mut self, limit: Duration) -> Call<T> {
        if let Some(body) = self.body() {
            body.limits.get_or_insert_default().begin_within = Some(limit);
        }
        self
    }

    /// Runs the body on a pool of threads for work that keeps a processor busy. The pool has as
    /// many threads as there are cores; further bodies wait for a free one.
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
        if let Some(Asked { event: Event::StepStarted { queued, .. }, body: Some(body), .. }) =
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

operation_future!(Call);

/// Completes its `step_started`: whether its first attempt will wait is known now.
pub(super) fn ask(pending: &mut Pending, event: &mut Event, body: StepBody, gate_is_open: bool) {
    let Event::StepStarted { op, queued, .. } = event else { return };
    *queued = *queued || !gate_is_open;
    pending.effects.push(Effect::Body { op: *op, body });
}

/// Begins the body of a step whose start is durable, unless the same turn dropped the step.
pub(super) fn begin(driver: &mut Driver, journal: &Journal, op: OpId, body: StepBody) {
    let Some(open) = journal.open(op) else { return };
    let Some(facts) = StepFacts::of(open) else { return };
    let Some(lock) = driver.lock.as_ref() else { return };
    if driver.engine.closing.is_cancelled() {
        return;
    }
    let (step, owner) = ((op, open.name.clone()), (&driver.run, lock));
    let running = RunningBody::start(&driver.engine, owner, step, facts, body);
    if journal.head.is_cancelling() && !running.is_shielded() {
        running.ask_to_end(driver.engine.app.time_to_return(), &driver.engine.timers);
    }
    driver.bodies.insert(op, running);
}

/// Serves an open step of the log that nothing in this process serves.
pub(super) fn resume(
    driver: &Driver,
    core: &mut RunCore,
    pending: &mut Pending,
    (op, body): (OpId, StepBody),
    now: Timestamp,
) -> Option<Effect> {
    let open = core.journal.open(op)?;
    let newest = open.attempts.last().filter(|newest| newest.may_have_begun(now));
    if let Some(newest) = newest {
        let event = Event::StepRestarted {
            op,
            name: open.name.clone(),
            attempt: newest.number.saturating_add(1),
            after: Some(
                driver.engine.store.processes().end_of(newest.counts_from.unwrap_or(Seq::ZERO)),
            ),
            queued: driver.engine.queues(&body),
        };
        core.apply(now, &event).expect("a step that is open can begin again");
        pending.push(event);
    }
    Some(Effect::Body { op, body })
}

/// The reason that blocks the run if the process died too often while this step ran; `None` if it
/// did not.
pub(super) fn poison(
    driver: &Driver,
    journal: &Journal,
    (op, open): (OpId, &Op),
    now: Timestamp,
) -> Option<BlockReason> {
    if open.held.is_some() || !open.attempts.last()?.may_have_begun(now) {
        return None;
    }
    let base = driver.engine.store.processes().counts_after().max(journal.head.resumed);
    let crashes = tidemill_model::crashes(&open.attempts, base);
    (crashes >= CRASHES_MAX).then(|| BlockReason {
        kind: BlockReasonKind::Poison,
        op: Some(op),
        logged: Some(format!(
            "the process died {crashes} times in a row while step {op} `{}` ran",
            open.name
        )),
        asked: None,
        advice: "find out what the step does to the process (memory, exit, a crash in foreign \
                 code), fix it, then resume the run"
            .to_owned(),
    })
}
