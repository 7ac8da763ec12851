//! Writes all waiting messages in one transaction, and handles a transaction that cannot be
//! written.
//!
//! The writer first applies all messages in one transaction. If one of them fails for a reason of
//! its own (a row that cannot be read, a constraint or a trigger of the author's), it rolls that
//! transaction back and applies all messages again, each in a savepoint: only the failing message
//! is refused, and the others get the answers that they would have got without it. If nothing can
//! be written at all, the writer refuses all of them.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rustc_hash::FxHashMap;
use tidemill_eventlog::{Appender, host};
use tidemill_model::{RunId, Seq};

use super::Setup;
use super::apply::{Done, answer};
use super::attempts::NewestAttempts;
use super::condition::Condition;
use super::failure;
use super::faults::Faults;
use super::keys;
use super::message::Message;
use super::pace::Pace;
use super::tally::Tally;
use super::watch::{CommitFate, WatchCommits};
use crate::engine::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::store::followers::Followers;

pub(super) type LogResult<T> = tidemill_eventlog::Result<T>;

/// The writer's thread's own state.
pub(super) struct Committer {
    pub(super) connection: Connection,
    pub(super) appender: Appender,
    pub(super) clock: Clock,
    pace: Pace,
    faults: Faults,
    commits: Option<Arc<dyn WatchCommits>>,
    /// Whether a test has ended this process.
    killed: bool,
    pub(super) followers: Followers,
    condition: Condition,
    pub(super) tally: Arc<Tally>,
    /// Whether the last transaction was refused as a whole.
    refusing: bool,
    /// The newest input or act of unfinished runs that wrote in this process. If an entry is
    /// missing, the file has it.
    pub(super) last: FxHashMap<RunId, Seq>,
    pub(super) attempts: NewestAttempts,
    done: Vec<Done>,
}

/// The outcome of one attempt to write all messages in savepoints.
enum Apart {
    /// They were written; how long the sync took.
    Written(Duration),
    /// A message undid the transaction, and is left out of the next attempt.
    Again,
}

impl Committer {
    pub(super) fn new(setup: Setup, appender: Appender, condition: Condition) -> Committer {
        Committer {
            connection: setup.connection,
            appender,
            clock: setup.clock,
            pace: setup.pace,
            faults: setup.faults,
            commits: setup.commits,
            killed: false,
            followers: Followers::default(),
            condition,
            tally: Arc::default(),
            refusing: false,
            last: FxHashMap::default(),
            attempts: NewestAttempts::default(),
            done: Vec::new(),
        }
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Writes the messages in one transaction, and those that `more` adds until it adds none. The
    /// caller must answer them. Returns how long the sync took.
    pub(super) fn write(
        &mut self,
        batch: &mut Vec<Message>,
        more: impl FnMut(&mut Vec<Message>) -> bool,
    ) -> LogResult<Duration> {
        self.faults.before_transaction(&self.connection);
        self.together(batch, more).or_else(|error| {
            self.roll_back();
            if !failure::is_own(&error) {
                return Err(error);
            }
            self.apart(batch).inspect_err(|_| self.roll_back())
        })
    }

    /// Answers the messages of a transaction.
    pub(super) fn answer(&mut self, batch: &mut Vec<Message>, written: LogResult<Duration>) {
        match written {
            Ok(took) => {
                self.appender.committed();
                self.tally.committed(batch, &self.done, took);
                self.followers.tell(batch.iter().filter_map(Message::run));
                batch.drain(..).zip(self.done.drain(..)).for_each(|(of, done)| answer(of, done));
                self.note_written();
                self.pace.after_commit();
            }
            Err(error) => {
                let cause = self.note_refused(&error);
                self.done.clear();
                for message in batch.drain(..) {
                    answer(message, Done::Refused(failure::refused(cause)));
                }
            }
        }
    }

    /// Writes all messages and answers them.
    #[cfg(test)]
    pub(super) fn commit(&mut self, batch: &mut Vec<Message>) {
        let written = self.write(batch, |_| false);
        self.answer(batch, written);
    }

    fn together(
        &mut self,
        batch: &mut Vec<Message>,
        mut more: impl FnMut(&mut Vec<Message>) -> bool,
    ) -> LogResult<Duration> {
        self.execute("BEGIN IMMEDIATE")?;
        loop {
            while let Some(message) = batch.get(self.done.len()) {
                let done = self.apply(message)?;
                self.done.push(done);
            }
            if !more(batch) {
                return self.end_transaction();
            }
        }
    }

    /// Writes each message in a savepoint of its own.
    fn apart(&mut self, batch: &[Message]) -> LogResult<Duration> {
        // A trigger that says ROLLBACK undoes the work of the other messages, too. Each round
        // leaves one more message out, so there are at most as many rounds as messages.
        let mut left_out = FxHashMap::default();
        loop {
            match self.apart_once(batch, &mut left_out)? {
                Apart::Written(sync) => return Ok(sync),
                Apart::Again => self.roll_back(),
            }
        }
    }

    fn apart_once(
        &mut self,
        batch: &[Message],
        left_out: &mut FxHashMap<usize, Error>,
    ) -> LogResult<Apart> {
        self.execute("BEGIN IMMEDIATE")?;
        for (index, message) in batch.iter().enumerate() {
            if let Some(error) = left_out.get(&index) {
                self.done.push(Done::Unfit(failure::unfit(error)));
                continue;
            }
            self.execute("SAVEPOINT message")?;
            let staged = self.appender.staged();
            let applied = self.apply(message);
            let applied = applied.and_then(|done| keys::check(&self.connection).map(|()| done));
            let done = match applied {
                Ok(done) => done,
                Err(error) if !failure::is_own(&error) => return Err(error),
                Err(error) if self.connection.is_autocommit() => {
                    left_out.insert(index, error);
                    return Ok(Apart::Again);
                }
                Err(error) => {
                    self.execute("ROLLBACK TO message")?;
                    self.appender.restore(staged);
                    self.forget(message);
                    Done::Unfit(failure::unfit(&error))
                }
            };
            self.execute("RELEASE message")?;
            self.done.push(done);
        }
        Ok(Apart::Written(self.end_transaction()?))
    }

    /// Commits the transaction; returns how long that took.
    fn end_transaction(&mut self) -> LogResult<Duration> {
        let began = host::boot_now();
        if self.faults.next_fails() {
            let what = "commit: the disk is full, on purpose";
            return Err(Error::new(ErrorKind::Unavailable, what));
        }
        self.may_die(|commits, _| commits.before())?;
        self.execute("COMMIT").inspect_err(failure::die_unless_refused)?;
        let took = host::boot_now().since(began);
        self.may_die(|commits, file| commits.after(file))?;
        Ok(took)
    }

    /// Whether a test has ended this process: then nobody is answered.
    pub(super) fn is_killed(&self) -> bool {
        self.killed
    }

    fn may_die(
        &mut self,
        fate: impl FnOnce(&dyn WatchCommits, &Connection) -> CommitFate,
    ) -> LogResult<()> {
        let Some(commits) = &self.commits else { return Ok(()) };
        match fate(&**commits, &self.connection) {
            CommitFate::GoesOn => Ok(()),
            CommitFate::Dies => {
                self.killed = true;
                Err(Error::new(ErrorKind::Unavailable, "a test has ended this process"))
            }
        }
    }

    fn execute(&self, sql: &str) -> LogResult<()> {
        let failed = |e| tidemill_eventlog::sqlite(sql, e);
        self.connection.prepare_cached(sql).map_err(failed)?.execute([]).map_err(failed)?;
        Ok(())
    }

    /// Undoes the open transaction, and forgets what was remembered of it.
    fn roll_back(&mut self) {
        self.done.clear();
        self.last.clear();
        self.attempts.forget_all();
        let rolled_back =
            if self.connection.is_autocommit() { Ok(()) } else { self.execute("ROLLBACK") };
        if let Err(error) = rolled_back.and_then(|()| self.appender.reload(&self.connection)) {
            tracing::error!(%error, "the head of the log cannot be read again: the process ends");
            std::process::abort();
        }
    }

    /// Forgets the runs of a message that was not written; the file has their last events.
    fn forget(&mut self, message: &Message) {
        match message {
            Message::Turn(turn) => {
                self.attempts.forget(&turn.run);
                self.last.remove(&turn.run);
                for child in &turn.children {
                    self.last.remove(&child.id);
                }
            }
            Message::Create(create) => {
                self.last.remove(&create.new.id);
                self.attempts.forget(&create.new.id);
            }
            Message::Aside(aside) => self.attempts.forget(&aside.run),
            // Ended runs are not remembered, and no turn is checked by what comes from outside.
            Message::Signal(_) | Message::Promise(_) | Message::Prune(_) => {}
        }
    }

    fn note_refused(&mut self, error: &Error) -> super::RefusalCause {
        let cause = failure::cause(error);
        self.tally.refused.add_one();
        self.refusing = true;
        if let Some(refusing) = self.condition.refused(cause, self.clock.wall()) {
            let times = refusing.times;
            tracing::error!(%error, times, "nothing can be written now: transactions are refused");
        }
        cause
    }

    fn note_written(&mut self) {
        if !std::mem::take(&mut self.refusing) {
            return;
        }
        if let Some(ended) = self.condition.written() {
            let (times, since) = (ended.times, ended.since);
            tracing::info!(times, %since, "transactions are written again");
        }
    }
}
