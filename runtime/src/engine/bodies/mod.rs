//! Step bodies: the part of a workflow that touches the world.
//!
//! A body runs as a task of the author's runtime, or on the pool for `.blocking()`, from the
//! commit of its step's start until its end is in the run's inbox. One task makes all attempts of
//! a step, so an attempt begins only after the body of the one before has returned.
//!
//! Invariants:
//! - an attempt starts only through the gate, and only once the log says that it begins: with the
//!   step's start if nothing lies in between, otherwise with an event of its own;
//! - a failed attempt and the moment of the next are durable before the back-off begins;
//! - what a body returns or records is kept or refused as a whole: an error, a panic, a timeout
//!   and a checkpoint that cannot be recorded fail the attempt;
//! - while a body runs it keeps the file locked, even after its node was shut down.
//!
//! Failure: when the log cannot be written, a result or checkpoint waits in memory and the body
//! does not run again. Crash: the log has the start and no end; recovery runs the body again as a
//! later attempt; an attempt that had not begun keeps its number. Cancellation: the token asks the
//! body to return within the grace; then an async body is dropped. The result of a dropped step is
//! ignored. A body whose run is cancelled still reports how it ended, a dropped one, too, and is
//! not attempted again; only an attempt that follows one which was cut off still begins, so that
//! what the step did becomes known. A node that shuts down records an output that comes in time. It does not record an
//! error that comes after the token was cancelled, because that says nothing about the step (its
//! child process may have got the signal, too); the body runs again.
//!
//! `attempts.rs` decides what follows an attempt, `execute.rs` runs one, `pulse.rs` hears whether its
//! body is alive, and `record.rs` writes an attempt's own events.

mod attempts;
mod execute;
mod progress;
mod pulse;
mod record;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::{Json, OpId, OpName, RunId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::app_lock::AppLock;
use super::call_site::CallSite;
use super::journal::StepFacts;
use super::timers::Timers;
use super::virtual_time::Task;
use super::{Engine, Run};
use crate::author::result::BoxError;
use crate::author::retry::Retry;
use crate::author::step::Step;
use crate::traces::BodyClock;
use attempts::Work;
use progress::BodyProgress;
pub(crate) use pulse::Pulse;
pub(crate) use record::Checkpointer;

pub(crate) type BodyFuture = Pin<Box<dyn Future<Output = Result<Json, BoxError>> + Send>>;

/// Makes the future of an attempt.
pub(crate) type BeginBody =
    dyn FnMut(Option<Step>, &Json) -> Result<BodyFuture, UnreadableInput> + Send;

/// Stands before the bodies of an app's steps: a test scripts and counts them there.
pub(crate) trait BeforeBodies: Send + Sync {
    /// Makes the future of an attempt, with or without the step's own `body`.
    fn begin(
        &self,
        step: Step,
        input: &Json,
        body: &mut BeginBody,
    ) -> Result<BodyFuture, UnreadableInput>;
}

/// The body cannot decode the recorded input, which no later attempt can change.
pub(crate) struct UnreadableInput(pub(crate) serde_json::Error);

/// The limits of a step that few have.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// How long an attempt's body may give no sign of life.
    pub(crate) heartbeat: Option<Duration>,
    /// How long after the step's start its first attempt may begin.
    pub(crate) begin_within: Option<Duration>,
}

/// A step's body with its types erased, and its options.
pub(crate) struct StepBody {
    /// `None` while it is on the pool.
    run: Option<Box<BeginBody>>,
    /// A closure does not: its attempts need no handle.
    takes_step: bool,
    /// Where the step was called.
    at: CallSite,
    pub(crate) retry: Option<Box<Retry>>,
    pub(crate) timeout: Option<Duration>,
    /// Boxed, because few steps have them.
    pub(crate) limits: Option<Box<Limits>>,
    pub(crate) blocking: bool,
    /// Whether it belongs to a clean-up, which a cancel leaves alone.
    pub(crate) shielded: bool,
}

impl StepBody {
    pub(crate) fn of_step<F, In, Fut, Out, E>(body: F, at: CallSite) -> StepBody
    where
        F: Fn(Step, In) -> Fut + Send + 'static,
        In: DeserializeOwned,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        StepBody::new(true, at, move |step, input| {
            let step = step.expect("a body that takes a step is given one");
            let input = input.decode::<In>().map_err(UnreadableInput)?;
            Ok(erase(body(step, input)))
        })
    }

    pub(crate) fn of_closure<F, Fut, Out, E>(body: F, at: CallSite) -> StepBody
    where
        F: FnOnce() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        StepBody::new(false, at, move |_, _| Ok(erase(body.clone()())))
    }

    fn new<F>(takes_step: bool, at: CallSite, run: F) -> StepBody
    where
        F: FnMut(Option<Step>, &Json) -> Result<BodyFuture, UnreadableInput> + Send + 'static,
    {
        let run: Option<Box<BeginBody>> = Some(Box::new(run));
        StepBody {
            run,
            takes_step,
            at,
            retry: None,
            timeout: None,
            limits: None,
            blocking: false,
            shielded: false,
        }
    }

    /// How long an attempt's body may give no sign of life.
    fn heartbeat(&self) -> Option<Duration> {
        self.limits.as_ref()?.heartbeat
    }

    /// How long after the step's start its first attempt may begin.
    fn begin_within(&self) -> Option<Duration> {
        self.limits.as_ref()?.begin_within
    }

    /// The same, with what a test puts before it.
    fn behind(mut self, before: Option<&Arc<dyn BeforeBodies>>) -> StepBody {
        let Some(before) = before.map(Arc::clone) else { return self };
        let Some(mut body) = self.run.take() else { return self };
        self.run = Some(Box::new(move |step, input| match step {
            Some(step) => before.begin(step, input, &mut *body),
            None => body(None, input),
        }));
        self.takes_step = true;
        self
    }
}

/// The body's future, with its output encoded as JSON that is known to decode again.
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

/// A body that runs, as its driver sees it.
pub(crate) struct RunningBody {
    progress: Arc<BodyProgress>,
    /// Asks the body to end: the author's code sees this token.
    token: CancellationToken,
    /// Ends the waits of an attempt that begins although its run is cancelled.
    unwanted: Option<CancellationToken>,
    /// Whether it belongs to a clean-up, which a cancel leaves alone.
    shielded: bool,
    run: RunId,
    op: OpId,
    name: OpName,
    lock: Arc<AppLock>,
    /// Whether it runs on the pool, where only it can end itself.
    blocking: bool,
    task: Task,
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
        let body = body.behind(engine.app.before_bodies.as_ref());
        let progress = Arc::new(BodyProgress::of(&facts, body.begin_within().is_some()));
        let token = CancellationToken::new();
        let unwanted = facts.follows_cut_off.then(CancellationToken::new);
        let (blocking, shielded) = (body.blocking, body.shielded);
        let work = Work {
            engine: Arc::clone(engine),
            run: Arc::clone(run),
            op,
            name: name.clone(),
            progress: Arc::clone(&progress),
            token: token.clone(),
            unwanted: unwanted.clone(),
            last_checkpoint: Arc::new(Mutex::new(facts.last_checkpoint.clone())),
            facts,
            body,
            lock: Arc::clone(lock),
            body_clock: BodyClock::default(),
            has_ended: false,
        };
        let task = engine.clock.spawn(&engine.runtime, work.run());
        let (run, lock) = (run.id.clone(), Arc::clone(lock));
        RunningBody { progress, token, unwanted, shielded, run, op, name, lock, blocking, task }
    }

    /// The attempt that it makes, or made last; `None` before the first.
    pub(crate) fn attempt(&self) -> Option<u32> {
        self.progress.attempt()
    }

    /// Whether it waits in a long back-off.
    pub(crate) fn backs_off(&self) -> bool {
        self.progress.backs_off_until().is_some()
    }

    /// Ends it in its back-off, because its run leaves memory. Returns when the next attempt begins;
    /// `None` if the back-off is over, and then the body goes on.
    pub(crate) fn leave(&self) -> Option<Timestamp> {
        let at = self.progress.leave()?;
        self.abort();
        Some(at)
    }

    /// Takes the next attempt away from a body that has not begun it. Returns how many attempts
    /// began before; `None` if the body runs, or brings a step to its end that was cut off.
    pub(crate) fn take(&self) -> Option<u32> {
        self.progress.take()
    }

    /// Takes the next attempt away from a body, unless the log tells that it begins.
    pub(crate) fn take_untold(&self) {
        self.progress.take_untold();
    }

    /// Whether its next attempt was taken away.
    pub(crate) fn has_left(&self) -> bool {
        self.progress.has_left()
    }

    /// Whether it belongs to a clean-up.
    pub(crate) fn is_shielded(&self) -> bool {
        self.shielded
    }

    /// Asks the body to end, because its run is cancelled. It reports its end in any case: an async
    /// body that has not returned by the end of the grace is dropped, a blocking one reports when it
    /// returns.
    pub(crate) fn ask_to_end(&self, grace: Duration, timers: &Timers) {
        self.token.cancel();
        if !self.blocking {
            timers.abort_after(grace, self.task.abort_handle());
        }
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Drops the body at its next await, or stops waiting for it if it is on the pool.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }

    /// Asks the body to end, because its step was dropped or the process stops: nobody waits for its
    /// error.
    pub(crate) fn give_up(&self) {
        self.progress.give_up();
        self.token.cancel();
        self.unwanted.iter().for_each(CancellationToken::cancel);
    }

    /// Gives up the body of a dropped step, and drops an async body when the grace is over.
    pub(crate) fn drop_after(&self, grace: Duration, timers: &Timers) {
        self.give_up();
        if !self.blocking {
            timers.abort_after(grace, self.task.abort_handle());
        }
    }

    /// Waits until the body has ended or was dropped. Cancel safety: it can be called again.
    pub(crate) async fn ended(&mut self) {
        if !self.task.is_finished() {
            self.task.ended().await;
        }
    }

    /// Waits until an aborted body has ended. If an async body does not return to its runtime, this
    /// notes that it keeps the file locked.
    pub(crate) async fn aborted(mut self) {
        let note = (!self.blocking && !self.is_finished())
            .then(|| self.lock.note(&self.run, self.op, &self.name));
        self.ended().await;
        drop(note);
    }
}
