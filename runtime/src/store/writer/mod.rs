//! The one writer: a thread that owns the one read-write connection.
//!
//! A message is written whole or not at all. The thread appends all messages that wait, and those
//! that come meanwhile, in one SQLite transaction (`intake.rs`), commits once, and only then
//! answers: an answer means that it is on the disk. Many runs share a sync that way, and one alone
//! pays for one.
//!
//! Invariants:
//! - nothing is answered before its commit, and everything is answered once;
//! - a turn is appended only if the log of its run ends where its driver believes it does;
//! - nothing of a step is recorded after the step's end, whatever its body does.
//!
//! Failure: a message that cannot be written for a reason of its own is refused alone: the
//! transaction is rolled back, the head is read from the file again, and all messages are applied
//! once more, each in a savepoint. A transaction that cannot be written at all (disk full, locked)
//! refuses every message as unavailable; a full disk recovers by itself, because the commit frame
//! is written last. Any other error of `COMMIT` ends the process: its frames may be in the WAL and
//! already shipped, so that going on could record something else in their place. Crash: what was
//! not answered may or may not be in the file, and whoever asked finds out by reading it.
//! Cancellation: a message that was queued is written.

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
mod queue;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tidemill_eventlog::Appender;
use tidemill_model::{RunId, Seq};
use tokio::sync::{oneshot, watch};

use commit::Committer;
use condition::Condition;
pub use condition::{RefusalCause, Refusing};
pub(crate) use faults::Faults;
use gather::Gather;
use intake::Intake;
pub(crate) use message::{Aside, Create, Creation, Message, NewRun, Turn};
pub(crate) use pace::Pace;
use queue::Queue;

use crate::engine::clock::Clock;
use crate::error::{Error, ErrorKind, closed};
use crate::store::followers::{Followers, Following};

/// A handle on the writer; a clone is the same writer.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: Arc<Queue>,
    committed: watch::Receiver<Seq>,
    followers: Followers,
    condition: Condition,
    thread: Arc<Mutex<Option<JoinHandle<Connection>>>>,
}

/// What a writer is started with.
pub(crate) struct Setup {
    pub(crate) connection: Connection,
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
    pub(crate) faults: Faults,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(setup: Setup) -> Result<Writer, Error> {
        let appender = Appender::load(&setup.connection)?;
        let (told, committed) = watch::channel(appender.head().seq);
        let queue = Arc::new(Queue::new());
        let condition = Condition::default();
        let mut committer = Committer::new(setup, appender, told, condition.clone());
        let followers = committer.followers.clone();
        let messages = Arc::clone(&queue);
        let run = move || {
            let (mut batch, mut gather) = (Vec::new(), Gather::default());
            let write = std::panic::AssertUnwindSafe(|| {
                while messages.wait() {
                    let mut intake = Intake::new(&messages, &mut gather);
                    intake.more(&mut batch);
                    let written = committer.write(&mut batch, |batch| intake.more(batch));
                    if intake.has_wish() {
                        gather.came(batch.len());
                    }
                    if let Ok(sync) = &written {
                        // Who is here now did not wait for these answers.
                        gather.committed(batch.len(), messages.waiting(), *sync);
                    }
                    committer.answer(&mut batch, written);
                }
            });
            if std::panic::catch_unwind(write).is_err() {
                // Whoever waits for an answer would wait for ever; the log is whole.
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
        Ok(Writer { queue, committed, followers, condition, thread })
    }

    /// Queues a turn; the answer goes to its inbox, in any case.
    pub(crate) async fn turn(&self, turn: Box<Turn>) -> Result<(), Error> {
        self.queue.push(Message::Turn(turn)).await
    }

    /// Creates a run; refused at once if too much waits.
    pub(crate) async fn create(&self, new: NewRun) -> Result<Creation, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_push(Create { new, reply })?;
        answer.await.map_err(|_| closed())?
    }

    /// Records an event of a step's attempt.
    pub(crate) async fn aside(&self, aside: impl FnOnce(Reply) -> Aside) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Message::Aside(aside(reply))).await?;
        answer.await.map_err(|_| closed())?
    }

    /// The newest position that is durable.
    pub(crate) fn committed(&self) -> watch::Receiver<Seq> {
        self.committed.clone()
    }

    /// Follows a run: what is written to it from now on is news.
    pub(crate) fn follow(&self, run: &RunId) -> Following {
        self.followers.follow(run)
    }

    /// Why nothing is written, if nothing was when it was last tried.
    pub(crate) fn refusing(&self) -> Option<Refusing> {
        self.condition.refusing()
    }

    /// Writes what is queued, ends the thread and gives its connection back; none the second time.
    pub(crate) async fn close(&self) -> Option<Connection> {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        joined.ok()?.ok()
    }
}

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<(), Error>>;
