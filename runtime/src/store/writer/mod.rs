//! The one writer: a thread that owns the one read-write connection.
//!
//! A message is written whole or not at all. The thread appends all waiting messages, and those
//! that come meanwhile, in one SQLite transaction (`intake.rs`), commits once, and only then
//! answers: an answer means that the message is on the disk. So many runs share one sync.
//!
//! Invariants:
//! - nothing is answered before its commit, and everything is answered once;
//! - a turn is appended only if the log of its run ends where its driver believes it does;
//! - nothing of a step is recorded after the step's end, whatever its body does.
//!
//! Failure: when a message cannot be written for a reason of its own, the writer refuses only that
//! message: it rolls the transaction back, reads the head from the file again, and applies all
//! messages once more, each in a savepoint. When a transaction cannot be written at all (disk full,
//! locked), the writer refuses every message as unavailable; it recovers from a full disk by
//! itself, because SQLite writes the commit frame last. Any other error of `COMMIT` ends the
//! process: its frames may be in the WAL and already shipped, and a process that continued could
//! record something else in their place. Crash: what was not answered may or may not be in the
//! file; the caller finds out by reading it. Cancellation: a queued message is written.

mod apply;
mod attempts;
mod commit;
mod condition;
mod failure;
mod faults;
mod gather;
mod intake;
mod keys;
mod message;
mod pace;
mod promise;
mod queue;
mod tally;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tidemill_eventlog::Appender;
use tidemill_eventlog::prune::PrunableRun;
use tidemill_model::{ComparedSeqs, PromiseId, RunId, Signal};
use tokio::sync::oneshot;

use commit::Committer;
use condition::Condition;
pub use condition::{RefusalCause, Refusing};
pub(crate) use faults::Faults;
use gather::Gather;
use intake::Intake;
pub(crate) use message::{
    Aside, ChangePromise, Create, Creation, Message, NewRun, PromiseChange, PromiseOutcome, Prune,
    PruneOutcome, SendSignal, SignalOutcome, Turn,
};
pub(crate) use pace::Pace;
pub(crate) use promise::no_token;
use queue::Queue;
pub(crate) use queue::QueueSize;
pub(crate) use tally::Tally;
pub(crate) use watch::{CommitFate, WatchCommits};

use crate::engine::clock::Clock;
use crate::error::{Error, ErrorKind, closed};
use crate::store::followers::{Followers, Following};

/// A handle of the writer; clones share it.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: Arc<Queue>,
    clock: Clock,
    followers: Followers,
    condition: Condition,
    tally: Arc<Tally>,
    thread: Arc<Mutex<Option<JoinHandle<Connection>>>>,
}

/// What a writer is started with.
pub(crate) struct Setup {
    pub(crate) connection: Connection,
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
    pub(crate) faults: Faults,
    pub(crate) commits: Option<Arc<dyn WatchCommits>>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(setup: Setup) -> Result<Writer, Error> {
        let appender = Appender::load(&setup.connection)?;
        let queue = Arc::new(Queue::new());
        let clock = setup.clock.clone();
        let writers_clock = clock.clone();
        let condition = Condition::default();
        let mut committer = Committer::new(setup, appender, condition.clone());
        let followers = committer.followers.clone();
        let tally = Arc::clone(&committer.tally);
        let messages = Arc::clone(&queue);
        let run = move || {
            let (mut batch, mut gather) = (Vec::new(), Gather::default());
            let write = std::panic::AssertUnwindSafe(|| {
                while messages.wait() {
                    writers_clock.rest();
                    let mut intake = Intake::new(&messages, &mut gather);
                    intake.more(&mut batch);
                    let written = committer.write(&mut batch, |batch| intake.more(batch));
                    if intake.has_wish() {
                        gather.came(batch.len());
                    }
                    if let Ok(sync) = &written {
                        // A message that is queued now did not wait for these answers.
                        gather.committed(batch.len(), messages.waiting(), *sync);
                    }
                    if committer.is_killed() {
                        return;
                    }
                    let answered = batch.len();
                    committer.answer(&mut batch, written);
                    writers_clock.end_messages(answered);
                }
            });
            if std::panic::catch_unwind(write).is_err() {
                // Callers would wait for ever for an answer. The log is whole.
                tracing::error!("the writer panicked: the process ends");
                std::process::abort();
            }
            committer.into_connection()
        };
        let thread = std::thread::Builder::new().name("tidemill-writer".to_owned()).spawn(run);
        let thread = thread.map_err(|e| {
            Error::caused(ErrorKind::Internal, "the writer's thread did not start", e)
        })?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Writer { queue, clock, followers, condition, tally, thread })
    }

    /// Queues a turn; its run's inbox always gets an answer.
    pub(crate) async fn turn(&self, turn: Box<Turn>) -> Result<(), Error> {
        self.push(Message::Turn(turn)).await
    }

    /// Queues a message; it counts as work until it is answered.
    async fn push(&self, message: Message) -> Result<(), Error> {
        let work = self.clock.work_beside();
        self.queue.push(message).await?;
        work.hand_over();
        Ok(())
    }

    /// Creates a run. Refuses it at once if too many wait to be created.
    pub(crate) async fn create(
        &self,
        new: NewRun,
        signal: Option<Signal>,
    ) -> Result<Creation, Error> {
        let (reply, answer) = oneshot::channel();
        let work = self.clock.work_beside();
        self.queue.try_push(Message::Create(Create { new, signal, reply }))?;
        work.hand_over();
        answer.await.map_err(|_| closed())?
    }

    /// Records an event of a step's attempt.
    pub(crate) async fn aside(&self, aside: impl FnOnce(Reply) -> Aside) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.push(Message::Aside(aside(reply))).await?;
        answer.await.map_err(|_| closed())?
    }

    /// Sends a run a signal. Refuses it at once if too many wait.
    pub(crate) async fn signal(&self, run: RunId, signal: Signal) -> Result<SignalOutcome, Error> {
        let (reply, answer) = oneshot::channel();
        let work = self.clock.work_beside();
        self.queue.try_push(Message::Signal(SendSignal { run, signal, reply }))?;
        work.hand_over();
        answer.await.map_err(|_| closed())?
    }

    /// Changes a promise. What comes from outside is refused at once if too many wait.
    pub(crate) async fn promise(
        &self,
        id: PromiseId,
        change: PromiseChange,
    ) -> Result<PromiseOutcome, Error> {
        let (reply, answer) = oneshot::channel();
        let change = ChangePromise { id, change, reply };
        if change.is_expiry() {
            self.push(Message::Promise(change)).await?;
        } else {
            let work = self.clock.work_beside();
            self.queue.try_push(Message::Promise(change))?;
            work.hand_over();
        }
        answer.await.map_err(|_| closed())?
    }

    /// Removes ended runs; what became of each of them.
    pub(crate) async fn prune(
        &self,
        ended_runs: Vec<PrunableRun>,
        compared: ComparedSeqs,
    ) -> Result<Vec<PruneOutcome>, Error> {
        let (reply, answer) = oneshot::channel();
        self.push(Message::Prune(Prune { ended_runs, compared, reply })).await?;
        answer.await.map_err(|_| closed())?
    }

    /// Follows a run: what is written to it from now on is news.
    pub(crate) fn follow(&self, run: &RunId) -> Following {
        self.followers.follow(run)
    }

    /// Why the file takes no writes; `None` if the last attempt to write succeeded.
    pub(crate) fn refusing(&self) -> Option<Refusing> {
        self.condition.refusing()
    }

    /// What it has done.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How much waits for it.
    pub(crate) fn waiting(&self) -> QueueSize {
        self.queue.size()
    }

    /// Writes what is queued, ends the thread and returns its connection; `None` if it was closed
    /// before.
    pub(crate) async fn close(&self) -> Option<Connection> {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        joined.ok()?.ok()
    }
}

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<(), Error>>;
