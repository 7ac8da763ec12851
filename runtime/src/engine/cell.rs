//! The cell: the state that one life of a workflow's future shares with its driver.
//!
//! A life is one construction of the author's future: a run that is rebuilt from its log gets a new
//! life, and its old life is detached. The cell holds what the future has asked for since the
//! driver last looked (`asked`) and what the driver delivered (`slots`). A thread-local, which the
//! driver sets around each delivery and poll, shows whose turn it is.
//!
//! Invariants:
//! - an operation id is allotted when its call is made, in the order of calls; a call outside the
//!   run's turn gets none, and an operation without an id never starts;
//! - nothing of a detached cell reaches the driver or the log;
//! - a call or poll of an operation outside the run's turn, or a wake from there, is reported and
//!   gets no answer; a report during a turn ends that turn.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use rustc_hash::FxHashMap;
use tidemill_model::{
    BlockReason, BlockReasonKind, Event, Failure, FailureKind, Json, OpId, OpName, Requester,
    RunId, Signal, Timestamp,
};

use super::bodies::StepBody;
use super::call_site::{CallSite, FailedCalls};
use super::clock::Clock;
use super::identity::Identity;
use super::inbox::Inbox;
use crate::author::result::Wording;
use crate::author::{OutsideTypes, StepError, WorkflowNames};

thread_local! {
    /// The life whose turn this thread is taking; 0 for none.
    static TURN: Cell<u64> = const { Cell::new(0) };
}

/// How many operations a cancelled run may call outside its clean-up: code that calls more is a loop
/// that does not look at its errors.
const CANCELLED_CALLS_MAX: u32 = 1_000;

static NEXT_LIFE: AtomicU64 = AtomicU64::new(1);

/// An act of the future in a poll, before the log has it.
pub(crate) struct Asked {
    pub(crate) event: Event,
    /// The body of a step; `None` for other acts.
    pub(crate) body: Option<StepBody>,
    /// Whether a timer is counted on the boot clock from its start; others fire at a moment of the
    /// wall clock.
    pub(crate) counted: bool,
    /// Where the author's code called the operation; `None` if no call asks for this act.
    pub(crate) at: Option<CallSite>,
    /// Whether it was called in a clean-up, which a cancel leaves alone.
    pub(crate) shielded: bool,
    /// What the run is given that it starts; boxed, because few acts start one.
    pub(crate) gives: Option<Box<Given>>,
}

/// What a run is given that another one starts: no replay compares it.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) labels: BTreeMap<String, String>,
    /// How long it may take, in milliseconds.
    pub(crate) within_ms: Option<u64>,
}

impl From<Event> for Asked {
    fn from(event: Event) -> Asked {
        Asked { event, body: None, counted: false, at: None, shielded: false, gives: None }
    }
}

enum Slot {
    Open(OpenSlot),
    /// How it ended.
    Ready(OpEnd),
}

struct OpenSlot {
    /// What to wake at its end.
    waker: Waker,
    /// Where it was called.
    at: Option<CallSite>,
    /// Whether it was called in a clean-up.
    shielded: bool,
}

/// How an operation ended.
pub(crate) enum OpEnd {
    /// With an event of its own.
    Event(Event),
    /// With a signal, by its number and value.
    Signal { number: u32, value: Json },
    /// With its run's cancel, after so many failed attempts.
    Cancelled { attempts: u32, failure: Failure },
}

/// Values that the log holds, and that the code is given on its way.
#[derive(Default)]
pub(crate) struct LoggedValues {
    /// For the `ctx.now()` calls that a replay repeats.
    pub(crate) times: FxHashMap<OpId, Timestamp>,
    /// Of the signals that no wait was given, by their numbers.
    pub(crate) signals: FxHashMap<u32, Json>,
}

#[derive(Default)]
struct CellState {
    next_op: u32,
    asked: Vec<Asked>,
    slots: FxHashMap<OpId, Slot>,
    open: usize,
    logged: LoggedValues,
    failed: FailedCalls,
    /// What operations fail with since the run was cancelled; `None` before.
    cancelled: Option<Failure>,
    /// How many operations were called since then, outside a clean-up.
    called_since: u32,
    /// The first forbidden thing that this life did, in its turn or outside it.
    trouble: Option<BlockReason>,
    /// The call that the trouble concerns, if that is known.
    trouble_at: Option<CallSite>,
}

/// The cell of one life.
pub(crate) struct RunCell {
    life: u64,
    identity: Identity,
    clock: Clock,
    inbox: Arc<Inbox>,
    names: Arc<WorkflowNames>,
    outside_types: Arc<OutsideTypes>,
    woken: AtomicBool,
    detached: AtomicBool,
    cancelling: AtomicBool,
    /// Whether errors of steps have the words of 0.1.
    bare_errors: AtomicBool,
    state: Mutex<CellState>,
}

/// Marks that this thread takes a turn of one life, until the guard is dropped.
pub(crate) struct TurnGuard {
    before: u64,
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        TURN.set(self.before);
    }
}

impl RunCell {
    pub(crate) fn new(
        identity: Identity,
        clock: Clock,
        inbox: Arc<Inbox>,
        (names, outside_types): (Arc<WorkflowNames>, Arc<OutsideTypes>),
        logged: LoggedValues,
    ) -> Arc<RunCell> {
        let state = CellState { next_op: 1, logged, ..CellState::default() };
        Arc::new(RunCell {
            life: NEXT_LIFE.fetch_add(1, Ordering::Relaxed),
            identity,
            clock,
            inbox,
            names,
            outside_types,
            woken: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            cancelling: AtomicBool::new(false),
            bare_errors: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn run(&self) -> &RunId {
        self.identity.run()
    }

    /// Which function stands for which workflow of the program.
    pub(crate) fn names(&self) -> &WorkflowNames {
        &self.names
    }

    /// The types of the workflow's signals.
    pub(crate) fn outside_types(&self) -> &OutsideTypes {
        &self.outside_types
    }

    /// Who the code is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    /// The words of the errors that this life is given now.
    pub(crate) fn wording(&self) -> Wording {
        match self.bare_errors.load(Ordering::Relaxed) {
            true => Wording::Bare,
            false => Wording::WithReason,
        }
    }

    // For the driver.

    /// Sets the words of the errors that this life is given from now on.
    pub(crate) fn set_wording(&self, wording: Wording) {
        self.bare_errors.store(wording == Wording::Bare, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self) -> TurnGuard {
        TurnGuard { before: TURN.replace(self.life) }
    }

    /// Forgets that the waker fired; returns whether it had.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::Relaxed)
    }

    /// Takes what the future did since the last look: first its starts, then its drops, each in the
    /// order of their ids. So the log does not depend on the order in which a collection happens to
    /// poll or drop its members. Returns an error if this life did something forbidden, on any
    /// thread; its acts then do not count.
    pub(crate) fn take_asked(&self, into: &mut Vec<Asked>) -> Result<(), BlockReason> {
        let mut state = self.lock();
        if let Some(reason) = &state.trouble {
            return Err(reason.clone());
        }
        if state.asked.len() > 1 {
            state.asked.sort_by_key(|Asked { event, .. }| {
                (matches!(event, Event::OpDropped { .. }), event.op())
            });
        }
        into.append(&mut state.asked);
        Ok(())
    }

    /// Hands an input to the futures that it concerns.
    pub(crate) fn deliver(&self, input: &Event) {
        if let Event::CancelRequested { requester, resolves } = input {
            self.deliver_cancel(requester, resolves);
        } else if let Event::SignalDelivered { op, number, .. } = input {
            let waker = {
                let mut state = self.lock();
                let value = state.logged.signals.remove(number);
                value.and_then(|value| state.end(*op, OpEnd::Signal { number: *number, value }))
            };
            waker.into_iter().for_each(Waker::wake);
        } else if let Some(op) = input.op() {
            let waker = self.lock().end(op, OpEnd::Event(input.clone()));
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Takes a signal in, which a wait is given later.
    pub(crate) fn keep_signal(&self, signal: &Signal) {
        self.lock().logged.signals.insert(signal.number, signal.value.clone());
    }

    fn deliver_cancel(&self, requester: &Requester, resolves: &BTreeMap<OpId, u32>) {
        let failure = cancelled_by(requester);
        let ended = |state: &mut CellState, op: OpId, attempts: u32| {
            state.end(op, OpEnd::Cancelled { attempts, failure: failure.clone() })
        };
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            state.cancelled = Some(failure.clone());
            self.cancelling.store(true, Ordering::Relaxed);
            resolves.iter().filter_map(|(op, attempts)| ended(&mut state, *op, *attempts)).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether this life was told that its run is cancelled.
    pub(crate) fn is_cancelling(&self) -> bool {
        self.cancelling.load(Ordering::Relaxed)
    }

    /// Whether the workflow returned, as it was or in an error of its own, what a cancelled operation
    /// gave it.
    pub(crate) fn is_of_cancel(&self, failure: &Failure) -> bool {
        self.is_cancelling() && self.lock().failed.tells_of_cancel(failure)
    }

    /// Whether an open operation was called in a clean-up.
    pub(crate) fn is_shielded(&self, op: OpId) -> bool {
        matches!(self.lock().slots.get(&op), Some(Slot::Open(OpenSlot { shielded: true, .. })))
    }

    /// Where the operation was called whose error the workflow returned, if that is known.
    pub(crate) fn behind(&self, failure: &Failure) -> Option<CallSite> {
        self.lock().failed.behind(failure)
    }

    /// The call that the trouble of this life concerns, if that is known.
    pub(crate) fn trouble_at(&self) -> Option<CallSite> {
        self.lock().trouble_at
    }

    /// Where the oldest open operation was called; `None` if none is open.
    pub(crate) fn waits_at(&self) -> Option<CallSite> {
        let state = self.lock();
        let open = state.slots.iter().filter_map(|(op, slot)| match slot {
            Slot::Open(open) => Some((*op, open.at)),
            Slot::Ready(_) => None,
        });
        open.min_by_key(|(op, _)| *op).and_then(|(_, at)| at)
    }

    /// How many operations are started and not ended.
    pub(crate) fn open(&self) -> usize {
        self.lock().open
    }

    /// The operations that are still open, in the order of their ids.
    pub(crate) fn open_ops(&self) -> Vec<OpId> {
        let state = self.lock();
        let open = state.slots.iter().filter(|(_, slot)| matches!(slot, Slot::Open(..)));
        let mut ops: Vec<OpId> = open.map(|(op, _)| *op).collect();
        ops.sort_unstable();
        ops
    }

    /// Detaches this life: nothing that it does from now on counts.
    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Release);
        let (slots, asked) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.slots), std::mem::take(&mut state.asked))
        };
        // Outside the lock, because dropping wakers and bodies runs foreign code.
        drop((slots, asked));
    }

    // For the author's code, through `Ctx` and its futures.

    /// Allots the id of a call that is made now; `what` names the call. Returns `None` outside the
    /// run's turn: the cell then reports the call, and its future is dead.
    pub(crate) fn allot(&self, what: impl FnOnce() -> String) -> Option<OpId> {
        if !self.in_turn() {
            self.misused(&what(), "called");
            return None;
        }
        let mut state = self.lock();
        let Ok(op) = OpId::new(state.next_op) else {
            let reason = BlockReason {
                kind: BlockReasonKind::Limit,
                op: None,
                logged: None,
                asked: Some(format!("{} after 4294967295 operations", what())),
                advice: "split the workflow into children".to_owned(),
            };
            state.trouble.get_or_insert(reason);
            return None;
        };
        state.next_op = state.next_op.wrapping_add(1);
        Some(op)
    }

    /// Notes a request that cannot be carried out, and where it was made; the driver blocks the run
    /// after this poll.
    pub(crate) fn refuse(&self, reason: BlockReason, at: CallSite) {
        if self.in_turn() {
            let mut state = self.lock();
            if state.trouble.is_none() {
                (state.trouble, state.trouble_at) = (Some(reason), Some(at));
            }
        } else {
            self.report(reason);
        }
    }

    /// Starts an operation; `waker` is woken at its end. In a run that is cancelled it ends at once,
    /// unless it belongs to a clean-up, and the log has nothing of it.
    pub(crate) fn start(&self, op: OpId, name: &OpName, asked: Asked, waker: &Waker) {
        if !self.in_turn() {
            self.misused(&operation(op, name), "started");
            return;
        }
        let mut state = self.lock();
        if !asked.shielded && state.cancelled.is_some() {
            state.end_unstarted(op, name);
            return;
        }
        let open = OpenSlot { waker: waker.clone(), at: asked.at, shielded: asked.shielded };
        state.slots.insert(op, Slot::Open(open));
        state.open += 1;
        state.asked.push(asked);
    }

    /// How a started operation ended, if it has ended.
    pub(crate) fn poll(&self, op: OpId, name: &OpName, cx: &Context<'_>) -> Poll<OpEnd> {
        if !self.in_turn() {
            self.misused(&operation(op, name), "polled");
            return Poll::Pending;
        }
        let mut state = self.lock();
        match state.slots.get_mut(&op) {
            Some(Slot::Open(open)) if open.waker.will_wake(cx.waker()) => Poll::Pending,
            Some(Slot::Open(open)) => {
                let old = std::mem::replace(&mut open.waker, cx.waker().clone());
                // Outside the lock, because a waker may be the last owner of a foreign future.
                drop(state);
                drop(old);
                Poll::Pending
            }
            Some(Slot::Ready(_)) => match state.slots.remove(&op) {
                Some(Slot::Ready(end)) => {
                    if let OpEnd::Signal { .. } = end {
                        state.asked.push(Event::SignalTaken { op, name: name.clone() }.into());
                    }
                    Poll::Ready(end)
                }
                Some(Slot::Open(..)) | None => Poll::Pending,
            },
            None => Poll::Pending,
        }
    }

    /// Notes that the future of a started operation, which was called at `at`, was dropped before it
    /// returned its result.
    pub(crate) fn dropped(&self, op: OpId, name: &OpName, at: CallSite) {
        if self.is_detached() {
            return;
        }
        if !self.in_turn() {
            self.misused(&operation(op, name), "dropped");
            return;
        }
        let slot = {
            let mut state = self.lock();
            let slot = state.slots.remove(&op);
            let is_open = matches!(slot, Some(Slot::Open(..)));
            state.open -= usize::from(is_open);
            let mut is_dropped = is_open;
            if let Some(Slot::Ready(OpEnd::Signal { number, value })) = &slot {
                // It took nothing: the next wait is given it.
                state.logged.signals.insert(*number, value.clone());
                is_dropped = true;
            }
            if is_dropped {
                state.asked.push(Asked { at: Some(at), ..Event::OpDropped { op }.into() });
            }
            slot
        };
        drop(slot);
    }

    /// Notes an act that needs nothing but its record, and where it was called; its id was allotted
    /// just now.
    pub(crate) fn note(&self, act: Event, at: CallSite) {
        self.lock().asked.push(Asked { at: Some(at), ..act.into() });
    }

    /// Notes that the code is given the error of an operation that it called there.
    pub(crate) fn note_failed(&self, error: &StepError, at: CallSite) {
        self.lock().failed.note(error, at);
    }

    /// The time that the log has for this call; `None` if the call is new.
    pub(crate) fn logged_time(&self, op: OpId) -> Option<Timestamp> {
        self.lock().logged.times.get(&op).copied()
    }

    /// The wall clock now, for a timer that starts.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    fn in_turn(&self) -> bool {
        TURN.get() == self.life
    }

    fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    fn misused(&self, what: &str, how: &str) {
        let thread = std::thread::current();
        let thread = match thread.name() {
            Some(name) => format!("thread `{name}`"),
            None => "a thread without a name".to_owned(),
        };
        self.report(BlockReason {
            kind: BlockReasonKind::Misuse,
            op: None,
            logged: None,
            asked: Some(format!("{what} was {how} outside the run's own turn, on {thread}")),
            advice: "call and await operations in the workflow's own future only: not from a \
                     spawned task or thread, and not in a step's body; branch with join!, \
                     FuturesUnordered or tidemill::select! instead, then resume the run"
                .to_owned(),
        });
    }

    /// Reports something that was done outside the turn: it stops a turn that is being polled, and
    /// reaches a waiting driver through the inbox. Tasks of a detached life are reported, too,
    /// because what they do may explain why that life had to end.
    fn report(&self, reason: BlockReason) {
        if !self.is_detached() {
            self.lock().trouble.get_or_insert_with(|| reason.clone());
        } else if reason.kind != BlockReasonKind::Misuse {
            return;
        }
        self.inbox.trouble(self.life, reason);
    }

    fn lock(&self) -> MutexGuard<'_, CellState> {
        // Nothing that runs under this lock panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CellState {
    /// Ends an open operation; returns what waits for it.
    fn end(&mut self, op: OpId, end: OpEnd) -> Option<Waker> {
        let slot = self.slots.get_mut(&op).filter(|slot| matches!(slot, Slot::Open(_)))?;
        let Slot::Open(open) = std::mem::replace(slot, Slot::Ready(end)) else { return None };
        self.open -= 1;
        Some(open.waker)
    }

    /// Ends an operation that a cancelled run calls.
    fn end_unstarted(&mut self, op: OpId, name: &OpName) {
        let Some(failure) = self.cancelled.clone() else { return };
        self.called_since = self.called_since.saturating_add(1);
        if self.called_since > CANCELLED_CALLS_MAX {
            self.trouble.get_or_insert_with(|| goes_on(op, name));
            return;
        }
        self.slots.insert(op, Slot::Ready(OpEnd::Cancelled { attempts: 0, failure }));
    }
}

/// What the operations of a cancelled run fail with. Workflows record these words as their error, and
/// a replay compares that: they do not change.
fn cancelled_by(requester: &Requester) -> Failure {
    Failure {
        kind: FailureKind::Cancelled,
        message: format!("the run was asked to end{requester}"),
        chain: Vec::new(),
    }
}

/// The reason for a run whose code does not take notice of its cancel.
fn goes_on(op: OpId, name: &OpName) -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Runaway,
        op: Some(op),
        logged: None,
        asked: Some(format!(
            "{} after {CANCELLED_CALLS_MAX} operations that the run's cancel had ended",
            operation(op, name)
        )),
        advice: "let the workflow return when an operation was cancelled (`?` does), and put what \
                 it has to undo into ctx.cleanup(); deploy that and resume the run, or terminate it"
            .to_owned(),
    }
}

impl Wake for RunCell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.in_turn() {
            self.woken.store(true, Ordering::Relaxed);
        } else {
            self.report(foreign_wait());
        }
    }
}

/// An operation's words in a message.
fn operation(op: OpId, name: &OpName) -> String {
    format!("operation {op} `{name}`")
}

/// The reason for a run whose future waits for something that no event can end.
pub(crate) fn foreign_wait() -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::ForeignWait,
        op: None,
        logged: None,
        asked: Some("to wait for something that is not an operation of this run".to_owned()),
        advice: "wait only for what ctx gives out and for channels between the branches of this \
                 run: use ctx.sleep for tokio::time::sleep, a step for input, output and spawned \
                 tasks, then resume the run"
            .to_owned(),
    }
}
