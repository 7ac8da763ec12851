//! Makes all attempts of a step: decides when the next begins, and what ends the step.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use tidemill_model::{Event, Failure, FailureKind, Json, OpId, OpName, Timestamp};
use tokio_util::sync::CancellationToken;

use super::execute::AttemptEnd;
use super::progress::BodyProgress;
use super::pulse::Pulse;
use super::record::{Checkpointer, Entrance, record};
use super::{StepBody, UnreadableInput};
use crate::author::result::{failed, failure_of, shown_failure};
use crate::author::step::{Attempt, Step};
use crate::engine::app_lock::AppLock;
use crate::engine::inbox::Control;
use crate::engine::journal::StepFacts;
use crate::engine::life::panic_message;
use crate::engine::{Engine, Run};
use crate::traces::{AttemptTrace, BodyClock};

/// All attempts of one step.
pub(super) struct Work {
    pub(super) engine: Arc<Engine>,
    pub(super) run: Arc<Run>,
    pub(super) op: OpId,
    pub(super) name: OpName,
    pub(super) progress: Arc<BodyProgress>,
    /// Asks the body to end: its run is cancelled, or nobody waits for the step any more.
    pub(super) token: CancellationToken,
    /// Cancelled only when nobody waits for the step, for an attempt that begins although its run is
    /// cancelled.
    pub(super) unwanted: Option<CancellationToken>,
    pub(super) last_checkpoint: Arc<Mutex<Option<Json>>>,
    pub(super) facts: StepFacts,
    pub(super) body: StepBody,
    pub(super) lock: Arc<AppLock>,
    /// When the body of the present attempt began, for its span.
    pub(super) body_clock: BodyClock,
    /// Whether its run knows, or need not know, how it ended.
    pub(super) has_ended: bool,
}

/// How an attempt failed, and whether another may follow.
struct AttemptFailure {
    failure: Failure,
    is_final: bool,
}

impl Work {
    /// Makes attempts until one counts, nobody waits for the step any more, or it is too late for the
    /// first one.
    pub(super) async fn run(mut self) {
        match self.body.begin_within().filter(|_| self.progress.begun() == 0) {
            None => self.make_attempts().await,
            Some(limit) => Box::pin(self.begin_within(limit)).await,
        }
    }

    /// Ends the step if its first attempt has not begun this long after the step's start.
    async fn begin_within(&mut self, limit: Duration) {
        let progress = Arc::clone(&self.progress);
        let engine = Arc::clone(&self.engine);
        let end = self.facts.started_at.saturating_add(limit);
        let missed = async {
            if end > engine.clock.wall() {
                tokio::select! {
                    biased;
                    () = engine.timers.sleep_until(end) => {}
                    () = progress.began() => return std::future::pending().await,
                }
            }
            // The log may say that it begins; then it does.
            if !progress.take_untold() {
                std::future::pending::<()>().await;
            }
        };
        let is_missed = tokio::select! {
            biased;
            () = missed => true,
            () = self.make_attempts() => false,
        };
        if is_missed {
            let message = format!("no attempt had begun {limit:?} after its start");
            let error = Failure { kind: FailureKind::TimedOut, message, chain: Vec::new() };
            let (op, name) = (self.op, self.name.clone());
            let end = Event::StepFailed { op, name, error, attempts: 0 };
            self.say_failed(&end);
            self.report(end);
        }
    }

    async fn make_attempts(&mut self) {
        loop {
            if !self.ready().await {
                break;
            }
            // The author's code around the body may panic, too: when it is dropped after a timeout,
            // when its error is printed, or in a retry's predicate.
            let ended = AssertUnwindSafe(self.attempt()).catch_unwind().await;
            let ended = ended.unwrap_or_else(|panic| {
                let failure = panicked(panic_message(&*panic));
                Some(Err(AttemptFailure { failure, is_final: false }))
            });
            let Some(ended) = ended else { break };
            self.trace(&ended);
            let end = match ended {
                Ok(output) => Event::StepCompleted { op: self.op, name: self.name.clone(), output },
                Err(_) if self.progress.is_given_up() => return,
                Err(failed) if self.token.is_cancelled() => self.cancelled(failed.failure),
                Err(failed) => match Box::pin(self.next_after(failed)).await {
                    AfterFailure::Again => continue,
                    AfterFailure::Gone => return,
                    AfterFailure::Failed(end) => {
                        self.say_failed(&end);
                        end
                    }
                },
            };
            self.report(end);
            return;
        }
        self.report_cancelled("it was asked to end before its next attempt began");
    }

    /// Tells the run how the step ended.
    fn report(&mut self, end: Event) {
        self.has_ended = true;
        self.run.inbox.push(end);
    }

    /// Tells the run that its cancel ended the step, unless the run knows that, or nobody waits.
    fn report_cancelled(&mut self, message: &str) {
        let is_wanted = self.token.is_cancelled() && !self.progress.is_given_up();
        if !self.has_ended && is_wanted && !self.progress.has_left() {
            let end = self.cancelled(failed(message));
            self.report(end);
        }
    }

    /// The end of a step whose run was cancelled, with what its body said.
    fn cancelled(&self, failure: Failure) -> Event {
        let error = Failure { kind: FailureKind::Cancelled, ..failure };
        let attempts = self.progress.begun();
        Event::StepFailed { op: self.op, name: self.name.clone(), error, attempts }
    }

    /// The token that ends a wait before the attempt in hand begins.
    pub(super) fn gives_up(&self) -> &CancellationToken {
        let unwanted = self.unwanted.as_ref().filter(|_| self.progress.finishes());
        unwanted.unwrap_or(&self.token)
    }

    /// Tells the span of the attempt. One that was asked to return and did has none.
    fn trace(&self, ended: &Result<Json, AttemptFailure>) {
        let Some(began) = self.body_clock.began() else { return };
        if ended.is_err() && self.token.is_cancelled() {
            return;
        }
        self.engine.traces.attempt(AttemptTrace {
            run: self.run.id.clone(),
            op: self.op,
            step: self.name.clone(),
            attempt: self.facts.attempt,
            began,
            ended: self.engine.clock.wall(),
            error: ended.as_ref().err().map(|failed| shown_failure(&failed.failure)),
        });
    }

    /// Says that the step failed for good, which the run may handle or not.
    fn say_failed(&self, end: &Event) {
        if let Event::StepFailed { error, attempts, .. } = end {
            tracing::warn!(
                run = %self.run.id, op = self.op.get(), step = self.name.as_str(), attempts,
                at = %self.body.at, error = %shown_failure(error), "a step failed for good"
            );
        }
    }

    /// Waits until the attempt may start; false if it never may. An attempt for the pool passes its
    /// entrance later, on its thread.
    async fn ready(&mut self) -> bool {
        if self.gives_up().is_cancelled() {
            return false;
        }
        let begins_now = self.body.blocking || (self.facts.begun && self.engine.gate().is_open());
        if self.facts.next_at.is_none() && begins_now {
            self.progress.makes(self.facts.attempt);
            return true;
        }
        // Boxed, as all that few steps need: the task of a step is as large as its largest wait.
        Box::pin(self.ready_later()).await
    }

    async fn ready_later(&mut self) -> bool {
        if let Some(at) = self.facts.next_at
            && !self.back_off(at).await
        {
            return false;
        }
        self.progress.makes(self.facts.attempt);
        let told = self.facts.begun;
        self.body.blocking || self.entrance().pass(told).await
    }

    /// Waits until the next attempt begins; `false` if it is not this body's any more. The run can
    /// leave memory if this is the only thing that it waits for.
    async fn back_off(&mut self, at: Timestamp) -> bool {
        if at.since(self.engine.clock.wall()) > self.engine.patience() {
            self.progress.back_off_until(at);
            self.run.inbox.control(Control::BackOff);
        }
        let waited = self.engine.timers.sleep_until(at);
        tokio::select! {
            biased;
            () = self.gives_up().cancelled() => false,
            () = waited => self.progress.end_back_off(),
        }
    }

    /// The entrance that the next attempt passes right before its body begins.
    pub(super) fn entrance(&self) -> Entrance {
        Entrance {
            engine: Arc::clone(&self.engine),
            run: self.run.id.clone(),
            op: self.op,
            token: self.gives_up().clone(),
            progress: Arc::clone(&self.progress),
            attempt: self.facts.attempt,
            begins: Event::StepAttemptStarted {
                op: self.op,
                name: self.name.clone(),
                attempt: self.facts.attempt,
            },
        }
    }

    /// Makes one attempt; `None` if it was no longer wanted and did not begin.
    async fn attempt(&mut self) -> Option<Result<Json, AttemptFailure>> {
        let token = match self.is_bounded() {
            true => self.token.child_token(),
            false => self.token.clone(),
        };
        let pulse = self.body.heartbeat().map(|_| Pulse::begin(&self.engine.clock));
        let step = self.body.takes_step.then(|| self.step(token.clone(), pulse.clone()));
        self.body_clock = self.engine.traces.clock(&self.engine.clock);
        let ended = self.execute(step.clone(), (token, pulse)).await;
        let marked = |mark: fn(&Attempt) -> &AtomicBool| {
            step.as_ref().is_some_and(|step| mark(&step.inner).load(Ordering::Relaxed))
        };
        let hopeless = marked(|attempt| &attempt.hopeless);
        let failed = |failure| Some(Err(AttemptFailure { failure, is_final: hopeless }));
        if marked(|attempt| &attempt.spoiled) {
            let message = "a checkpoint was refused: it has no JSON or is over its limit";
            return failed(self::failed(message));
        }
        match ended {
            AttemptEnd::Returned(Ok(output)) => Some(Ok(output)),
            AttemptEnd::Returned(Err(error)) => {
                let retry = self.body.retry.as_ref();
                let is_final = hopeless || retry.is_some_and(|r| r.is_final(&*error));
                Some(Err(AttemptFailure { failure: failure_of(&*error), is_final }))
            }
            AttemptEnd::Unreadable(UnreadableInput(error)) => {
                let message = format!("the recorded input is not what the step takes: {error}");
                Some(Err(AttemptFailure { failure: self::failed(message), is_final: true }))
            }
            AttemptEnd::Panicked(message) => failed(panicked(&message)),
            AttemptEnd::OutOfTime => {
                let timeout = self.body.timeout.unwrap_or_default();
                let message = format!("it took longer than {timeout:?}");
                failed(Failure { kind: FailureKind::TimedOut, message, chain: Vec::new() })
            }
            AttemptEnd::Silent => {
                let limit = self.body.heartbeat().unwrap_or_default();
                let message = format!("it gave no sign of life for {limit:?}");
                failed(Failure { kind: FailureKind::TimedOut, message, chain: Vec::new() })
            }
            AttemptEnd::LetGo => None,
        }
    }

    /// Whether an attempt can be ended before its step.
    pub(super) fn is_bounded(&self) -> bool {
        self.body.timeout.is_some() || self.body.heartbeat().is_some()
    }

    fn step(&self, token: CancellationToken, pulse: Option<Arc<Pulse>>) -> Step {
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
                pulse,
                last_checkpoint: Arc::clone(&self.last_checkpoint),
                checkpointer: Checkpointer { engine: Arc::clone(&self.engine) },
                spoiled: AtomicBool::new(false),
                hopeless: AtomicBool::new(false),
            }),
        }
    }

    /// Decides and records what follows a failed attempt.
    async fn next_after(&mut self, failed: AttemptFailure) -> AfterFailure {
        let AttemptFailure { failure, is_final } = failed;
        self.facts.failures = self.facts.failures.saturating_add(1);
        let attempt = self.facts.attempt;
        let now = self.engine.clock.wall();
        let elapsed = now.since(self.facts.started_at);
        let retry = self.body.retry.as_ref().filter(|_| !is_final);
        let delay = retry
            .and_then(|r| r.delay(self.facts.failures, elapsed, self.engine.clock.random_unit()));
        let Some(delay) = delay else {
            let (op, name, attempts) = (self.op, self.name.clone(), self.facts.failures);
            return AfterFailure::Failed(Event::StepFailed { op, name, error: failure, attempts });
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
        let recorded = record(&self.engine, &self.run.id, (self.op, attempt), &event).await;
        if recorded.is_err() {
            // The step was dropped, or the node has shut down: nobody waits for another attempt.
            return AfterFailure::Gone;
        }
        self.progress.failed();
        self.facts.attempt = attempt.saturating_add(1);
        self.facts.begun = false;
        self.facts.next_at = Some(next_at);
        AfterFailure::Again
    }
}

/// A body that is dropped because it did not return in time reports that.
impl Drop for Work {
    fn drop(&mut self) {
        self.report_cancelled("its body was dropped, because it had not returned in time");
    }
}

fn panicked(message: &str) -> Failure {
    failed(format!("the body panicked: {message}"))
}

/// What comes after a failed attempt.
enum AfterFailure {
    Again,
    Gone,
    /// The step has failed; this event records it.
    Failed(Event),
}
