//! One transaction for all that waits.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use rustc_hash::FxHashMap;
use tidemill_eventlog::{Appended, Appender, projection, query};
use tidemill_model::{Event, EventClass, OpId, RunId, RunStatus, Seq};
use tokio::sync::watch;

use super::faults::Faults;
use super::message::{Aside, Create, Creation, Message, NewRun, StepGuard, Turn, parent_op};
use super::pace::Pace;
use super::{Reply, Setup};
use crate::engine::children::not_ours;
use crate::engine::clock::Clock;
use crate::engine::inbox::{Inbox, Input, TurnReply};
use crate::error::{Error, ErrorKind};

type LogResult<T> = tidemill_eventlog::Result<T>;

/// An answer that waits for the commit.
enum Answer {
    Turn { inbox: Arc<Inbox>, reply: Result<Appending, Stale>, taken: Vec<Input> },
    Create(tokio::sync::oneshot::Sender<Result<Creation, Error>>, Result<Creation, Error>),
    Done(Reply, Result<(), Error>),
}

/// The log of the run has more than its driver saw.
struct Stale;

/// What a turn became: its last input or act, and where its children begin.
struct Appending {
    last: Seq,
    children: Vec<Option<Seq>>,
}

/// The writer's thread's own state.
pub(super) struct Committer {
    connection: Connection,
    appender: Appender,
    clock: Clock,
    pace: Pace,
    faults: Faults,
    told: watch::Sender<Seq>,
    /// The newest input or act of each run that wrote in this process and has not ended.
    last: FxHashMap<RunId, Seq>,
    answers: Vec<Answer>,
    closed: Vec<(Arc<StepGuard>, u32)>,
}

impl Committer {
    pub(super) fn new(setup: Setup, appender: Appender, told: watch::Sender<Seq>) -> Committer {
        Committer {
            connection: setup.connection,
            appender,
            clock: setup.clock,
            pace: setup.pace,
            faults: setup.faults,
            told,
            last: FxHashMap::default(),
            answers: Vec::new(),
            closed: Vec::new(),
        }
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Writes all messages in one transaction and answers them.
    pub(super) fn commit(&mut self, batch: &mut Vec<Message>) {
        self.faults.before_transaction(&self.connection);
        match self.transaction(batch.drain(..)) {
            Ok(()) => {
                self.appender.committed();
                self.closed.clear();
                self.told.send_replace(self.appender.head().seq);
                self.answers.drain(..).for_each(Answer::send);
                self.pace.after_commit();
            }
            Err(error) => {
                tracing::error!(%error, "a transaction was not written and is refused");
                self.roll_back();
                let refused = refusal(&error);
                self.answers.drain(..).for_each(|answer| answer.refuse(&refused));
            }
        }
    }

    /// Every message gets its answer staged, whatever happens on the way.
    fn transaction(&mut self, batch: impl Iterator<Item = Message>) -> LogResult<()> {
        let mut result = self.execute("BEGIN IMMEDIATE");
        for message in batch {
            let (answer, appended) = match message {
                Message::Turn(turn) => self.turn(*turn, result.is_ok()),
                Message::Create(create) => self.create(create, result.is_ok()),
                Message::Aside(aside) => self.aside(aside, result.is_ok()),
            };
            self.answers.push(answer);
            result = result.and(appended);
        }
        result?;
        if self.faults.next_fails() {
            let what = "commit: the disk is full, on purpose";
            return Err(tidemill_eventlog::Error::new(ErrorKind::Unavailable, what));
        }
        self.execute("COMMIT").inspect_err(die_unless_refused)
    }

    fn turn(&mut self, turn: Turn, go: bool) -> (Answer, LogResult<()>) {
        let inbox = Arc::clone(&turn.inbox);
        if !go {
            return (Answer::Turn { inbox, reply: Err(Stale), taken: Vec::new() }, Ok(()));
        }
        let mut taken = Vec::new();
        match self.append_turn(turn, &mut taken) {
            Ok(reply) => (Answer::Turn { inbox, reply, taken }, Ok(())),
            Err(error) => (Answer::Turn { inbox, reply: Err(Stale), taken }, Err(error)),
        }
    }

    fn append_turn(
        &mut self,
        turn: Turn,
        taken: &mut Vec<Input>,
    ) -> LogResult<Result<Appending, Stale>> {
        let Turn { run, expect, events, status, children, closes, .. } = turn;
        let known = self.last.get(&run).copied();
        let mut last = match known {
            Some(last) => last,
            None => query::last_observed(&self.connection, &run)?.unwrap_or(Seq::ZERO),
        };
        if last != expect {
            return Ok(Err(Stale));
        }
        let mut newest = Seq::ZERO;
        for event in &events {
            newest = self.append(&run, event)?.seq;
            if event.class() != EventClass::Aside {
                last = newest;
            }
        }
        let mut begun = Vec::new();
        for child in children {
            begun.push(self.create_child(child, taken)?);
        }
        if let Some(status) = status {
            let because = (status.is_final() || status == RunStatus::Blocked).then_some(newest);
            projection::set_status(&self.connection, &run, status, because)?;
        }
        for guard in closes {
            let was = guard.close();
            self.closed.push((guard, was));
        }
        if status.is_some_and(RunStatus::is_final) {
            self.last.remove(&run);
        } else if known.is_some() {
            if let Some(entry) = self.last.get_mut(&run) {
                *entry = last;
            }
        } else {
            self.last.insert(run, last);
        }
        Ok(Ok(Appending { last, children: begun }))
    }

    fn create_child(&mut self, new: NewRun, taken: &mut Vec<Input>) -> LogResult<Option<Seq>> {
        if query::run(&self.connection, &new.id)?.is_none() {
            return self.append_new(new).map(Some);
        }
        if let Some(op) = parent_op(&new) {
            taken.push(Input { op, what: not_ours(&new.id) });
        }
        Ok(None)
    }

    fn create(&mut self, create: Create, go: bool) -> (Answer, LogResult<()>) {
        let Create { new, reply } = create;
        let created = if go { self.create_run(new) } else { Ok(Err(Error::closed())) };
        match created {
            Ok(creation) => (Answer::Create(reply, creation), Ok(())),
            Err(error) => (Answer::Create(reply, Err(Error::closed())), Err(error)),
        }
    }

    fn create_run(&mut self, new: NewRun) -> LogResult<Result<Creation, Error>> {
        let Some(existing) = query::run(&self.connection, &new.id)? else {
            return self.append_new(new).map(|seq| Ok(Creation::Created(seq)));
        };
        let first = query::events(&self.connection, Some(&new.id), Seq::ZERO, 1)?;
        let event = first.first().map(tidemill_eventlog::Row::event);
        let same = match &event {
            Some(Ok(Event::RunCreated(created))) => {
                created.workflow == new.created.workflow && created.input.same(&new.created.input)
            }
            Some(Ok(_) | Err(_)) | None => false,
        };
        if same {
            return Ok(Ok(Creation::Existing(existing.seq)));
        }
        let message = format!(
            "there is a run `{}` of workflow `{}` with another input: choose another id, or start \
             it with the same workflow and input to get the existing one",
            new.id, existing.workflow
        );
        Ok(Err(Error::new(ErrorKind::Conflict, message)))
    }

    fn append_new(&mut self, new: NewRun) -> LogResult<Seq> {
        let event = Event::RunCreated(new.created);
        let seq = self.append(&new.id, &event)?.seq;
        self.last.insert(new.id, seq);
        Ok(seq)
    }

    fn aside(&mut self, aside: Aside, go: bool) -> (Answer, LogResult<()>) {
        let Aside { run, guard, attempt, event, reply } = aside;
        if !guard.admits(attempt) {
            let op = event.op().map_or(0, OpId::get);
            let message = format!(
                "attempt {attempt} of operation {op} of run `{run}` is over: its {} was not \
                 recorded",
                event.kind()
            );
            return (Answer::Done(reply, Err(Error::new(ErrorKind::Conflict, message))), Ok(()));
        }
        let appended = if go { self.append(&run, &event).map(drop) } else { Ok(()) };
        (Answer::Done(reply, Ok(())), appended)
    }

    fn append(&mut self, run: &RunId, event: &Event) -> LogResult<Appended> {
        let now = self.clock.wall();
        let at = self.appender.append(&self.connection, now, Some(run), event)?;
        projection::project(&self.connection, at, Some(run), event)?;
        Ok(at)
    }

    fn execute(&self, sql: &str) -> LogResult<()> {
        let failed = |e| tidemill_eventlog::Error::sqlite(sql, e);
        self.connection.prepare_cached(sql).map_err(failed)?.execute([]).map_err(failed)?;
        Ok(())
    }

    fn roll_back(&mut self) {
        for (guard, was) in self.closed.drain(..).rev() {
            guard.restore(was);
        }
        self.last.clear();
        let rolled_back =
            if self.connection.is_autocommit() { Ok(()) } else { self.execute("ROLLBACK") };
        if let Err(error) = rolled_back.and_then(|()| self.appender.reload(&self.connection)) {
            tracing::error!(%error, "the head of the log cannot be read again: the process ends");
            std::process::abort();
        }
    }
}

/// A commit that was refused left nothing behind; after any other error it may have.
fn die_unless_refused(error: &tidemill_eventlog::Error) {
    if !left_nothing(error.sqlite_code()) {
        tracing::error!(%error, "a commit failed and may be in the file: the process ends");
        std::process::abort();
    }
}

/// Whether a commit that failed so is certain to have left nothing in the file.
fn left_nothing(code: Option<ErrorCode>) -> bool {
    matches!(code, Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What everybody is told whose transaction was not written.
fn refusal(error: &tidemill_eventlog::Error) -> Refusal {
    let message = if error.sqlite_code() == Some(ErrorCode::DiskFull) {
        "the disk is full: free some space; nothing that was acknowledged is lost".to_owned()
    } else {
        format!("nothing was written: {error}")
    };
    let kind = match error.kind() {
        ErrorKind::Corrupt => ErrorKind::Corrupt,
        ErrorKind::Unavailable => ErrorKind::Unavailable,
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Fenced
        | ErrorKind::Internal => ErrorKind::Internal,
    };
    Refusal { kind, message }
}

struct Refusal {
    kind: ErrorKind,
    message: String,
}

impl Refusal {
    fn error(&self) -> Error {
        Error::new(self.kind, self.message.clone())
    }
}

impl Answer {
    fn send(self) {
        // Whoever asked may have gone; what was written stays written.
        match self {
            Answer::Turn { inbox, reply, taken } => {
                taken.into_iter().for_each(|input| inbox.push(input));
                inbox.reply(match reply {
                    Ok(Appending { last, children }) => TurnReply::Committed { last, children },
                    Err(Stale) => TurnReply::Stale,
                });
            }
            Answer::Create(reply, creation) => drop(reply.send(creation)),
            Answer::Done(reply, done) => drop(reply.send(done)),
        }
    }

    fn refuse(self, refusal: &Refusal) {
        match self {
            Answer::Turn { inbox, .. } => inbox.reply(TurnReply::Refused(refusal.error())),
            Answer::Create(reply, _) => drop(reply.send(Err(refusal.error()))),
            Answer::Done(reply, _) => drop(reply.send(Err(refusal.error()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_disk_and_a_lock_are_certain_to_leave_nothing() {
        for code in [ErrorCode::DiskFull, ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked] {
            assert!(left_nothing(Some(code)), "{code:?}");
        }
        for code in [
            ErrorCode::SystemIoFailure,
            ErrorCode::CannotOpen,
            ErrorCode::DatabaseCorrupt,
            ErrorCode::OutOfMemory,
            ErrorCode::ReadOnly,
        ] {
            assert!(!left_nothing(Some(code)), "{code:?}");
        }
        assert!(!left_nothing(None), "an error that is not SQLite's");
    }
}
