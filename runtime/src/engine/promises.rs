//! Answers promises and makes tokens for them, and lets the runs' drivers know.
//!
//! As with signals, the writer decides and records, whatever the run does; the driver is only told to
//! look. When a promise's time is over, the driver asks the writer too, which may have accepted an
//! answer meanwhile.
//!
//! Crash: a process that opens the file loads every run that has not observed an answer (`recovery.rs`).

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tidemill_eventlog::promises::PromiseFilter;
use tidemill_model::{
    AnswerNote, Event, Json, OpId, OpKind, OpName, PromiseAnswer, PromiseId, RunId, Timestamp,
    TokenGrant, Verdict,
};

use super::Engine;
use super::driver::{Driver, Next};
use super::handle::Node;
use super::live::Live;
use crate::error::{Error, ErrorKind};
use crate::ops::promise;
use crate::store::writer::{PromiseChange, PromiseOutcome, no_token};

/// The longest life of a token: a year.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// An answer to give to a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRequest {
    verdict: Verdict,
    value: Option<Json>,
    by: Option<String>,
    key: Option<String>,
    token: Option<String>,
}

impl AnswerRequest {
    /// Yes, with a value; to an approval with a comment, or what its form asks for.
    ///
    /// # Errors
    /// `Invalid` if the value has no JSON.
    pub fn resolve(value: impl Serialize) -> Result<AnswerRequest, Error> {
        AnswerRequest::new(Verdict::Resolved, value)
    }

    /// No, with a reason.
    ///
    /// # Errors
    /// `Invalid` if the reason has no JSON.
    pub fn reject(reason: impl Serialize) -> Result<AnswerRequest, Error> {
        AnswerRequest::new(Verdict::Rejected, reason)
    }

    pub(crate) fn new(verdict: Verdict, value: impl Serialize) -> Result<AnswerRequest, Error> {
        let value = Json::of(&value)
            .map_err(|e| Error::invalid(format!("the answer's value has no JSON: {e}")))?;
        let value = Some(value).filter(|value| *value != Json::null());
        Ok(AnswerRequest { verdict, value, by: None, key: None, token: None })
    }

    /// Who answers. The holder of a token is who answers with it, whatever is said here.
    #[must_use]
    pub fn by(self, by: &str) -> AnswerRequest {
        AnswerRequest { by: Some(by.to_owned()), ..self }
    }

    /// Makes answering again harmless: the second time gives the same reply.
    #[must_use]
    pub fn key(self, key: &str) -> AnswerRequest {
        AnswerRequest { key: Some(key.to_owned()), ..self }
    }

    /// Answers with a token of the promise.
    #[must_use]
    pub fn token(self, token: &str) -> AnswerRequest {
        AnswerRequest { token: Some(token.to_owned()), ..self }
    }

    pub(crate) fn value(&self) -> Option<&Json> {
        self.value.as_ref()
    }

    pub(crate) fn is_resolve(&self) -> bool {
        self.verdict == Verdict::Resolved
    }

    pub(crate) fn query(&self) -> [(&'static str, Option<&str>); 3] {
        [("by", self.by.as_deref()), ("key", self.key.as_deref()), ("token", self.token.as_deref())]
    }

    pub(crate) fn checked(self) -> Result<(PromiseAnswer, Option<String>), Error> {
        let AnswerRequest { verdict, value, by, key, token } = self;
        let answer = PromiseAnswer { by, key, ..PromiseAnswer::new(verdict, value) }.checked()?;
        Ok((answer, token.map(|token| hash(&token))))
    }
}

/// What became of an answer that a promise accepted, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer as it is recorded.
    pub answer: AnswerNote,
    /// Whether the promise had it before, by its key.
    pub existing: bool,
    /// How many have approved so far.
    pub approvals: usize,
}

/// A token that lets its holder answer one promise until it expires.
#[derive(Clone, PartialEq, Eq)]
pub struct PromiseToken {
    /// The promise that it opens.
    pub promise: PromiseId,
    /// The token. It is kept nowhere: whoever loses it needs another.
    pub token: String,
    /// Who holds it.
    pub holder: Option<String>,
    /// From this moment on it opens nothing.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for PromiseToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PromiseToken")
            .field("promise", &self.promise)
            .field("holder", &self.holder)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The error for a promise that a run does not wait for.
pub(crate) fn none_named(run: &RunId, name: &str) -> Error {
    let message = format!("run `{run}` waits for no promise `{name}`");
    Error::new(ErrorKind::NotFound, message)
}

fn hash(token: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(token.as_bytes()) {
        write!(text, "{byte:02x}").expect("a String takes every text");
    }
    text
}

impl Engine {
    /// Records an answer, and lets the run's driver know once the promise is settled.
    ///
    /// # Errors
    /// As [`Node::answer`](super::Node::answer).
    pub(super) async fn answer(
        self: &Arc<Self>,
        id: &PromiseId,
        request: AnswerRequest,
    ) -> Result<Answered, Error> {
        let (answer, token) = request.checked()?;
        let change = PromiseChange::Answer(Box::new(answer), token);
        let outcome = self.store.promise(id.clone(), change).await?;
        let PromiseOutcome { note: Some(answer), existing, approvals } = outcome else {
            return Err(Error::new(ErrorKind::Internal, "an answer was recorded without a note"));
        };
        if answer.settles && !existing {
            self.tell_news(&id.run);
        }
        Ok(Answered { answer, existing, approvals })
    }

    /// Gives a promise the answers that a test has for its name.
    pub(crate) fn answer_for_test(self: &Arc<Self>, id: &PromiseId, name: &str) {
        let answers = self.app.test_answers.iter().filter(|(of, _)| of == name);
        let answers: Vec<AnswerRequest> = answers.map(|(_, answer)| answer.clone()).collect();
        if answers.is_empty() {
            return;
        }
        let (engine, id) = (Arc::clone(self), id.clone());
        let give = async move {
            for (number, answer) in answers.into_iter().enumerate() {
                let key = answer.key.clone().unwrap_or_else(|| format!("test-{number}"));
                // A process that crashed in the test may have given it, and a full disk is the test's.
                if let Err(error) = engine.answer(&id, answer.key(&key)).await {
                    tracing::warn!(promise = %id, %error, "an answer of the test was not taken");
                }
            }
        };
        self.clock.spawn_tracked(&self.drivers, &self.runtime, give);
    }

    /// The oldest promise of this name that a run waits for.
    ///
    /// # Errors
    /// `NotFound` if it waits for none.
    pub(super) async fn promise_named(&self, run: &RunId, name: &str) -> Result<PromiseId, Error> {
        let name = OpName::new(name)?;
        let filter = PromiseFilter {
            run: Some(run.clone()),
            name: Some(name.clone()),
            ..Default::default()
        };
        let found = self.store.reads().promises(filter, 1).await?;
        found
            .into_iter()
            .next()
            .map(|promise| promise.id)
            .ok_or_else(|| none_named(run, name.as_str()))
    }

    /// Refuses a value that no promise of its name can read which this program has.
    pub(super) async fn check_answer(
        &self,
        id: &PromiseId,
        request: &AnswerRequest,
    ) -> Result<(), Error> {
        let Some(promise) = self.store.reads().promise(id).await? else { return Ok(()) };
        let is_plain = promise.record.approval.is_none();
        if !request.is_resolve() || !is_plain || !promise.is_open() {
            return Ok(());
        }
        let Some(workflow) = self.store.reads().workflow(&id.run).await? else { return Ok(()) };
        let Some(workflow) = self.app.workflows.get(&workflow) else { return Ok(()) };
        let Ok(name) = OpName::new(&promise.name) else { return Ok(()) };
        let value = request.value.clone().unwrap_or_else(Json::null);
        workflow
            .outside
            .promises
            .check(&name, &value)
            .map_err(|why| Error::invalid(format!("promise `{id}` cannot have this value: {why}")))
    }

    /// The promise that a step means. A step that begins again in a fork has the input that it had in the
    /// run whose history that is, and there the id of that run's promise.
    pub(crate) async fn own_promise(
        &self,
        run: &RunId,
        promise: &PromiseId,
    ) -> Result<PromiseId, Error> {
        if promise.run == *run {
            return Ok(promise.clone());
        }
        let reads = self.store.reads();
        let own = PromiseId { run: run.clone(), op: promise.op };
        let is_history = reads.was(run).await?.contains(&promise.run);
        match is_history && reads.promise(&own).await?.is_some() {
            true => Ok(own),
            false => Ok(promise.clone()),
        }
    }

    /// Makes a token.
    ///
    /// # Errors
    /// As [`Node::promise_token`](super::Node::promise_token).
    pub(crate) async fn promise_token(
        &self,
        id: &PromiseId,
        holder: Option<&str>,
        life: Duration,
    ) -> Result<PromiseToken, Error> {
        let named = PromiseAnswer::new(Verdict::Resolved, None);
        let named = PromiseAnswer { by: holder.map(str::to_owned), ..named }.checked()?;
        if life.is_zero() || life > TOKEN_LIFE_MAX {
            let message = "a token lives for a second to a year";
            return Err(Error::invalid(message.to_owned()));
        }
        let expires_at = self.clock.wall().saturating_add(life);
        let random = |e: getrandom::Error| {
            Error::new(ErrorKind::Internal, format!("the kernel gives no random bytes: {e}"))
        };
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(random)?;
        let token = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, bytes);
        let grant = TokenGrant { hash: hash(&token), holder: named.by.clone(), expires_at };
        self.store.promise(id.clone(), PromiseChange::Grant(grant)).await?;
        Ok(PromiseToken { promise: id.clone(), token, holder: named.by, expires_at })
    }
}

impl Node {
    /// Answers a promise ([`Ctx::promise`](crate::Ctx::promise), [`Ctx::approval`](crate::Ctx::approval)),
    /// and returns when that is durable. What is accepted is what the run's code gets, unless it has gone
    /// on without it.
    ///
    /// # Errors
    /// `NotFound` if there is no such promise; `Invalid` if the value is not what it has to be;
    /// `Forbidden` if this person, or this token, may not answer; `Conflict` with what won if it was
    /// answered, its time is over, or its run no longer waits; `Unavailable` if nothing can be written
    /// now.
    ///
    /// # Cancel safety
    /// If the future is dropped while it waits, the answer may or may not be given: answer with a
    /// [key](AnswerRequest::key), and again.
    pub async fn answer(&self, id: &PromiseId, request: AnswerRequest) -> Result<Answered, Error> {
        self.check_answer(id, &request).await?;
        let engine = self.open_engine()?;
        let (id, clock, runtime) = (id.clone(), engine.clock.clone(), engine.runtime.clone());
        // In a task of its own, so that the run learns of what was recorded even if the caller goes.
        let answering = Arc::clone(&engine);
        let answered = async move { answering.answer(&id, request).await };
        let answered = clock.apart(&runtime, answered).await;
        let answered = answered
            .map_err(|e| Error::caused(ErrorKind::Internal, "the answer did not end", e))??;
        engine.gate().opened().await?;
        Ok(answered)
    }

    /// The oldest promise of this name that a run waits for.
    ///
    /// # Errors
    /// `NotFound` if it waits for none.
    pub(crate) async fn promise_named(&self, run: &RunId, name: &str) -> Result<PromiseId, Error> {
        self.open_engine()?.promise_named(run, name).await
    }

    /// Refuses a value that the code of this program cannot read.
    ///
    /// # Errors
    /// `Invalid` says why.
    pub(crate) async fn check_answer(
        &self,
        id: &PromiseId,
        request: &AnswerRequest,
    ) -> Result<(), Error> {
        self.open_engine()?.check_answer(id, request).await
    }

    /// Who holds a token, if it is somebody's. Refuses one that does not open the promise now.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) async fn check_promise_token(
        &self,
        id: &PromiseId,
        token: &str,
    ) -> Result<Option<String>, Error> {
        let engine = self.open_engine()?;
        let promise = engine.store.reads().promise(id).await?;
        let now = engine.clock.wall();
        let row = promise.ok_or_else(|| no_token(id))?;
        let grant = row.record.grant(&hash(token), now).ok_or_else(|| no_token(id))?;
        Ok(grant.holder.clone())
    }

    /// Makes a token with which its holder can answer one promise until it expires; a newer one of the
    /// same holder replaces it.
    ///
    /// # Errors
    /// As [`Step::promise_token`](crate::Step::promise_token).
    pub async fn promise_token(
        &self,
        id: &PromiseId,
        holder: Option<&str>,
        life: Duration,
    ) -> Result<PromiseToken, Error> {
        let engine = self.open_engine()?;
        let token = engine.promise_token(id, holder, life).await?;
        engine.gate().opened().await?;
        Ok(token)
    }
}

impl Driver {
    /// Takes in what the run's promises were answered since it last looked. The ends of those that are
    /// settled.
    pub(super) async fn look_for_answers(&mut self, live: &mut Live) -> Result<Vec<Event>, Next> {
        let known = live.core.journal.head.answered;
        let found = self.engine.store.reads().answers_after(&self.run.id, known).await;
        let taken = found.map_err(|e| e.to_string()).and_then(|records| {
            let mut ends = Vec::new();
            for record in &records {
                ends.extend(live.take_answer(record)?);
            }
            Ok(ends)
        });
        match taken {
            Ok(ends) => Ok(ends),
            Err(why) => {
                tracing::warn!(run = %self.run.id, why, "its answers cannot be read now");
                self.pause().await;
                Err(Next::Rebuild(None))
            }
        }
    }

    /// Puts the ends that the writer has decided in the place of those that a deadline proposes. The end
    /// of a promise that is not the one which is held for it is a proposal: also if the answer was
    /// taken in a moment ago, and its end waits behind it.
    pub(super) async fn decide_deadlines(
        &mut self,
        live: &mut Live,
        inputs: &mut Vec<Event>,
    ) -> Result<(), Next> {
        let due: Vec<Event> = inputs
            .extract_if(.., |input| {
                let open = input.op().and_then(|op| live.core.journal.open(op));
                open.is_some_and(|open| {
                    let decided = open.held.as_ref().map(|held| &held.end);
                    matches!(open.kind, OpKind::Promise { .. }) && decided != Some(input)
                })
            })
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let undecided =
            |op: &OpId| live.core.journal.open(*op).is_some_and(|open| open.held.is_none());
        let due: Vec<OpId> = due.iter().filter_map(Event::op).filter(undecided).collect();
        for op in self.expire(due).await? {
            promise::set_deadline(self, &live.core.journal, op);
        }
        inputs.extend(self.look_for_answers(live).await?);
        Ok(())
    }

    /// Asks the writer to end promises whose time is over, all at once, so that one commit takes many.
    /// Those that it did not end: an answer came first, or the wall clock was set back.
    async fn expire(&mut self, due: Vec<OpId>) -> Result<Vec<OpId>, Next> {
        let expired = |op: OpId| {
            let id = PromiseId { run: self.run.id.clone(), op };
            let answer = Box::new(PromiseAnswer::new(Verdict::Expired, None));
            let asked = self.engine.store.promise(id, PromiseChange::Answer(answer, None));
            async move { (op, asked.await) }
        };
        let asked = futures_util::future::join_all(due.into_iter().map(expired)).await;
        let mut left = Vec::new();
        for (op, asked) in asked {
            match asked {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => left.push(op),
                // The next life sets its timer again.
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    // The writer logs this once for all runs.
                    tracing::debug!(run = %self.run.id, %error, "a promise cannot expire now");
                    self.pause().await;
                    return Err(Next::Rebuild(None));
                }
                Err(error) => {
                    self.refused(&error).await;
                    return Err(Next::Rebuild(None));
                }
            }
        }
        Ok(left)
    }
}
