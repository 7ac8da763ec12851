//! The messages to the writer: each is one whole transaction, already validated.

use std::sync::Arc;

use tidemill_eventlog::prune::PrunableRun;
use tidemill_model::{
    AnswerNote, ComparedSeqs, EncodedEvent, Event, MadeRun, OpId, PromiseAnswer, PromiseId,
    RunCreated, RunId, RunStatus, Seq, Signal, Stays, TokenGrant, Verdict,
};
use tokio::sync::oneshot;

use crate::engine::inbox::Inbox;
use crate::error::Error;

/// A message.
pub(crate) enum Message {
    Turn(Box<Turn>),
    Create(Create),
    Aside(Aside),
    Signal(SendSignal),
    Promise(ChangePromise),
    Prune(Prune),
}

impl Message {
    /// The run that it writes to; no stream can follow the runs that it creates yet, and one that
    /// follows a run that leaves has ended with it.
    pub(super) fn run(&self) -> Option<&RunId> {
        match self {
            Message::Turn(turn) => Some(&turn.run),
            Message::Create(create) => Some(&create.new.id),
            Message::Aside(aside) => Some(&aside.run),
            Message::Signal(send) => Some(&send.run),
            Message::Promise(change) => Some(&change.id.run),
            Message::Prune(_) => None,
        }
    }

    /// How many rows it adds to the log, or removes.
    pub(super) fn rows(&self) -> usize {
        match self {
            Message::Turn(turn) => turn.events.len() + turn.children.len(),
            Message::Create(create) => create.new.rows() + usize::from(create.signal.is_some()),
            Message::Aside(_) | Message::Signal(_) | Message::Promise(_) => 1,
            Message::Prune(prune) => prune.rows(),
        }
    }

    /// About how many bytes these rows have.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Message::Turn(turn) => {
                let events = turn.events.iter().map(EncodedEvent::bytes).sum::<usize>();
                events + turn.children.iter().map(NewRun::bytes).sum::<usize>()
            }
            Message::Create(create) => create.new.bytes() + create.signal.as_ref().map_or(0, bytes),
            Message::Signal(send) => bytes(&send.signal),
            Message::Promise(change) => change.bytes(),
            Message::Aside(aside) => aside.event.bytes(),
            Message::Prune(_) => 0,
        }
    }
}

/// What a run did in one turn.
pub(crate) struct Turn {
    pub(crate) run: RunId,
    /// Where the answer goes.
    pub(crate) inbox: Arc<Inbox>,
    /// The last input or act that the driver saw; if the log has a later one, the writer refuses
    /// the turn.
    pub(crate) expect: Seq,
    pub(crate) events: Vec<EncodedEvent>,
    /// The run's new status; `None` if this turn does not change it. The last event is the cause of
    /// a status that has one (ended, blocked).
    pub(crate) status: Option<RunStatus>,
    /// The runs that the turn starts: children, and others.
    pub(crate) children: Vec<NewRun>,
}

/// A run to create.
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    /// Its `run_created`.
    event: EncodedEvent,
    /// What it begins with, if it is a fork or begins anew with one.
    history: Option<Box<History>>,
}

/// What a fork begins with, in the commit that creates it.
pub(crate) struct History {
    /// What follows its `run_created`.
    pub(crate) events: Vec<EncodedEvent>,
    /// Its status after them.
    pub(crate) status: RunStatus,
    /// The children that begin anew.
    pub(crate) children: Vec<NewRun>,
}

impl NewRun {
    pub(crate) fn new(id: RunId, created: Box<RunCreated>) -> NewRun {
        NewRun { id, event: Event::RunCreated(created).into(), history: None }
    }

    /// A fork with the children that begin anew, or one of these.
    pub(crate) fn made(run: MadeRun, children: Vec<NewRun>) -> NewRun {
        let MadeRun { id, created, events, status } = run;
        let history = Box::new(History { events, status, children });
        NewRun { history: Some(history), ..NewRun::new(id, Box::new(created)) }
    }

    pub(super) fn history(&self) -> Option<&History> {
        self.history.as_deref()
    }

    /// How many rows it adds to the log.
    pub(super) fn rows(&self) -> usize {
        let children = |history: &History| history.children.iter().map(NewRun::rows).sum::<usize>();
        1 + self.history().map_or(0, |history| history.events.len() + children(history))
    }

    pub(crate) fn created(&self) -> &RunCreated {
        match self.event.event() {
            Event::RunCreated(created) => created,
            _ => unreachable!("it is made with its run_created"),
        }
    }

    pub(super) fn event(&self) -> &EncodedEvent {
        &self.event
    }

    /// About how many bytes its rows have.
    pub(crate) fn bytes(&self) -> usize {
        let history = self.history().map_or(0, |history| {
            let events = history.events.iter().map(EncodedEvent::bytes).sum::<usize>();
            events + history.children.iter().map(NewRun::bytes).sum::<usize>()
        });
        self.event.bytes() + history
    }
}

/// What an event from outside has beside its value: some hundred bytes.
const BESIDE: usize = 200;

/// About how many bytes the event of a signal has.
fn bytes(signal: &Signal) -> usize {
    signal.value.as_str().len() + BESIDE
}

/// Sends a run a signal, whose number the writer gives.
pub(crate) struct SendSignal {
    pub(crate) run: RunId,
    pub(crate) signal: Signal,
    pub(crate) reply: oneshot::Sender<Result<SignalOutcome, Error>>,
}

/// A signal that a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalOutcome {
    pub(crate) number: u32,
    /// Whether the run had one of this key before.
    pub(crate) existing: bool,
    pub(crate) seq: Seq,
}

/// Answers a promise, or makes a token for it.
pub(crate) struct ChangePromise {
    pub(crate) id: PromiseId,
    pub(crate) change: PromiseChange,
    pub(crate) reply: oneshot::Sender<Result<PromiseOutcome, Error>>,
}

/// What changes of a promise.
pub(crate) enum PromiseChange {
    /// An answer; the hash of the token with which it came, if it came with one.
    Answer(Box<PromiseAnswer>, Option<String>),
    /// A new token.
    Grant(TokenGrant),
}

impl ChangePromise {
    fn bytes(&self) -> usize {
        let value = match &self.change {
            PromiseChange::Answer(answer, _) => answer.value.as_ref(),
            PromiseChange::Grant(_) => None,
        };
        value.map_or(0, |value| value.as_str().len()) + BESIDE
    }

    /// Whether it comes from the run's own timer and not from outside.
    pub(super) fn is_expiry(&self) -> bool {
        match &self.change {
            PromiseChange::Answer(answer, _) => answer.verdict == Verdict::Expired,
            PromiseChange::Grant(_) => false,
        }
    }
}

/// What became of a change of a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PromiseOutcome {
    /// The answer as it was recorded, now or before; `None` for a token.
    pub(crate) note: Option<AnswerNote>,
    /// Whether the promise had this answer before.
    pub(crate) existing: bool,
    /// How many of the answers so far approve.
    pub(crate) approvals: usize,
}

/// Creates a run that is not a child.
pub(crate) struct Create {
    pub(crate) new: NewRun,
    /// What the run is sent in the same commit, also if it exists.
    pub(crate) signal: Option<Signal>,
    pub(crate) reply: oneshot::Sender<Result<Creation, Error>>,
}

/// The outcome of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creation {
    Created(Seq),
    /// The run exists already, with the same workflow and input. Whether it was sent a signal.
    Existing(Seq, bool),
}

/// An event of a step's attempt that replay skips. The writer refuses it unless the log says that
/// the step is open and this is its newest attempt.
pub(crate) struct Aside {
    pub(crate) run: RunId,
    pub(crate) op: OpId,
    pub(crate) attempt: u32,
    pub(crate) event: EncodedEvent,
    pub(crate) reply: oneshot::Sender<Result<(), Error>>,
}

/// Ended runs that leave, children before their parents.
pub(crate) struct Prune {
    pub(crate) ended_runs: Vec<PrunableRun>,
    /// The positions whose rows stay.
    pub(crate) compared: ComparedSeqs,
    pub(crate) reply: oneshot::Sender<Result<Vec<PruneOutcome>, Error>>,
}

/// What became of a run that was to leave.
pub(crate) type PruneOutcome = Result<(), Stays>;

impl Prune {
    fn rows(&self) -> usize {
        let events = self.ended_runs.iter().map(|ended| ended.events).sum::<u64>();
        usize::try_from(events).unwrap_or(usize::MAX)
    }
}
