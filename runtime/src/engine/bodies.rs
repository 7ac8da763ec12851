//! Step bodies: the part of a workflow that touches the world.
//!
//! A body runs as a task of the author's runtime, or on the pool for `.blocking()`, from the
//! commit of its step's start until its end is in the run's inbox. One task makes all attempts of
//! a step, so an attempt begins only after the body of the one before has returned.
//!
//! Invariants:
//! - an attempt starts only through the gate, and only once the log says that it begins: with the
//!   step's start if nothing lies in between, otherwise with an event of its own;
//! - a failed attempt and the moment of the next are durable before anybody waits for it;
//! - what a body returns or records is kept or refused as a whole: an error, a panic, a timeout
//!   and a checkpoint that cannot be recorded fail the attempt;
//! - as long as a body runs it keeps the file locked, also after its node was shut down.
//!
//! Failure: when the log cannot be written, a result or checkpoint waits in memory and the body is
//! not run again. Crash: the log has the start and no end; recovery runs the body again as a later
//! attempt; one that had not begun keeps its number. Cancellation: the token tells the body, which may go on for the grace; then an async
//! one is dropped. Nobody looks at the result of a dropped step. A node that shuts down records an
//! output that still comes; an error that comes after the token was cancelled says nothing about
//! the step (its child process may have had the signal, too), and the body runs again.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_eventlog::host;
use tidemill_model::{Event, Failure, FailureKind, Json, OpId, OpName, RunId};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::app_lock::AppLock;
use super::journal::StepFacts;
use super::life::panic_message;
use super::timers::Timers;
use super::{Engine, Run};
use crate::author::result::{BoxError, failed, failure_of};
use crate::author::retry::Retry;
use crate::author::step::{Attempt, Step};
use crate::error::{Error, ErrorKind};
use crate::store::writer::{Aside, StepGuard};

pub(crate) type BodyFuture = Pin<Box<dyn Future<Output = Result<Json, BoxError>> + Send>>;

/// Makes the future of an attempt.
type Begin = dyn FnMut(Step, &Json) -> Result<BodyFuture, UnreadableInput> + Send;

/// The recorded input is not what the body takes: no attempt can change that.
pub(crate) struct UnreadableInput(serde_json::Error);

/// A body that holds a worker for longer in one poll keeps others waiting.
const POLL_WARN: Duration = Duration::from_secs(1);

/// How long a refused record waits before it is tried again: a full disk is not emptied sooner.
const REFUSED_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 500 });

/// A step's body with its types erased, and how it is to be run.
pub(crate) struct StepBody {
    /// None while it is on the pool.
    run: Option<Box<Begin>>,
    pub(crate) retry: Option<Box<Retry>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) blocking: bool,
}

impl StepBody {
    pub(crate) fn of_step<F, In, Fut, Out, E>(body: F) -> StepBody
    where
        F: Fn(Step, In) -> Fut + Send + 'static,
        In: DeserializeOwned,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        StepBody::new(move |step, input| {
            let input = input.decode::<In>().map_err(UnreadableInput)?;
            Ok(erase(body(step, input)))
        })
    }

    pub(crate) fn of_closure<F, Fut, Out, E>(body: F) -> StepBody
    where
        F: FnOnce() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        StepBody::new(move |_, _| Ok(erase(body.clone()())))
    }

    fn new<F>(run: F) -> StepBody
    where
        F: FnMut(Step, &Json) -> Result<BodyFuture, UnreadableInput> + Send + 'static,
    {
        StepBody { run: Some(Box::new(run)), retry: None, timeout: None, blocking: false }
    }
}

/// The body's future with its output as JSON that is known to come back.
fn erase<Fut, Out, E>(body: Fut) -> BodyFuture
where
    Fut: Future<Output = Result<Out, E>> + Send + 'static,
    Out: Serialize + DeserializeOwned,
    E: Into<BoxError>,
{
    Box::pin(async move {
        let output = body.await.map_err(Into::into)?;
        let json = crate::author::payload("output", &output).map_err(|failure| failure.message)?;
        let back = json.decode::<Out>();
        back.map_err(|e| format!("its output does not survive being recorded: {e}"))?;
        Ok(json)
    })
}

/// Records checkpoints of one attempt.
pub(crate) struct Checkpointer {
    engine: Arc<Engine>,
    guard: Arc<StepGuard>,
}

impl Checkpointer {
    /// Returns once it is durable, however long the disk is full.
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
        record(&self.engine, &attempt.run, &self.guard, attempt.attempt, &event).await
    }
}

/// Records an event of an attempt, as long as it takes: a disk that is full now says nothing about
/// the step. Ends without it only if the attempt is over, or the node has shut down.
async fn record(
    engine: &Engine,
    run: &RunId,
    guard: &Arc<StepGuard>,
    attempt: u32,
    event: &Event,
) -> Result<(), Error> {
    loop {
        let (run, guard, event) = (run.clone(), Arc::clone(guard), event.clone());
        let aside = |reply| Aside { run, guard, attempt, event, reply };
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

/// A body that runs, as its driver sees it.
pub(crate) struct RunningBody {
    pub(crate) guard: Arc<StepGuard>,
    pub(crate) token: CancellationToken,
    run: RunId,
    op: OpId,
    name: OpName,
    lock: Arc<AppLock>,
    /// On the pool, where nothing can end it but itself.
    blocking: bool,
    task: tokio::task::JoinHandle<()>,
}

impl RunningBody {
    /// Starts the body of a step whose start is durable.
    pub(crate) fn start(
        engine: &Arc<Engine>,
        (run, lock): (&Arc<Run>, &Arc<AppLock>),
        (op, name): (OpId, OpName),
        facts: StepFacts,
        body: StepBody,
    ) -> RunningBody {
        let guard = Arc::new(StepGuard::default());
        let token = CancellationToken::new();
        let blocking = body.blocking;
        let work = Work {
            engine: Arc::clone(engine),
            run: Arc::clone(run),
            op,
            name: name.clone(),
            guard: Arc::clone(&guard),
            token: token.clone(),
            last_checkpoint: Arc::new(Mutex::new(facts.last_checkpoint.clone())),
            facts,
            body,
            lock: Arc::clone(lock),
        };
        let task = engine.runtime.spawn(work.run());
        let (run, lock) = (run.id.clone(), Arc::clone(lock));
        RunningBody { guard, token, run, op, name, lock, blocking, task }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Drops the body at its next await; nobody waits any more for one that is on the pool.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }

    /// Tells the body of a dropped step; an async one is dropped when the grace is over.
    pub(crate) fn drop_after(&self, grace: Duration, timers: &Timers) {
        self.token.cancel();
        if !self.blocking {
            timers.abort_after(grace, self.task.abort_handle());
        }
    }

    /// Waits until the body has ended or was dropped. Cancel safety: it can be asked again.
    pub(crate) async fn ended(&mut self) {
        if !self.task.is_finished() {
            // Its own panics are caught; being aborted is what was asked for.
            let _ = (&mut self.task).await;
        }
    }

    /// Waits until a body that was aborted has ended: an async one that does not return to its
    /// runtime is noted as what keeps the file locked.
    pub(crate) async fn aborted(mut self) {
        let note = (!self.blocking && !self.is_finished())
            .then(|| self.lock.note(&self.run, self.op, &self.name));
        self.ended().await;
        drop(note);
    }
}

/// All attempts of one step.
struct Work {
    engine: Arc<Engine>,
    run: Arc<Run>,
    op: OpId,
    name: OpName,
    guard: Arc<StepGuard>,
    token: CancellationToken,
    last_checkpoint: Arc<Mutex<Option<Json>>>,
    facts: StepFacts,
    body: StepBody,
    lock: Arc<AppLock>,
}

/// How an attempt failed, and whether another may follow.
struct AttemptFailure {
    failure: Failure,
    is_final: bool,
}

impl Work {
    async fn run(mut self) {
        loop {
            if !self.ready().await {
                return;
            }
            // What an author's code does around the body may panic, too: dropping it when it is out
            // of time, printing its error, judging that.
            let ended = AssertUnwindSafe(self.attempt()).catch_unwind().await;
            let ended = ended.unwrap_or_else(|panic| {
                let failure = panicked(panic_message(&*panic));
                Some(Err(AttemptFailure { failure, is_final: false }))
            });
            let Some(ended) = ended else { return };
            let end = match ended {
                Ok(output) => Event::StepCompleted { op: self.op, name: self.name, output },
                Err(_) if self.token.is_cancelled() => return,
                Err(failed) => match self.next_after(failed).await {
                    Next::Again => continue,
                    Next::Gone => return,
                    Next::Failed(end) => end,
                },
            };
            self.run.inbox.push(end);
            return;
        }
    }

    /// Waits until the attempt may start; false if it never may. One for the pool has yet to pass
    /// its entrance there.
    async fn ready(&mut self) -> bool {
        if self.token.is_cancelled() {
            return false;
        }
        if let Some(at) = self.facts.next_at {
            let waited = self.engine.timers.sleep_until(at);
            tokio::select! {
                biased;
                () = self.token.cancelled() => return false,
                () = waited => {}
            }
        }
        if !self.guard.open(self.facts.attempt) {
            return false;
        }
        let told = self.facts.begun;
        self.body.blocking || self.entrance().pass(told).await
    }

    fn entrance(&self) -> Entrance {
        Entrance {
            engine: Arc::clone(&self.engine),
            run: self.run.id.clone(),
            guard: Arc::clone(&self.guard),
            token: self.token.clone(),
            attempt: self.facts.attempt,
            begins: Event::StepAttemptStarted {
                op: self.op,
                name: self.name.clone(),
                attempt: self.facts.attempt,
            },
        }
    }

    /// One attempt; none if nobody wants it any more and it did not begin.
    async fn attempt(&mut self) -> Option<Result<Json, AttemptFailure>> {
        let token = match self.body.timeout {
            Some(_) => self.token.child_token(),
            None => self.token.clone(),
        };
        let step = self.step(token.clone());
        let ended = self.execute(step.clone(), token).await;
        let hopeless = step.inner.hopeless.load(Ordering::Relaxed);
        let failed = |failure| Some(Err(AttemptFailure { failure, is_final: hopeless }));
        if step.inner.spoiled.load(Ordering::Relaxed) {
            let message = "a checkpoint was refused: it has no JSON or is over its limit";
            return failed(self::failed(message));
        }
        match ended {
            Ended::Returned(Ok(output)) => Some(Ok(output)),
            Ended::Returned(Err(error)) => {
                let retry = self.body.retry.as_ref();
                let is_final = hopeless || retry.is_some_and(|r| r.is_final(&*error));
                Some(Err(AttemptFailure { failure: failure_of(&*error), is_final }))
            }
            Ended::Unreadable(UnreadableInput(error)) => {
                let message = format!("the recorded input is not what the step takes: {error}");
                Some(Err(AttemptFailure { failure: self::failed(message), is_final: true }))
            }
            Ended::Panicked(message) => failed(panicked(&message)),
            Ended::OutOfTime => {
                let timeout = self.body.timeout.unwrap_or_default();
                let message = format!("it took longer than {timeout:?}");
                failed(Failure { kind: FailureKind::TimedOut, message, chain: Vec::new() })
            }
            Ended::LetGo => None,
        }
    }

    fn step(&self, token: CancellationToken) -> Step {
        Step {
            inner: Arc::new(Attempt {
                run: self.run.id.clone(),
                op: self.op,
                name: self.name.clone(),
                attempt: self.facts.attempt,
                epoch: self.engine.environment.epoch,
                key: self.engine.scope.clone(),
                state: Arc::clone(&self.engine.state),
                token,
                last_checkpoint: Arc::clone(&self.last_checkpoint),
                checkpointer: Checkpointer {
                    engine: Arc::clone(&self.engine),
                    guard: Arc::clone(&self.guard),
                },
                spoiled: AtomicBool::new(false),
                hopeless: AtomicBool::new(false),
            }),
        }
    }

    /// Runs the body to its end where it belongs.
    async fn execute(&mut self, step: Step, token: CancellationToken) -> Ended {
        let bound = self.body.timeout.map(|timeout| Bound {
            timers: self.engine.timers.clone(),
            timeout,
            attempt: token,
            step: self.token.clone(),
        });
        if self.body.blocking {
            let Some(run) = self.body.run.take() else { return Ended::LetGo };
            return self.execute_on_pool(run, step, bound).await;
        }
        let Some(run) = self.body.run.as_mut() else { return Ended::LetGo };
        let body = match run(step, &self.facts.input) {
            Ok(body) => body,
            Err(unreadable) => return Ended::Unreadable(unreadable),
        };
        watched(bounded_body(body, bound), &self.run.id, self.op, &self.name).await
    }

    /// Runs all of a body on the pool, also what it does before its first await.
    async fn execute_on_pool(
        &mut self,
        mut run: Box<Begin>,
        step: Step,
        bound: Option<Bound>,
    ) -> Ended {
        let place = tokio::select! {
            biased;
            () = self.token.cancelled() => return Ended::LetGo,
            place = self.engine.line.enter() => place,
        };
        let Some(place) = place else { return Ended::LetGo };
        let entered = host::boot_now();
        if !self.entrance().pass(false).await {
            return Ended::LetGo;
        }
        place.recorded(host::boot_now().since(entered));
        let (done, ended) = oneshot::channel();
        let input = self.facts.input.clone();
        let (runtime, entrance) = (self.engine.runtime.clone(), self.entrance());
        let (lock, id, op, name) =
            (Arc::clone(&self.lock), self.run.id.clone(), self.op, self.name.clone());
        let job = Box::new(move || {
            let keeps_the_lock = lock.note(&id, op, &name);
            drop(lock);
            let work = async {
                // It may have waited for its thread, and its step may have been dropped since.
                if !entrance.pass(true).await {
                    return Ended::LetGo;
                }
                let began = host::boot_now();
                let ended = match run(step, &input) {
                    Ok(body) => bounded_body(body, bound).await,
                    Err(unreadable) => Ended::Unreadable(unreadable),
                };
                place.ran(host::boot_now().since(began));
                ended
            };
            let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
            let ended =
                ended.unwrap_or_else(|panic| Ended::Panicked(panic_message(&*panic).to_owned()));
            drop(place);
            // Before the answer: who hears that the node has closed may open the file.
            drop(keeps_the_lock);
            // Whoever waited may have been shut down; then nobody needs to know.
            let _ = done.send((ended, run));
        });
        if self.engine.pool.run(job).is_err() {
            return Ended::LetGo;
        }
        let Ok((ended, run)) = ended.await else { return Ended::LetGo };
        self.body.run = Some(run);
        ended
    }

    /// Decides and records what follows a failed attempt.
    async fn next_after(&mut self, failed: AttemptFailure) -> Next {
        let AttemptFailure { failure, is_final } = failed;
        self.facts.failures = self.facts.failures.saturating_add(1);
        let attempt = self.facts.attempt;
        let now = self.engine.clock.wall();
        let elapsed = now.since(self.facts.started_at);
        let retry = self.body.retry.as_ref().filter(|_| !is_final);
        let delay = retry.and_then(|r| r.delay(self.facts.failures, elapsed, random_unit()));
        let Some(delay) = delay else {
            let (op, name, attempts) = (self.op, self.name.clone(), self.facts.failures);
            return Next::Failed(Event::StepFailed { op, name, error: failure, attempts });
        };
        let of = retry.map(|retry| retry.attempts_max());
        let next_at = now.saturating_add(delay);
        let event = Event::StepAttemptFailed {
            op: self.op,
            name: self.name.clone(),
            attempt,
            error: failure,
            next_at,
            of,
        };
        let recorded = record(&self.engine, &self.run.id, &self.guard, attempt, &event).await;
        if recorded.is_err() {
            // The step was dropped, or the node has shut down: nobody waits for another attempt.
            return Next::Gone;
        }
        self.facts.attempt = attempt.saturating_add(1);
        self.facts.begun = false;
        self.facts.next_at = Some(next_at);
        Next::Again
    }
}

/// What an attempt passes right before its body begins.
struct Entrance {
    engine: Arc<Engine>,
    run: RunId,
    guard: Arc<StepGuard>,
    token: CancellationToken,
    attempt: u32,
    /// What the log says of it.
    begins: Event,
}

impl Entrance {
    /// Waits until the gate is open and the log says that the attempt begins; false if its step is
    /// not wanted any more. `told`: the log says so already, which stands unless it has to wait.
    async fn pass(&self, told: bool) -> bool {
        let Some(waited) = self.opened().await else { return false };
        if told && !waited {
            return true;
        }
        let recorded =
            record(&self.engine, &self.run, &self.guard, self.attempt, &self.begins).await;
        // Writing it may have taken longer than the lease lasted.
        recorded.is_ok() && self.opened().await.is_some()
    }

    /// Waits for the gate. Whether it had to; none if the attempt is not wanted any more.
    async fn opened(&self) -> Option<bool> {
        let waits = !self.engine.gate().is_open();
        if waits {
            tokio::select! {
                biased;
                () = self.token.cancelled() => return None,
                opened = self.engine.gate().opened() => opened.ok()?,
            }
        }
        // The guard closes in the commit that drops the step, a moment before the token.
        let wanted = !self.token.is_cancelled() && self.guard.admits(self.attempt);
        wanted.then_some(waits)
    }
}

fn panicked(message: &str) -> Failure {
    failed(format!("the body panicked: {message}"))
}

enum Next {
    Again,
    Gone,
    /// For good.
    Failed(Event),
}

enum Ended {
    Returned(Result<Json, BoxError>),
    Panicked(String),
    Unreadable(UnreadableInput),
    OutOfTime,
    /// It did not begin: its step was dropped, or the node lets go.
    LetGo,
}

/// How long an attempt may take, from when its body begins.
struct Bound {
    timers: Timers,
    timeout: Duration,
    attempt: CancellationToken,
    step: CancellationToken,
}

/// The body with its panics caught, and dropped when it is out of time. What has returned by then
/// counts: its work is done.
async fn bounded_body(body: BodyFuture, bound: Option<Bound>) -> Ended {
    let body = AssertUnwindSafe(body).catch_unwind().map(|ended| match ended {
        Ok(result) => Ended::Returned(result),
        Err(panic) => Ended::Panicked(panic_message(&*panic).to_owned()),
    });
    let Some(Bound { timers, timeout, attempt, step }) = bound else { return body.await };
    let timer = timers.cancel_after(timeout, attempt.clone());
    let mut body = pin!(body);
    let ended = tokio::select! {
        biased;
        ended = &mut body => ended,
        // A dropped step cancels its attempt, too; that ends when it wants to.
        () = attempt.cancelled() => {
            if step.is_cancelled() { body.await } else { Ended::OutOfTime }
        }
    };
    timers.cancel(timer);
    ended
}

/// Warns of a poll that held its worker for long.
async fn watched(body: impl Future<Output = Ended>, run: &RunId, op: OpId, step: &OpName) -> Ended {
    let mut body = pin!(body);
    poll_fn(|cx| {
        let began = host::boot_now();
        let polled = body.as_mut().poll(cx);
        let took = host::boot_now().since(began);
        if took >= POLL_WARN {
            tracing::warn!(
                %run, %op, %step, ?took,
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

/// A random number from 0 to 1, for jitter.
fn random_unit() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}
