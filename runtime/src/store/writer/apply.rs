//! Applies messages to the file within the open transaction, and answers them after its commit.

use tidemill_eventlog::{Appended, projection, prune, query, signals};
use tidemill_model::{
    EncodedEvent, Event, EventClass, ForkOrigin, Forked, OpId, RunCreated, RunId, RunStatus, Seq,
    Signal, Signals,
};

use super::commit::{Committer, LogResult};
use super::message::{
    Aside, Create, Creation, History, Message, NewRun, PromiseOutcome, Prune, PruneOutcome,
    SignalOutcome, Turn,
};
use crate::engine::inbox::TurnReply;
use crate::error::{Error, ErrorKind};
use crate::ops::child::not_ours;
use crate::ops::spawn;

/// How many runs' last events the writer remembers: some 10 MB.
const REMEMBERED_MAX: usize = 65_536;

/// The outcome of a message, which is answered once it is durable.
pub(super) enum Done {
    Turn {
        reply: Result<Appending, Stale>,
        /// Inputs that the run gets at once: the failures of children whose id was taken.
        taken: Vec<Event>,
    },
    Create(Result<Creation, Error>),
    Aside(Result<(), Error>),
    Signal(Result<SignalOutcome, Error>),
    Promise(Result<PromiseOutcome, Error>),
    Prune(Vec<PruneOutcome>),
    /// The message itself cannot be written.
    Unfit(Error),
    /// Nothing can be written now.
    Refused(Error),
}

/// The log of the run has more than its driver saw.
pub(super) struct Stale;

/// An appended turn: the position of its last input or act, and of its children's creation.
pub(super) struct Appending {
    last: Seq,
    children: Vec<Option<Seq>>,
}

impl Appending {
    /// How many children the turn created; the others' ids were taken.
    pub(super) fn children_created(&self) -> usize {
        self.children.iter().flatten().count()
    }

    #[cfg(test)]
    pub(super) fn of(last: Seq, children: Vec<Option<Seq>>) -> Appending {
        Appending { last, children }
    }
}

impl Committer {
    pub(super) fn apply(&mut self, message: &Message) -> LogResult<Done> {
        match message {
            Message::Turn(turn) => self.turn(turn),
            Message::Create(create) => self.create(create).map(Done::Create),
            Message::Signal(send) => self.signal(&send.run, &send.signal).map(Done::Signal),
            Message::Promise(change) => self.promise(change).map(Done::Promise),
            Message::Aside(aside) => self.aside(aside).map(Done::Aside),
            Message::Prune(prune) => self.prune(prune).map(Done::Prune),
        }
    }

    fn prune(&mut self, prune: &Prune) -> LogResult<Vec<PruneOutcome>> {
        let mut left = Vec::with_capacity(prune.ended_runs.len());
        for ended in &prune.ended_runs {
            left.push(prune::remove(&self.connection, ended, prune.compared)?);
            // Its id is free now, for a run whose events are others.
            self.last.remove(&ended.run);
            self.attempts.forget(&ended.run);
        }
        Ok(left)
    }

    fn turn(&mut self, turn: &Turn) -> LogResult<Done> {
        let mut taken = Vec::new();
        let known = self.last.get(&turn.run).copied();
        let last = match known {
            Some(last) => last,
            None => query::last_observed(&self.connection, &turn.run)?.unwrap_or(Seq::ZERO),
        };
        if last != turn.expect {
            return Ok(Done::Turn { reply: Err(Stale), taken });
        }
        let (last, newest) = self.append_all(&turn.run, last, &turn.events)?;
        let mut children = Vec::new();
        for new in &turn.children {
            children.push(self.create_started(turn, new, &mut taken)?);
        }
        if !turn.children.is_empty() {
            self.settle_children(turn)?;
        }
        if let Some(status) = turn.status {
            let because = (status.is_final() || status == RunStatus::Blocked).then_some(newest);
            projection::set_status(&self.connection, &turn.run, status, because)?;
        }
        if turn.status.is_some_and(RunStatus::is_final) {
            self.last.remove(&turn.run);
            self.attempts.forget(&turn.run);
        } else if let Some(entry) = self.last.get_mut(&turn.run) {
            *entry = last;
        } else {
            self.remember(&turn.run, last);
        }
        Ok(Done::Turn { reply: Ok(Appending { last, children }), taken })
    }

    /// The newest input or act after the events, and the newest event.
    fn append_all(
        &mut self,
        run: &RunId,
        last: Seq,
        events: &[EncodedEvent],
    ) -> LogResult<(Seq, Seq)> {
        let (mut last, mut newest) = (last, Seq::ZERO);
        for event in events {
            newest = self.append(run, event)?.seq;
            if event.event().class() != EventClass::Aside {
                last = newest;
            }
        }
        Ok((last, newest))
    }

    /// Creates a run that the turn starts, unless its id is taken.
    fn create_started(
        &mut self,
        turn: &Turn,
        new: &NewRun,
        taken: &mut Vec<Event>,
    ) -> LogResult<Option<Seq>> {
        let Some(there) = query::run(&self.connection, &new.id)? else {
            return self.append_new(new).map(Some);
        };
        let created = new.created();
        if let Some(parent) = &created.parent {
            taken.push(not_ours(parent.op, &created.workflow, &new.id));
        }
        if let Some(by) = &created.spawned_by {
            let (op, name) = (by.op, created.workflow.clone());
            let end = spawn::taken(op, &name, &there);
            // Nobody could tell later whether this call created the run that has the id.
            if is_open_after(turn, op) {
                let held = Event::OpHeld { op, name, attempt: None, end: Box::new(end.clone()) };
                self.append(&turn.run, &held.into())?;
            }
            taken.push(end);
        }
        Ok(None)
    }

    /// Notes which children of the turn no parent waits for: those that the turn also drops, or whose
    /// wait ends with a cancel in it, and all if the turn ends the parent.
    fn settle_children(&mut self, turn: &Turn) -> LogResult<()> {
        for event in &turn.events {
            match event.event() {
                Event::OpDropped { op } => {
                    projection::await_no_more(&self.connection, &turn.run, Some(*op))?;
                }
                Event::CancelRequested { resolves, .. } => {
                    for op in resolves.keys() {
                        projection::await_no_more(&self.connection, &turn.run, Some(*op))?;
                    }
                }
                Event::RunCompleted { .. } | Event::RunFailed { .. } => {
                    projection::await_no_more(&self.connection, &turn.run, None)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn create(&mut self, create: &Create) -> LogResult<Result<Creation, Error>> {
        let created = self.create_run(&create.new)?;
        let (Some(signal), Ok(created)) = (&create.signal, &created) else { return Ok(created) };
        Ok(self.signal(&create.new.id, signal)?.map(|sent| match created {
            Creation::Existing(seq, _) => Creation::Existing(*seq, !sent.existing),
            Creation::Created(seq) => Creation::Created(*seq),
        }))
    }

    fn signal(&mut self, run: &RunId, signal: &Signal) -> LogResult<Result<SignalOutcome, Error>> {
        let Some(status) = query::run(&self.connection, run)?.map(|found| found.status) else {
            let message = format!("there is no run `{run}`");
            return Ok(Err(Error::new(ErrorKind::NotFound, message)));
        };
        if let Some(key) = &signal.key
            && let Some((number, seq)) = signals::of_key(&self.connection, run, key)?
        {
            return Ok(match self.is_same_signal(run, number, signal)? {
                true => Ok(SignalOutcome { number, existing: true, seq }),
                false => {
                    let message = format!(
                        "run `{run}` was sent another signal with the key `{key}`: a key is for one \
                         signal"
                    );
                    Err(Error::new(ErrorKind::Conflict, message))
                }
            });
        }
        if status.is_final() {
            let message = format!("run `{run}` has ended: it is {status}, and takes no signal");
            return Ok(Err(Error::new(ErrorKind::Conflict, message)));
        }
        let counts = signals::counts(&self.connection, run)?;
        if !Signals::has_room(counts.kept, counts.kept_bytes, signal.value.as_str().len()) {
            let message = format!(
                "run `{run}` keeps {} signals of {} bytes that its code has not taken: send more \
                 once it has",
                counts.kept, counts.kept_bytes
            );
            return Ok(Err(Error::new(ErrorKind::Unavailable, message)));
        }
        let number = counts.received.saturating_add(1);
        let event = Event::SignalReceived(Box::new(Signal { number, ..signal.clone() }));
        let seq = self.append(run, &event.into())?.seq;
        Ok(Ok(SignalOutcome { number, existing: false, seq }))
    }

    /// Whether the run's signal of this number has the same name and value.
    fn is_same_signal(&self, run: &RunId, number: u32, signal: &Signal) -> LogResult<bool> {
        let rows = signals::after(&self.connection, run, number.saturating_sub(1), 1)?;
        Ok(match rows.first().map(tidemill_eventlog::Row::event) {
            Some(Ok(Event::SignalReceived(sent))) => {
                sent.name == signal.name && sent.value.same(&signal.value)
            }
            Some(Ok(_) | Err(_)) | None => false,
        })
    }

    fn create_run(&mut self, new: &NewRun) -> LogResult<Result<Creation, Error>> {
        let Some(existing) = query::run(&self.connection, &new.id)? else {
            return match self.taken_child(new)? {
                Some(taken) => Ok(Err(taken)),
                None => self.append_new(new).map(|seq| Ok(Creation::Created(seq))),
            };
        };
        let first = query::events(&self.connection, Some(&new.id), Seq::ZERO, 1)?;
        let event = first.first().map(tidemill_eventlog::Row::event);
        let wanted = new.created();
        let same = match &event {
            Some(Ok(Event::RunCreated(created))) => {
                created.workflow == wanted.workflow
                    && created.input.same(&wanted.input)
                    && is_same_fork(created, wanted)
            }
            Some(Ok(_) | Err(_)) | None => false,
        };
        if same {
            return Ok(Ok(Creation::Existing(existing.seq, false)));
        }
        let message = format!(
            "there is a run `{}` of workflow `{}` with another input{}: choose another id, or start \
             it with the same workflow and input to get the existing one",
            new.id,
            existing.workflow,
            if wanted.forked.is_some() { " or history" } else { "" },
        );
        Ok(Err(Error::new(ErrorKind::Conflict, message)))
    }

    /// The error for a fork with a child whose id another run has.
    fn taken_child(&self, new: &NewRun) -> LogResult<Option<Error>> {
        let children = new.history().map_or(&[][..], |history| &history.children);
        for child in children {
            if query::run(&self.connection, &child.id)?.is_some() {
                let message = format!(
                    "there is a run `{}` already, and a child of the fork that begins anew would have \
                     this id: choose another id for the fork",
                    child.id
                );
                return Ok(Some(Error::new(ErrorKind::Conflict, message)));
            }
        }
        Ok(None)
    }

    fn append_new(&mut self, new: &NewRun) -> LogResult<Seq> {
        let seq = self.append(&new.id, new.event())?.seq;
        let mut last = seq;
        if let Some(History { events, status, children }) = new.history() {
            let newest;
            (last, newest) = self.append_all(&new.id, seq, events)?;
            if *status != RunStatus::Pending {
                let because = Some(newest).filter(|_| *status == RunStatus::Blocked);
                projection::set_status(&self.connection, &new.id, *status, because)?;
            }
            for child in children {
                self.append_new(child)?;
            }
        }
        self.remember(&new.id, last);
        Ok(seq)
    }

    /// Remembers a run's last event. Forgets all runs when there are too many; the file has them.
    fn remember(&mut self, run: &RunId, last: Seq) {
        if self.last.len() >= REMEMBERED_MAX {
            self.last.clear();
        }
        self.last.insert(run.clone(), last);
    }

    fn aside(&mut self, aside: &Aside) -> LogResult<Result<(), Error>> {
        let Aside { run, op, attempt, event, .. } = aside;
        if self.attempts.may_record(&self.connection, run, (*op, *attempt))? {
            return self.append(run, event).map(|_| Ok(()));
        }
        let message = format!(
            "attempt {attempt} of operation {op} of run `{run}` is over: its {} was not recorded",
            event.event().kind()
        );
        Ok(Err(Error::new(ErrorKind::Conflict, message)))
    }

    pub(super) fn append(&mut self, run: &RunId, event: &EncodedEvent) -> LogResult<Appended> {
        let (now, columns) = (self.clock.wall(), event.columns());
        let at = self.appender.append_columns(&self.connection, now, Some(run), &columns)?;
        projection::project(&self.connection, at, Some(run), event.event())?;
        self.attempts.appended(run, event.event());
        Ok(at)
    }
}

/// Whether an operation that the turn starts is still open after it.
fn is_open_after(turn: &Turn, op: OpId) -> bool {
    let drops =
        |event: &EncodedEvent| matches!(event.event(), Event::OpDropped { op: its } if *its == op);
    !turn.status.is_some_and(RunStatus::is_final) && !turn.events.iter().any(drops)
}

/// Whether two runs have the same history, or none; their own seeds, and who asked, may differ.
fn is_same_fork(one: &RunCreated, other: &RunCreated) -> bool {
    match (&one.forked, &other.forked) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let set = |forked: &Forked| forked.set.len();
            one.from == other.from
                && one.seq == other.seq
                && is_same_origin(one.origin.as_ref(), other.origin.as_ref())
                && one.signals == other.signals
                && set(one) == set(other)
                && one
                    .set
                    .iter()
                    .all(|(op, value)| other.set.get(op).is_some_and(|theirs| value.same(theirs)))
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Whether two forks took the same of one node. Another moment of it is the same if it has nothing else
/// of the run that counts: otherwise a step that is paid in one may begin again in the other.
fn is_same_origin(one: Option<&ForkOrigin>, other: Option<&ForkOrigin>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.node == other.node && one.taken == other.taken,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Answers a message. The caller may have gone; what was written stays written.
///
/// # Panics
/// If a message was applied as another.
pub(super) fn answer(message: Message, done: Done) {
    match (message, done) {
        (Message::Turn(turn), done) => answer_turn(*turn, done),
        (Message::Create(create), Done::Create(created)) => drop(create.reply.send(created)),
        (Message::Create(create), Done::Unfit(error) | Done::Refused(error)) => {
            drop(create.reply.send(Err(error)));
        }
        (Message::Aside(aside), Done::Aside(recorded)) => drop(aside.reply.send(recorded)),
        (Message::Aside(aside), Done::Unfit(error) | Done::Refused(error)) => {
            drop(aside.reply.send(Err(error)));
        }
        (Message::Signal(send), Done::Signal(sent)) => drop(send.reply.send(sent)),
        (Message::Signal(send), Done::Unfit(error) | Done::Refused(error)) => {
            drop(send.reply.send(Err(error)));
        }
        (Message::Promise(change), Done::Promise(changed)) => drop(change.reply.send(changed)),
        (Message::Promise(change), Done::Unfit(error) | Done::Refused(error)) => {
            drop(change.reply.send(Err(error)));
        }
        (Message::Prune(prune), Done::Prune(left)) => drop(prune.reply.send(Ok(left))),
        (Message::Prune(prune), Done::Unfit(error) | Done::Refused(error)) => {
            drop(prune.reply.send(Err(error)));
        }
        (
            Message::Create(_)
            | Message::Aside(_)
            | Message::Signal(_)
            | Message::Promise(_)
            | Message::Prune(_),
            _,
        ) => unreachable!("a message is not applied as another"),
    }
}

fn answer_turn(turn: Turn, done: Done) {
    let Turn { inbox, events: spent, .. } = turn;
    inbox.reply(match done {
        Done::Turn { reply, taken } => {
            taken.into_iter().for_each(|input| inbox.push(input));
            match reply {
                Ok(Appending { last, children }) => TurnReply::Committed { last, children, spent },
                Err(Stale) => TurnReply::Stale,
            }
        }
        Done::Unfit(error) => TurnReply::Unfit(error),
        Done::Refused(error) => TurnReply::Refused(error),
        Done::Create(_) | Done::Aside(_) | Done::Signal(_) | Done::Promise(_) | Done::Prune(_) => {
            unreachable!("a turn is not applied as another")
        }
    });
}
