//! Virtual time: a clock that stands still while the app works, and jumps to the next timer once
//! nothing in the app can make progress without it. Tests run by it; a production build only finds
//! out that it has none.
//!
//! # When the app is idle
//!
//! One number counts the work in flight, and the clock moves only while it is zero. Nothing looks
//! at the app from outside to find out whether it rests; each thing that may cause another takes
//! part in the count before it begins, and leaves only after it has handed over:
//!
//! - a task of the engine (`counted.rs`) counts from the moment it is woken until a poll of it ends
//!   without having been woken again: so drivers, the feeder, the alarm and the tasks of bodies
//!   count exactly while they run or are about to;
//! - a message to the writer counts from before it is queued until its answer has been given, which
//!   wakes the task that waits for it;
//! - a read of the file takes place within the poll that asks for it, and a replay counts until it
//!   is done, also while it yields its thread;
//! - a job of the pool counts from before it is queued until its body has returned and said so;
//! - a body counts as long as it runs, also while it waits for something outside the engine, until
//!   it returns or is asked to stop (`testing/bodies.rs`);
//! - what fires counts until all that it wakes is counted.
//!
//! So every wake-up is counted before the count of what caused it ends, and the number cannot reach
//! zero in between. Two more rules make it exact. These tasks run without tokio's budget, which
//! would let them wait although nothing has to wake them. And an aborted task counts from the abort
//! until its future has been dropped.
//!
//! What calls the node from outside (a test) is not counted, so the clock moves only while somebody
//! waits: for the end of a run, for a moment (`advance`), or for the end of a shutdown. A test that
//! starts two runs in a row starts them at one moment. Whoever waits counts, too, once what it
//! waits for has come, so the clock does not move before the test has seen it.
//!
//! Timers fire one by one, by their moment and then in the order in which they were set, and
//! everything that follows from one happens before the next.
//!
//! # Why a test repeats
//!
//! The writer commits when every task has done what it can and waits for it, so that real time does
//! not decide which turns share a commit; what bodies do is not waited for. Runs are loaded one at
//! a time. With a runtime of one thread, and with bodies that do not wait for the world, an app
//! then does the same each time, commit by commit.
//!
//! # When nothing can go on
//!
//! If the app is idle and has no timer, whoever waits for a run would wait for ever: after a second
//! the wait ends with an error. A wait also ends with an error after a bound of real time, which
//! names the bodies that hold the clock.

mod counted;
mod waits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{BootTime, Timestamp};

pub(crate) use counted::{Counted, Task, TaskAbort};
pub(crate) use waits::{WaitKind, Waiting};

/// The nanosecond of the boot clock at which a virtual clock begins: any will do but zero.
const BOOT_BEGINS: u64 = 3_600_000_000_000;

/// How long an app without a timer may be idle, in real time, before those who wait are told.
const STALL: Duration = Duration::from_secs(1);

/// How long the writer waits, in real time, until all tasks rest: a body that keeps its thread busy
/// may wait for the writer itself.
const REST_MAX: Duration = Duration::from_secs(1);

/// A virtual clock, shared by everything of one app.
pub(crate) struct VirtualTime {
    /// The wall clock when it began.
    began: Timestamp,
    /// The boot clock now, in nanoseconds.
    nanos: AtomicU64,
    /// How long a wait may take in real time.
    patience: Duration,
    /// How much randomness was drawn.
    draws: AtomicU64,
    state: Mutex<State>,
    /// Tells the thread of the timers that it may be able to move the clock.
    changed: Condvar,
}

/// When the clock moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moves {
    /// As soon as the app is idle and somebody waits.
    ByItself,
    /// Only as far as it is told to.
    ByHand,
}

struct State {
    moves: Moves,
    /// The work in flight.
    work: usize,
    /// The part of it that the writer does not wait for: its own messages, and bodies.
    beside: usize,
    /// How often work began, which tells whether anything has happened since.
    begun: u64,
    /// How far the clock was told to move; `None` if it need not.
    target: Option<u64>,
    waits: BTreeMap<u64, waits::Wait>,
    /// What holds the clock, for messages.
    holders: BTreeMap<u64, String>,
    next_id: u64,
}

/// The first timer that is due, as the timers know.
pub(super) enum FirstDue {
    At(BootTime),
    Never,
    /// The timers are closed.
    Closed,
}

impl VirtualTime {
    /// A clock that shows `began` until it moves.
    pub(crate) fn new(began: Timestamp, moves: Moves, patience: Duration) -> Arc<VirtualTime> {
        let state = State {
            moves,
            work: 0,
            beside: 0,
            begun: 0,
            target: None,
            waits: BTreeMap::new(),
            holders: BTreeMap::new(),
            next_id: 0,
        };
        Arc::new(VirtualTime {
            began,
            nanos: AtomicU64::new(BOOT_BEGINS),
            patience,
            draws: AtomicU64::new(0),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    pub(crate) fn boot(&self) -> BootTime {
        BootTime::from_nanos(self.nanos.load(Ordering::Acquire))
    }

    pub(crate) fn wall(&self) -> Timestamp {
        self.began.saturating_add(self.boot().since(BootTime::from_nanos(BOOT_BEGINS)))
    }

    /// Random bits that are the same in every test: the n-th draw gives the same ones.
    pub(super) fn draw(&self) -> [u8; 16] {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        xxhash_rust::xxh3::xxh3_128(&draw.to_be_bytes()).to_be_bytes()
    }

    /// Counts a piece of work until the guard is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> WorkInFlight {
        self.begin_work();
        WorkInFlight { time: Some(Arc::clone(self)), beside: false }
    }

    /// The same for work that the writer does not wait for.
    pub(crate) fn work_beside(self: &Arc<Self>) -> WorkInFlight {
        let mut state = self.lock();
        state.begin_work();
        state.beside += 1;
        WorkInFlight { time: Some(Arc::clone(self)), beside: true }
    }

    /// Counts a piece of work that may take long and is worth a name in messages.
    pub(crate) fn hold(self: &Arc<Self>, what: String) -> Hold {
        let work = self.work_beside();
        let mut state = self.lock();
        let id = state.take_id();
        state.holders.insert(id, what);
        Hold { work, id }
    }

    fn begin_work(&self) {
        self.lock().begin_work();
    }

    fn end_work(&self, pieces: usize) {
        let mut state = self.lock();
        state.work = state.work.saturating_sub(pieces);
        if state.rests() {
            self.changed.notify_all();
        }
    }

    fn end_work_beside(&self, pieces: usize) {
        let mut state = self.lock();
        state.beside = state.beside.saturating_sub(pieces);
        drop(state);
        self.end_work(pieces);
    }

    /// Waits until every task has done what it can.
    pub(super) fn rest(&self) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, REST_MAX, |state| !state.rests());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Looks again whether the clock can move: a timer was set, or the timers were closed.
    pub(super) fn look_again(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Waits until the clock can move to the first timer, and moves it. Returns the work of what
    /// fires now; `None` once the timers are closed. `first` is asked with the present moment.
    pub(super) fn next(
        self: &Arc<Self>,
        first: impl Fn(BootTime) -> FirstDue,
    ) -> Option<WorkInFlight> {
        let mut state = self.lock();
        loop {
            let now = self.boot();
            let due = match first(now) {
                FirstDue::Closed => return None,
                FirstDue::At(at) => Some(at),
                FirstDue::Never => None,
            };
            let mut stalls = false;
            if let Some(limit) = state.may_move_to() {
                match (due, state.target) {
                    (Some(at), _) if at.as_nanos() <= limit => {
                        self.move_to(at.as_nanos());
                        state.begin_work();
                        return Some(WorkInFlight { time: Some(Arc::clone(self)), beside: false });
                    }
                    (_, Some(target)) => {
                        self.move_to(target);
                        let wakers = state.reached();
                        drop(state);
                        wakers.into_iter().for_each(Waker::wake);
                        state = self.lock();
                        continue;
                    }
                    (_, None) => stalls = true,
                }
            }
            state = self.wait(state, stalls);
        }
    }

    /// The clock never goes back.
    fn move_to(&self, nanos: u64) {
        self.nanos.fetch_max(nanos, Ordering::AcqRel);
    }

    /// Waits for a change, and ends the waits that took too long.
    fn wait<'a>(&'a self, state: MutexGuard<'a, State>, stalls: bool) -> MutexGuard<'a, State> {
        let now = host::boot_now();
        let Some(left) = state.bound(now, self.patience, stalls) else {
            return self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        let begun = state.begun;
        let waited = self.changed.wait_timeout(state, left);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if !timeout.timed_out() {
            return state;
        }
        let told = if stalls && state.begun == begun && state.work == 0 {
            state.fail_stalled()
        } else {
            state.fail_late(host::boot_now(), self.patience)
        };
        drop(state);
        told.into_iter().for_each(Waker::wake);
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin_work(&mut self) {
        self.work += 1;
        self.begun += 1;
    }

    /// Whether no task runs or is about to.
    fn rests(&self) -> bool {
        self.work <= self.beside
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// How far the clock may move now; `None` if it must stand still.
    fn may_move_to(&self) -> Option<u64> {
        if self.work > 0 {
            return None;
        }
        if self.target.is_some() {
            return self.target;
        }
        let moves = self.waits.values().any(|wait| match wait.kind {
            WaitKind::Run => self.moves == Moves::ByItself,
            WaitKind::Moment => false,
            WaitKind::Shutdown => true,
        });
        moves.then_some(u64::MAX)
    }
}

/// A piece of work in flight, while it lives; nothing in real time.
#[must_use = "the work counts as long as this lives"]
pub(crate) struct WorkInFlight {
    time: Option<Arc<VirtualTime>>,
    beside: bool,
}

impl WorkInFlight {
    /// For a clock that nothing holds.
    pub(super) const NONE: WorkInFlight = WorkInFlight { time: None, beside: false };

    /// Hands the work over to who ends it later.
    pub(crate) fn hand_over(mut self) {
        self.time = None;
    }
}

/// Ends pieces of work that the writer did not wait for and that were handed over.
pub(super) fn end_work_beside(time: &VirtualTime, pieces: usize) {
    time.end_work_beside(pieces);
}

impl Drop for WorkInFlight {
    fn drop(&mut self) {
        match (&self.time, self.beside) {
            (Some(time), true) => time.end_work_beside(1),
            (Some(time), false) => time.end_work(1),
            (None, _) => {}
        }
    }
}

/// A piece of work with a name.
pub(crate) struct Hold {
    work: WorkInFlight,
    id: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(time) = &self.work.time {
            time.lock().holders.remove(&self.id);
        }
    }
}

impl fmt::Debug for VirtualTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualTime").field("wall", &self.wall()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
