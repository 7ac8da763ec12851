//! Promises: a run waits for one answer from outside, given to it by name and once.
//!
//! | event | |
//! |---|---|
//! | `promise_started` | the code waits; who may answer, and until when |
//! | `promise_token` | somebody was given a token with which to answer |
//! | `promise_answered` | an answer, or that its time is over: the writer records it and decides whether it settles the promise |
//! | `promise_resolved`, `promise_rejected` | the run observes what was decided |
//!
//! What settled the promise is a held end (`held.rs`) until the run observes it. Its deadline is a timer
//! of the process that asks the writer, so that an answer and the deadline never both win.
//!
//! Crash: what was answered is in the log, and a process that loads the run delivers it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::{
    Approval, ApprovalRule, BlockReason, BlockReasonKind, Event, Json, OpId, OpKind, PromiseId,
    PromiseTerms, Timestamp,
};

use super::Operation;
use crate::author::Ctx;
use crate::author::result::{StepError, failed};
use crate::engine::cell::Asked;
use crate::engine::driver::Driver;
use crate::engine::journal::Journal;

impl Ctx {
    /// Waits for one answer from outside: a person's, or that of a service that calls back. The
    /// promise is found by its [id](Promise::id), its name, and the workflow and labels of its run.
    /// It is answered once, by `tidemill resolve` or `reject`, [`Node::answer`](crate::Node::answer),
    /// `POST /v1/promises/{id}/resolve` or `reject`, or on its page; whoever comes second is told what
    /// won.
    ///
    /// A rejection is an error whose [kind](StepError::kind) is `Rejected`, with the reason as its
    /// message.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn pay(ctx: Ctx, order: String) -> Result<u64> {
    ///     let paid = ctx.promise::<u64>("paid").timeout(Duration::from_secs(3_600)).start();
    ///     // The payment service answers here.
    ///     let url = format!("https://flows.example.com/v1/promises/{}/resolve", paid.id());
    ///     ctx.run("ask", async move || Ok(println!("pay {order}, then call {url}"))).await?;
    ///     Ok(paid.await?)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("pay", pay);
    /// ```
    #[track_caller]
    pub fn promise<T: DeserializeOwned + 'static>(&self, name: &str) -> Promise<T> {
        let mut of = OpId::FIRST;
        let operation = self.operation("ctx.promise()", name, |op, name| {
            of = op;
            self.cell().outside_types().promises.note::<T>(&name);
            Ok(Event::PromiseStarted { op, name, terms: Box::default() }.into())
        });
        let id = PromiseId { run: self.run_id().clone(), op: of };
        Promise { id, after: None, operation }
    }

    /// Waits until people approve: [`Approval`] says how it ended and who said what. A refusal is no
    /// error, and neither is that nobody answered in time.
    ///
    /// One approval of anybody who says who they are is enough, unless it
    /// [needs more](ApprovalWait::needs) or [names people](ApprovalWait::of). One refusal is enough to
    /// refuse, unless it names people: then as many as leave too few to approve.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn publish(ctx: Ctx, draft: String) -> Result<String> {
    ///     let week = Duration::from_secs(7 * 86_400);
    ///     let asked = ctx.approval("publish").message(format!("Publish {draft}?")).timeout(week);
    ///     let approval = asked.of(["ada", "ben", "cyn"]).needs(2).await?;
    ///     let who: Vec<_> = approval.answers.iter().map(|answer| answer.by.as_str()).collect();
    ///     match approval.is_approved() {
    ///         true => Ok(format!("published {draft}, approved by {}", who.join(" and "))),
    ///         false => Ok(format!("{draft} stays a draft")),
    ///     }
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("publish", publish);
    /// ```
    #[track_caller]
    pub fn approval(&self, name: &str) -> ApprovalWait {
        let mut of = OpId::FIRST;
        let operation = self.operation("ctx.approval()", name, |op, name| {
            of = op;
            let approval = Some(ApprovalRule { needs: 1, of: Vec::new(), not_by: None });
            let terms = Box::new(PromiseTerms { approval, ..PromiseTerms::default() });
            Ok(Event::PromiseStarted { op, name, terms }.into())
        });
        let id = PromiseId { run: self.run_id().clone(), op: of };
        let starter = self.started_by().map(str::to_owned);
        ApprovalWait { promise: Promise { id, after: None, operation }, starter }
    }
}

/// A promise: await it, or set what it asks first. If it is dropped before it is answered, nobody can
/// answer it any more.
#[must_use = "a promise begins when it is awaited, or by .start()"]
pub struct Promise<T: DeserializeOwned> {
    id: PromiseId,
    /// How long it waits from its start.
    after: Option<Duration>,
    operation: Operation<T>,
}

impl<T: DeserializeOwned> Promise<T> {
    /// Which promise it is: for an address, or for a step that makes a
    /// [token](crate::Step::promise_token).
    pub fn id(&self) -> PromiseId {
        self.id.clone()
    }

    /// What is asked, for the people who answer: at most 16 KiB.
    ///
    /// # Panics
    /// If the promise was started, as do the other options. A panic blocks the run.
    pub fn message(mut self, message: impl Into<String>) -> Promise<T> {
        let message = message.into();
        self.change(|terms| terms.message = Some(message));
        self
    }

    /// The JSON schema of an answer, from which the page makes a form: at most 64 KiB. The crate
    /// `schemars` derives it from a type.
    ///
    /// # Panics
    /// If the schema has no JSON, or as [`Promise::message`].
    pub fn schema(mut self, schema: impl Serialize) -> Promise<T> {
        let schema = Json::of(&schema).expect("a JSON schema is JSON");
        self.change(|terms| terms.schema = Some(schema));
        self
    }

    /// Waits no longer than this, also while no process runs; then it is an error whose
    /// [kind](StepError::kind) is `TimedOut`, and nobody can answer any more.
    ///
    /// # Panics
    /// As [`Promise::message`].
    pub fn timeout(mut self, after: Duration) -> Promise<T> {
        // Refuses a promise that was started.
        self.change(|terms| terms.deadline = None);
        self.after = Some(after);
        self
    }

    /// Waits no longer than until this moment, as with a [timeout](Promise::timeout).
    ///
    /// # Panics
    /// As [`Promise::message`].
    pub fn deadline(mut self, at: impl Into<Timestamp>) -> Promise<T> {
        let at = at.into();
        self.change(|terms| terms.deadline = Some(at));
        self.after = None;
        self
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Promise<T> {
        self.begin();
        self.operation.start(Waker::noop());
        self
    }

    fn change(&mut self, change: impl FnOnce(&mut PromiseTerms)) {
        if let Some(terms) = terms_of(self.operation.asked()) {
            change(terms);
        }
    }

    /// Sets its deadline and checks its terms, if it has not started yet.
    fn begin(&mut self) {
        if !self.operation.is_new() {
            return;
        }
        let now = self.operation.cell().wall();
        let after = self.after.take();
        let Some(terms) = terms_of(self.operation.asked()) else { return };
        if let Some(after) = after {
            terms.deadline = Some(now.saturating_add(after));
        }
        if let Some(fault) = terms.fault() {
            self.operation.refuse(BlockReason {
                kind: BlockReasonKind::Misuse,
                op: Some(self.id.op),
                logged: None,
                asked: Some(format!("a promise that cannot be: {fault}")),
                advice: "mend its options, deploy that, then resume the run".to_owned(),
            });
        }
    }
}

fn terms_of(asked: Option<&mut Asked>) -> Option<&mut PromiseTerms> {
    match &mut asked?.event {
        Event::PromiseStarted { terms, .. } => Some(terms),
        _ => None,
    }
}

impl<T: DeserializeOwned> Future for Promise<T> {
    type Output = Result<T, StepError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.begin();
        self.operation.poll(cx)
    }
}

impl<T: DeserializeOwned> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A wait for approval: await it, or set who may approve first.
#[must_use = "an approval is asked for when it is awaited, or by .start()"]
pub struct ApprovalWait {
    promise: Promise<Approval>,
    /// Who started the run.
    starter: Option<String>,
}

impl ApprovalWait {
    /// How many must approve: 1 to 100, and no more than may.
    ///
    /// # Panics
    /// If it was started, as do the other options. A panic blocks the run.
    pub fn needs(self, needs: u32) -> ApprovalWait {
        self.rule(|rule| rule.needs = needs)
    }

    /// The people whose answers count, by their names: at most 100. Others are refused.
    ///
    /// # Panics
    /// As [`ApprovalWait::needs`].
    pub fn of<N: Into<String>>(self, people: impl IntoIterator<Item = N>) -> ApprovalWait {
        self.rule(|rule| rule.of = people.into_iter().map(Into::into).collect())
    }

    /// Refuses the answer of whoever started the run, who is the `by` of its start. A run that was
    /// started without one has no such approval: it is an error, because nobody could tell.
    ///
    /// # Panics
    /// As [`ApprovalWait::needs`].
    pub fn not_by_starter(mut self) -> ApprovalWait {
        match self.starter.clone() {
            Some(starter) => self.rule(|rule| rule.not_by = Some(starter)),
            None => {
                let why = "an approval by somebody else than who started the run: nobody said who \
                           started it (`by` of its start)";
                self.promise.operation.fail(failed(why.to_owned()));
                self
            }
        }
    }

    /// What is asked, as [`Promise::message`].
    ///
    /// # Panics
    /// As [`ApprovalWait::needs`].
    pub fn message(self, message: impl Into<String>) -> ApprovalWait {
        ApprovalWait { promise: self.promise.message(message), ..self }
    }

    /// What may be sent with an approval, as [`Promise::schema`]; at most 8 KiB are.
    ///
    /// # Panics
    /// As [`Promise::schema`].
    pub fn schema(self, schema: impl Serialize) -> ApprovalWait {
        ApprovalWait { promise: self.promise.schema(schema), ..self }
    }

    /// Waits no longer than this, also while no process runs.
    ///
    /// # Panics
    /// As [`ApprovalWait::needs`].
    pub fn timeout(self, after: Duration) -> ApprovalWait {
        ApprovalWait { promise: self.promise.timeout(after), ..self }
    }

    /// Waits no longer than until this moment.
    ///
    /// # Panics
    /// As [`ApprovalWait::needs`].
    pub fn deadline(self, at: impl Into<Timestamp>) -> ApprovalWait {
        ApprovalWait { promise: self.promise.deadline(at), ..self }
    }

    /// Which promise it is, as [`Promise::id`].
    pub fn id(&self) -> PromiseId {
        self.promise.id()
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(self) -> ApprovalWait {
        ApprovalWait { promise: self.promise.start(), ..self }
    }

    fn rule(mut self, change: impl FnOnce(&mut ApprovalRule)) -> ApprovalWait {
        self.promise.change(|terms| {
            let rule = terms.approval.get_or_insert(ApprovalRule {
                needs: 1,
                of: Vec::new(),
                not_by: None,
            });
            change(rule);
        });
        self
    }
}

impl Future for ApprovalWait {
    type Output = Result<Approval, StepError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.promise).poll(cx)
    }
}

impl fmt::Debug for ApprovalWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApprovalWait").field("id", &self.promise.id).finish_non_exhaustive()
    }
}

/// Lets a promise be answered: sets its deadline, and gives it the answers of a test.
pub(super) fn serve(driver: &mut Driver, journal: &Journal, op: OpId) {
    set_deadline(driver, journal, op);
    if let Some(open) = journal.open(op).filter(|open| open.held.is_none()) {
        let id = PromiseId { run: driver.run.id.clone(), op };
        driver.engine.answer_for_test(&id, open.name.as_str());
    }
}

/// Sets the timer of a promise's deadline, in the place of the one that it had. What that pushes only
/// proposes an end: the driver asks the writer.
pub(crate) fn set_deadline(driver: &mut Driver, journal: &Journal, op: OpId) {
    if let Some(before) = driver.timers.remove(&op) {
        driver.engine.timers.cancel(before);
    }
    let Some(open) = journal.open(op).filter(|open| open.held.is_none()) else { return };
    let OpKind::Promise { terms, .. } = &open.kind else { return };
    let Some(deadline) = terms.deadline else { return };
    let error = failed("nobody answered in time".to_owned());
    let end = Event::PromiseRejected { op, name: open.name.clone(), error };
    let inbox = Arc::clone(&driver.run.inbox);
    let key = driver.engine.timers.fire_at(deadline, false, inbox, end);
    driver.timers.insert(op, key);
}
