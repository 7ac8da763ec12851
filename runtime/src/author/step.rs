//! The handle that a step's body gets: its identity, its checkpoints, its cancellation.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::limits::CHECKPOINT_BYTES_MAX;
use tidemill_model::{Epoch, Json, OpId, OpName, PromiseId, RunId};
use tokio_util::sync::CancellationToken;

use crate::engine::bodies::{Checkpointer, Pulse};
use crate::engine::promises::PromiseToken;
use crate::error::{Error, ErrorKind};

/// The values that were given to [`App::state`](crate::App::state), by their type.
pub(crate) type StateMap = FxHashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// The handle of one attempt of a step, given to its body. Clones share one attempt.
#[derive(Clone)]
pub struct Step {
    pub(crate) inner: Arc<Attempt>,
}

pub(crate) struct Attempt {
    pub(crate) run: RunId,
    pub(crate) op: OpId,
    pub(crate) name: OpName,
    pub(crate) attempt: u32,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) key: IdempotencyScope,
    pub(crate) state: Arc<StateMap>,
    pub(crate) token: CancellationToken,
    /// Whether it is alive, if somebody wants to know.
    pub(crate) pulse: Option<Arc<Pulse>>,
    pub(crate) last_checkpoint: Arc<Mutex<Option<Json>>>,
    pub(crate) checkpointer: Checkpointer,
    /// Set once a checkpoint is invalid: the attempt then fails whatever its body returns.
    pub(crate) spoiled: AtomicBool,
    /// Set once no attempt can succeed in this program: the step is then not attempted again.
    pub(crate) hopeless: AtomicBool,
}

/// What an idempotency key hashes besides the run and the operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdempotencyScope {
    pub(crate) fleet: Option<Arc<str>>,
    pub(crate) node: Option<Arc<str>>,
}

impl Step {
    /// The number of this attempt, from 1. No number is used twice: an attempt that a crash or a
    /// stop of the process cut off keeps its number, and the next attempt has a higher one.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// The id of the run that this step belongs to.
    pub fn run_id(&self) -> &RunId {
        &self.inner.run
    }

    /// The operation's number in its run.
    pub fn op(&self) -> OpId {
        self.inner.op
    }

    /// The name that the workflow gave the step.
    pub fn name(&self) -> &str {
        self.inner.name.as_str()
    }

    /// A key that every attempt of this step shares and no other step of the fleet has. Pass it to
    /// services that drop repeated requests. 32 hexadecimal digits.
    pub fn idempotency_key(&self) -> String {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let op = self.inner.op.to_string();
        let key = &self.inner.key;
        let none = "";
        let fleet = key.fleet.as_deref().unwrap_or(none);
        let node = key.node.as_deref().unwrap_or(none);
        for part in [fleet, node, self.inner.run.as_str(), &op] {
            let bytes = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hash.update(&bytes.to_be_bytes());
            hash.update(part.as_bytes());
        }
        format!("{:032x}", hash.digest128())
    }

    /// The epoch of the node's owner; `None` without a sidecar. It grows with each take-over, so a
    /// receiver that remembers the highest epoch can refuse requests of an older owner.
    pub fn epoch(&self) -> Option<u64> {
        self.inner.epoch.map(Epoch::get)
    }

    /// The value of this type that was given to [`App::state`](crate::App::state).
    ///
    /// # Panics
    /// If the app has no such value. The step then fails without a retry, because no later attempt
    /// would find the value either.
    ///
    /// ```
    /// use tidemill::{App, Ctx, Result, Step};
    ///
    /// struct Greeting(&'static str);
    ///
    /// async fn greet(step: Step, name: String) -> Result<String> {
    ///     Ok(format!("{} {name}", step.state::<Greeting>().0))
    /// }
    ///
    /// async fn welcome(ctx: Ctx, name: String) -> Result<String> {
    ///     Ok(ctx.step("greet", greet, name).await?)
    /// }
    ///
    /// let app = App::new("hello").state(Greeting("hello")).workflow("welcome", welcome);
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn state<T: Any + Send + Sync>(&self) -> Arc<T> {
        let found = self.inner.state.get(&TypeId::of::<T>()).map(Arc::clone);
        let typed = found.and_then(|state| state.downcast::<T>().ok());
        typed.unwrap_or_else(|| {
            self.inner.hopeless.store(true, Ordering::Relaxed);
            let name = std::any::type_name::<T>();
            panic!("no state of type {name}: give it to App::state before the app starts")
        })
    }

    /// Records this step's progress; the next attempt reads it with
    /// [`last_checkpoint`](Step::last_checkpoint). The call returns once the value is durable; on a
    /// full disk it waits until there is space again.
    ///
    /// # Errors
    /// `Invalid` if the value has no JSON or is over 64 KiB, which fails the attempt whatever its
    /// body returns; `Conflict` if this attempt is over; `Unavailable` if the node has shut down.
    ///
    /// # Cancel safety
    /// If the future is dropped while it waits, the checkpoint may or may not be recorded.
    pub async fn checkpoint(&self, value: impl Serialize) -> Result<(), Error> {
        let json = Json::of(&value).map_err(|e| format!("has no JSON: {e}")).and_then(|json| {
            let bytes = json.as_str().len();
            if bytes > CHECKPOINT_BYTES_MAX {
                return Err(format!(
                    "has bytes={bytes}, over the limit checkpoint={CHECKPOINT_BYTES_MAX}: keep \
                     large data in your own storage and record its key"
                ));
            }
            Ok(json)
        });
        let json = json.map_err(|why| {
            self.inner.spoiled.store(true, Ordering::Relaxed);
            let message = format!("the checkpoint of `{}` {why}", self.inner.name);
            Error::new(ErrorKind::Invalid, message)
        })?;
        let recording = self.inner.pulse.as_ref().map(|pulse| pulse.recording());
        self.inner.checkpointer.record(&self.inner, json.clone()).await?;
        drop(recording);
        let mut last = self.inner.last_checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(json);
        Ok(())
    }

    /// Says that the body is alive, which restarts the time of [`Call::heartbeat`](crate::Call::heartbeat).
    /// Nothing is recorded, so it costs next to nothing and may be called as often as one likes. A
    /// [checkpoint](Step::checkpoint) says the same.
    pub fn heartbeat(&self) {
        if let Some(pulse) = &self.inner.pulse {
            pulse.beat();
        }
    }

    /// Makes a token with which its holder can answer a promise, and nothing else, until it expires: for
    /// a link in a message. A newer token of the same holder replaces this one; an answer that comes
    /// with it is the holder's. The log has only a hash of it, so do not return it from the step.
    ///
    /// `None` if there is nothing for the holder to answer: the promise is decided, its run waits no
    /// more, or its rules leave this person out. In a fork, a promise of the run whose history it has
    /// stands for the fork's own: the token says which [promise](crate::PromiseToken::promise) it opens.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, PromiseId, Result, Step};
    ///
    /// async fn invite(step: Step, (promise, who): (PromiseId, String)) -> Result<()> {
    ///     let day = Duration::from_secs(86_400);
    ///     let Some(made) = step.promise_token(&promise, &who, day).await? else { return Ok(()) };
    ///     let (promise, token) = (made.promise, made.token);
    ///     println!("mail to {who}: https://flows.example.com/promises/{promise}?token={token}");
    ///     Ok(())
    /// }
    ///
    /// async fn publish(ctx: Ctx, draft: String) -> Result<bool> {
    ///     let approval = ctx.approval("publish").of(["ada", "ben"]).message(draft).start();
    ///     for who in ["ada", "ben"] {
    ///         ctx.step("invite", invite, (approval.id(), who.to_owned())).await?;
    ///     }
    ///     Ok(approval.await?.is_approved())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("publish", publish);
    /// ```
    ///
    /// # Errors
    /// `NotFound` if there is no such promise;
    /// `Invalid` if the holder's name is empty or has over 200 bytes, or the time is none or over a year;
    /// `Unavailable` if it has 100 tokens, or nothing can be written now.
    pub async fn promise_token(
        &self,
        promise: &PromiseId,
        holder: &str,
        life: Duration,
    ) -> Result<Option<PromiseToken>, Error> {
        if holder.trim().is_empty() {
            return Err(Error::invalid("a token needs a holder: say whose it is".to_owned()));
        }
        let engine = &self.inner.checkpointer.engine;
        let promise = engine.own_promise(&self.inner.run, promise).await?;
        match engine.promise_token(&promise, Some(holder), life).await {
            Ok(token) => Ok(Some(token)),
            Err(error) if [ErrorKind::Conflict, ErrorKind::Forbidden].contains(&error.kind()) => {
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::NotFound && promise.run == self.inner.run => {
                let message = format!(
                    "{error}; if it is an approval `not_by_starter`, nobody said who started the run \
                     (`by` of its start)"
                );
                Err(Error::new(ErrorKind::NotFound, message))
            }
            Err(error) => Err(error),
        }
    }

    /// The last checkpoint of this step, from this attempt or an earlier one; `None` if no attempt
    /// recorded any.
    ///
    /// # Errors
    /// `Invalid` if the checkpoint does not decode as a `T`: the code has changed since.
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let last = self.inner.last_checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(json) = last.clone() else { return Ok(None) };
        drop(last);
        json.decode().map(Some).map_err(|e| {
            let message = format!(
                "the last checkpoint of `{}` is not what this code reads: {e}",
                self.inner.name
            );
            Error::new(ErrorKind::Invalid, message)
        })
    }

    /// A token that is cancelled when this attempt should stop: its run was cancelled or dropped the
    /// step, the attempt timed out, or the node shuts down. A body that takes long should check the token and
    /// return within the [grace](crate::App::grace). After the grace an async body is dropped at
    /// its next await; a blocking body cannot be dropped, and keeps the file locked until it
    /// returns.
    ///
    /// While the node shuts down, an output that the body returns within the grace counts, and the
    /// step does not run again. An error does not count: the next process runs the step again, so
    /// an interrupted body may simply return an error.
    ///
    /// When the run is cancelled, the run gets what the body returns, an output or an error, and the
    /// step is not attempted again. An attempt that follows one which was cut off begins with a
    /// cancelled token: it is there to find out what the one before had done.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.inner.token
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("run", &self.inner.run)
            .field("op", &self.inner.op)
            .field("name", &self.inner.name)
            .field("attempt", &self.inner.attempt)
            .finish_non_exhaustive()
    }
}
