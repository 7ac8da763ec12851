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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use rustc_hash::FxHashMap;
use tidemill_model::{
    BlockReason, BlockReasonKind, Event, Failure, OpId, OpName, RunId, Seed, Timestamp,
};

use super::bodies::StepBody;
use super::call_site::{CallSite, FailedCalls};
use super::clock::Clock;
use super::inbox::Inbox;
use crate::author::result::Wording;
use crate::author::{StepError, WorkflowNames};

thread_local! {
    /// The life whose turn this thread is taking; 0 for none.
    static TURN: Cell<u64> = const { Cell::new(0) };
}

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
}

impl From<Event> for Asked {
    fn from(event: Event) -> Asked {
        Asked { event, body: None, counted: false, at: None }
    }
}

enum Slot {
    /// What to wake at its end, and where it was called.
    Open(Waker, Option<CallSite>),
    /// The event that ended it.
    Ready(Event),
}

#[derive(Default)]
struct CellState {
    next_op: u32,
    asked: Vec<Asked>,
    slots: FxHashMap<OpId, Slot>,
    open: usize,
    /// The times that the log holds, for `ctx.now()` calls that a replay repeats.
    times: FxHashMap<OpId, Timestamp>,
    failed: FailedCalls,
    /// The first forbidden thing that this life did, in its turn or outside it.
    trouble: Option<BlockReason>,
    /// The call that the trouble concerns, if that is known.
    trouble_at: Option<CallSite>,
}

/// The cell of one life.
pub(crate) struct RunCell {
    life: u64,
    run: RunId,
    seed: Seed,
    clock: Clock,
    inbox: Arc<Inbox>,
    names: Arc<WorkflowNames>,
    woken: AtomicBool,
    detached: AtomicBool,
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
        run: RunId,
        seed: Seed,
        clock: Clock,
        inbox: Arc<Inbox>,
        names: Arc<WorkflowNames>,
        times: FxHashMap<OpId, Timestamp>,
    ) -> Arc<RunCell> {
        let state = CellState { next_op: 1, times, ..CellState::default() };
        Arc::new(RunCell {
            life: NEXT_LIFE.fetch_add(1, Ordering::Relaxed),
            run,
            seed,
            clock,
            inbox,
            names,
            woken: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            bare_errors: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Which function stands for which workflow of the program.
    pub(crate) fn names(&self) -> &WorkflowNames {
        &self.names
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
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

    /// Hands the end of an operation to its future; false if none waits for it.
    pub(crate) fn deliver(&self, end: &Event) -> bool {
        let waker = {
            let mut state = self.lock();
            let slot = end.op().and_then(|op| state.slots.get_mut(&op));
            let Some(slot @ Slot::Open(..)) = slot else { return false };
            let Slot::Open(waker, _) = std::mem::replace(slot, Slot::Ready(end.clone())) else {
                return false;
            };
            state.open -= 1;
            waker
        };
        waker.wake();
        true
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
            Slot::Open(_, at) => Some((*op, *at)),
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

    /// Starts an operation; `waker` is woken at its end.
    pub(crate) fn start(&self, op: OpId, name: &OpName, asked: Asked, waker: &Waker) {
        if !self.in_turn() {
            self.misused(&operation(op, name), "started");
            return;
        }
        let mut state = self.lock();
        state.slots.insert(op, Slot::Open(waker.clone(), asked.at));
        state.open += 1;
        state.asked.push(asked);
    }

    /// The event that ended a started operation, if it has ended.
    pub(crate) fn poll(&self, op: OpId, name: &OpName, cx: &Context<'_>) -> Poll<Event> {
        if !self.in_turn() {
            self.misused(&operation(op, name), "polled");
            return Poll::Pending;
        }
        let mut state = self.lock();
        match state.slots.get_mut(&op) {
            Some(Slot::Open(waker, _)) if waker.will_wake(cx.waker()) => Poll::Pending,
            Some(Slot::Open(waker, _)) => {
                let old = std::mem::replace(waker, cx.waker().clone());
                // Outside the lock, because a waker may be the last owner of a foreign future.
                drop(state);
                drop(old);
                Poll::Pending
            }
            Some(Slot::Ready(_)) => match state.slots.remove(&op) {
                Some(Slot::Ready(end)) => Poll::Ready(end),
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
            if matches!(slot, Some(Slot::Open(..))) {
                state.open -= 1;
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
        self.lock().times.get(&op).copied()
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
