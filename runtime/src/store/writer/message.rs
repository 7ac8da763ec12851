//! What the writer is asked to do: each message is one whole transaction, already validated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tidemill_model::{EncodedEvent, Event, RunCreated, RunId, RunStatus, Seq};
use tokio::sync::oneshot;

use crate::engine::inbox::Inbox;
use crate::error::Error;

/// A message.
pub(crate) enum Message {
    Turn(Box<Turn>),
    Create(Create),
    Aside(Aside),
}

impl Message {
    /// The run that it writes to. Nobody follows yet those that it creates.
    pub(super) fn run(&self) -> &RunId {
        match self {
            Message::Turn(turn) => &turn.run,
            Message::Create(create) => &create.new.id,
            Message::Aside(aside) => &aside.run,
        }
    }

    /// How many rows it adds to the log.
    pub(super) fn rows(&self) -> usize {
        match self {
            Message::Turn(turn) => turn.events.len() + turn.children.len(),
            Message::Create(_) | Message::Aside(_) => 1,
        }
    }

    /// About how many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Message::Turn(turn) => {
                let events = turn.events.iter().map(EncodedEvent::bytes).sum::<usize>();
                events + turn.children.iter().map(NewRun::bytes).sum::<usize>()
            }
            Message::Create(create) => create.new.bytes(),
            Message::Aside(aside) => aside.event.bytes(),
        }
    }
}

/// What a run did in one turn.
pub(crate) struct Turn {
    pub(crate) run: RunId,
    /// Where the answer goes.
    pub(crate) inbox: Arc<Inbox>,
    /// The last input or act that the driver saw; another one in the log refuses the turn.
    pub(crate) expect: Seq,
    pub(crate) events: Vec<EncodedEvent>,
    /// The run's status, if it is another one after this turn. A status with a cause (ended,
    /// blocked) comes with the last event.
    pub(crate) status: Option<RunStatus>,
    /// The children that the turn starts, with the operation that starts each.
    pub(crate) children: Vec<NewRun>,
    /// The steps that end with this turn.
    pub(crate) closes: Vec<Arc<StepGuard>>,
}

/// A run to create.
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    /// Its `run_created`.
    event: EncodedEvent,
}

impl NewRun {
    pub(crate) fn new(id: RunId, created: Box<RunCreated>) -> NewRun {
        NewRun { id, event: Event::RunCreated(created).into() }
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

    fn bytes(&self) -> usize {
        self.event.bytes()
    }
}

/// Creates a run that nobody's turn starts.
pub(crate) struct Create {
    pub(crate) new: NewRun,
    pub(crate) reply: oneshot::Sender<Result<Creation, Error>>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creation {
    Created(Seq),
    /// There is such a run with the same workflow and input.
    Existing(Seq),
}

/// An event that no replay looks at, of a step that has to be open in the attempt named.
pub(crate) struct Aside {
    pub(crate) run: RunId,
    pub(crate) guard: Arc<StepGuard>,
    pub(crate) attempt: u32,
    pub(crate) event: EncodedEvent,
    pub(crate) reply: oneshot::Sender<Result<(), Error>>,
}

/// Which attempt of a step may record something; shared by its body and the writer.
///
/// The body opens it for an attempt. The writer closes it once the turn that ends the step is
/// committed, and refuses what comes after that turn in its transaction, so that nothing of a step
/// is recorded after its end, and a step whose end was not written can go on.
#[derive(Debug, Default)]
pub(crate) struct StepGuard(AtomicU32);

impl StepGuard {
    const CLOSED: u32 = u32::MAX;

    /// Lets this attempt record; false if the step has ended.
    pub(crate) fn open(&self, attempt: u32) -> bool {
        let open = |now| (now != StepGuard::CLOSED).then_some(attempt);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, open).is_ok()
    }

    /// Whether this attempt may record.
    pub(crate) fn admits(&self, attempt: u32) -> bool {
        self.0.load(Ordering::Acquire) == attempt
    }

    /// The attempt that may record or was the last to; none if there was none, or the step ended.
    pub(crate) fn attempt(&self) -> Option<u32> {
        let attempt = self.0.load(Ordering::Acquire);
        (attempt != 0 && attempt != StepGuard::CLOSED).then_some(attempt)
    }

    pub(super) fn close(&self) {
        self.0.store(StepGuard::CLOSED, Ordering::Release);
    }
}
