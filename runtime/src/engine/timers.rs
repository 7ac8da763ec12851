//! The timers of this process: one thread that sleeps until the next one is due.
//!
//! It sleeps on a timer of `CLOCK_BOOTTIME`, which keeps running in suspend and which nobody sets.
//! A durable timer has a moment of the wall clock, and is of one of two kinds:
//!
//! - counted: `ctx.sleep` set it for a duration, and its run has been in memory since. It fires
//!   when that time has passed by the boot clock, whatever the wall clock does.
//! - of the wall clock: all others. It fires when the wall clock reaches its moment. When that
//!   clock is set, the kernel notifies the thread, which computes the remaining time again:
//!   correcting the clock makes no timer late.
//!
//! In virtual time (`virtual_time/`) the same thread moves that clock from timer to timer instead.
//!
//! Crash: nothing here outlives the process; timers are set again from the log. Cancellation: a
//! timer that was cancelled may just have fired, and its receiver ignores it.

mod kernel;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tidemill_model::{BootTime, Event, Timestamp};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::inbox::Inbox;
use super::virtual_time::{FirstDue, TaskAbort, VirtualTime};
use crate::error::{Error, ErrorKind};
use kernel::KernelTimers;

/// The key of a timer, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TimerKey(u64);

/// What a timer does when it is due.
enum Action {
    /// Push the end of a durable timer into its run's inbox.
    Fire { inbox: Arc<Inbox>, end: Event },
    /// Cancel the token of an attempt that is out of time.
    Cancel(CancellationToken),
    /// Abort the body of a dropped step, whose grace is over.
    Abort(TaskAbort),
    /// Wake a future that waits.
    Wake(Arc<Mutex<SleepState>>),
}

struct TimerEntry {
    /// The moment of a timer of the wall clock; `None` for a counted timer.
    at: Option<Timestamp>,
    /// Whether virtual time does not move for it: it fires when that moves past it.
    beside: bool,
    action: Action,
}

#[derive(Default)]
struct TimersState {
    /// The timers, by the moment when each is due and its number.
    entries: BTreeMap<(BootTime, u64), TimerEntry>,
    /// When each is due, by its number.
    dues: FxHashMap<u64, BootTime>,
    next_number: u64,
    closed: bool,
}

struct TimersShared {
    clock: Clock,
    /// `None` in virtual time.
    kernel: Option<KernelTimers>,
    state: Mutex<TimersState>,
}

/// The timers of a process; clones share them.
#[derive(Clone)]
pub(crate) struct Timers {
    shared: Arc<TimersShared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Timers {
    pub(crate) fn start(clock: Clock) -> Result<Timers, Error> {
        let failed = |e: std::io::Error| {
            Error::caused(ErrorKind::Internal, "the timers could not be set up", e)
        };
        let kernel = match clock.as_virtual() {
            Some(_) => None,
            None => Some(KernelTimers::new().map_err(|e| failed(e.into()))?),
        };
        let shared = Arc::new(TimersShared { clock, kernel, state: Mutex::default() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tidemill-timers".to_owned())
            .spawn(move || theirs.run())
            .map_err(failed)?;
        Ok(Timers { shared, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Ends a durable timer with this event when the wall clock reaches a moment, or, if it is
    /// `counted`, when the time until that moment has passed by the boot clock.
    pub(crate) fn fire_at(
        &self,
        at: Timestamp,
        counted: bool,
        inbox: Arc<Inbox>,
        end: Event,
    ) -> TimerKey {
        let action = Action::Fire { inbox, end };
        match counted {
            true => self.shared.insert(self.shared.due(at), None, action),
            false => self.shared.insert_at(at, action),
        }
    }

    /// Cancels a token after a delay.
    pub(crate) fn cancel_after(&self, delay: Duration, token: CancellationToken) -> TimerKey {
        let due = self.shared.clock.boot().saturating_add(delay);
        self.shared.insert(due, None, Action::Cancel(token))
    }

    /// Aborts a task after a delay.
    pub(crate) fn abort_after(&self, delay: Duration, task: TaskAbort) {
        let due = self.shared.clock.boot().saturating_add(delay);
        self.shared.insert(due, None, Action::Abort(task));
    }

    /// Waits for a delay.
    pub(crate) fn sleep(&self, delay: Duration) -> ProcessSleep {
        self.sleep_until_due(delay, false)
    }

    /// Waits for a delay between two rounds of housekeeping. Virtual time does not move for that.
    pub(crate) fn sleep_beside(&self, delay: Duration) -> ProcessSleep {
        self.sleep_until_due(delay, true)
    }

    /// Waits for a delay of real time, for code that really computes meanwhile. Virtual time stands
    /// still.
    pub(crate) async fn sleep_really(&self, delay: Duration) {
        let clock = &self.shared.clock;
        if clock.as_virtual().is_none() {
            return self.sleep(delay).await;
        }
        let _work = clock.work_beside();
        tokio::time::sleep(delay).await;
    }

    fn sleep_until_due(&self, delay: Duration, beside: bool) -> ProcessSleep {
        let state = Arc::default();
        let due = self.shared.clock.boot().saturating_add(delay);
        let action = Action::Wake(Arc::clone(&state));
        let key = self.shared.insert_entry(due, TimerEntry { at: None, beside, action });
        ProcessSleep { timers: self.clone(), key, state }
    }

    /// Waits until a moment of the wall clock.
    pub(crate) fn sleep_until(&self, at: Timestamp) -> ProcessSleep {
        let state = Arc::default();
        let key = self.shared.insert_at(at, Action::Wake(Arc::clone(&state)));
        ProcessSleep { timers: self.clone(), key, state }
    }

    pub(crate) fn cancel(&self, key: TimerKey) {
        // Dropped outside the lock, because an action may be the last owner of large values.
        let cancelled = self.shared.lock().remove(key);
        drop(cancelled);
    }

    /// How many timers have not fired.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().entries.len()
    }

    /// Ends the thread; waiting timers never fire.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.arm_locked(BootTime::from_nanos(1), state);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the timers had panicked");
        }
        let left = std::mem::take(&mut self.shared.lock().entries);
        drop(left);
    }
}

impl TimersShared {
    fn insert_at(&self, at: Timestamp, action: Action) -> TimerKey {
        self.insert(self.due(at), Some(at), action)
    }

    /// The moment of the boot clock at which the wall clock reaches `at`, if nobody sets that
    /// clock.
    fn due(&self, at: Timestamp) -> BootTime {
        self.clock.boot().saturating_add(at.since(self.clock.wall()))
    }

    fn insert(&self, due: BootTime, at: Option<Timestamp>, action: Action) -> TimerKey {
        self.insert_entry(due, TimerEntry { at, beside: false, action })
    }

    fn insert_entry(&self, due: BootTime, entry: TimerEntry) -> TimerKey {
        let mut state = self.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.put(due, number, entry);
        if state.first() == Some((due, number)) {
            self.arm_locked(due, state);
        }
        TimerKey(number)
    }

    /// As [`TimersShared::arm`], under the lock, so that no later moment overwrites this one.
    fn arm_locked(&self, due: BootTime, state: MutexGuard<'_, TimersState>) {
        if self.kernel.is_some() {
            self.arm(due);
            return;
        }
        // The clock's thread takes the two locks in the other order.
        drop(state);
        self.arm(due);
    }

    /// Lets the thread look at the timers at `due`, or at once if that has passed.
    fn arm(&self, due: BootTime) {
        match (&self.kernel, self.clock.as_virtual()) {
            (Some(kernel), _) => kernel.arm(due),
            (None, Some(time)) => time.look_again(),
            (None, None) => {}
        }
    }

    fn run(&self) {
        match (&self.kernel, self.clock.as_virtual()) {
            (Some(kernel), _) => self.run_by_kernel(kernel),
            (None, Some(time)) => self.run_virtually(time),
            (None, None) => {}
        }
    }

    /// Moves virtual time whenever the app is idle. Fires one timer at a time, so that all that
    /// follows from one happens before the next.
    fn run_virtually(&self, time: &Arc<VirtualTime>) {
        while let Some(_firing) = time.next(|now| self.lock().first_to_move_to(now)) {
            let now = self.clock.boot();
            let mut state = self.lock();
            let first = state.first().filter(|(due, _)| *due <= now);
            let entry = first.and_then(|(_, number)| state.remove(TimerKey(number)));
            drop(state);
            entry.into_iter().for_each(|entry| entry.action.act());
        }
    }

    fn run_by_kernel(&self, kernel: &KernelTimers) {
        loop {
            let woken = match kernel.wait() {
                Ok(woken) => woken,
                Err(error) => {
                    tracing::error!(%error, "waiting for the timer descriptors failed: no timer fires");
                    return;
                }
            };
            if woken.wall_was_set {
                self.count_again();
            }
            if woken.is_due && !self.fire() {
                return;
            }
        }
    }

    /// Performs the due actions; false once the timers are closed.
    fn fire(&self) -> bool {
        let mut due = Vec::new();
        {
            let mut state = self.lock();
            if state.closed {
                return false;
            }
            self.take_due(&mut state, &mut due);
            if let Some((next, _)) = state.first() {
                self.arm(next);
            }
        }
        due.into_iter().for_each(Action::act);
        true
    }

    /// Takes the due actions; a timer of the wall clock that has not reached its moment keeps
    /// waiting.
    fn take_due(&self, state: &mut TimersState, due: &mut Vec<Action>) {
        let now = self.clock.boot();
        while let Some((at, number)) = state.first().filter(|(at, _)| *at <= now) {
            let Some(entry) = state.entries.remove(&(at, number)) else { return };
            state.dues.remove(&number);
            let left = entry.at.map(|at| at.since(self.clock.wall()));
            match left {
                Some(left) if !left.is_zero() => state.put(now.saturating_add(left), number, entry),
                Some(_) | None => due.push(entry.action),
            }
        }
    }

    /// Computes the remaining times of the wall clock's timers again, after that clock was set.
    fn count_again(&self) {
        let mut state = self.lock();
        let entries = std::mem::take(&mut state.entries);
        for ((due, number), entry) in entries {
            let due = entry.at.map_or(due, |at| self.due(at));
            state.put(due, number, entry);
        }
        if let Some((next, _)) = state.first() {
            self.arm(next);
        }
    }

    fn lock(&self) -> MutexGuard<'_, TimersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimersState {
    fn put(&mut self, due: BootTime, number: u64, entry: TimerEntry) {
        self.dues.insert(number, due);
        self.entries.insert((due, number), entry);
    }

    fn remove(&mut self, TimerKey(number): TimerKey) -> Option<TimerEntry> {
        let due = self.dues.remove(&number)?;
        self.entries.remove(&(due, number))
    }

    /// The first timer for which virtual time moves.
    fn first_to_move_to(&self, now: BootTime) -> FirstDue {
        if self.closed {
            return FirstDue::Closed;
        }
        let moves = |(due, entry): (BootTime, &TimerEntry)| due <= now || !entry.beside;
        let dues = self.entries.iter().map(|((due, _), entry)| (*due, entry));
        match dues.into_iter().find(|entry| moves(*entry)) {
            Some((due, _)) => FirstDue::At(due),
            None => FirstDue::Never,
        }
    }

    fn first(&self) -> Option<(BootTime, u64)> {
        self.entries.first_key_value().map(|(key, _)| *key)
    }
}

impl Action {
    fn act(self) {
        match self {
            Action::Fire { inbox, end } => inbox.push(end),
            Action::Cancel(token) => token.cancel(),
            Action::Abort(task) => task.abort(),
            Action::Wake(state) => {
                let waker = {
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.over = true;
                    state.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}

#[derive(Default)]
struct SleepState {
    over: bool,
    waker: Option<Waker>,
}

/// A wait of the engine itself, which the log does not record. Dropping it cancels it.
pub(crate) struct ProcessSleep {
    timers: Timers,
    key: TimerKey,
    state: Arc<Mutex<SleepState>>,
}

impl Future for ProcessSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.over {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ProcessSleep {
    fn drop(&mut self) {
        self.timers.cancel(self.key);
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::{OpId, OpName};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn end(op: OpId) -> Event {
        Event::TimerFired { op, name: OpName::new("sleep").unwrap() }
    }

    #[tokio::test]
    async fn timers_fire_in_order_and_not_after_they_were_cancelled() {
        let timers = Timers::start(Clock::default()).unwrap();
        let token = CancellationToken::new();
        let key = timers.cancel_after(Duration::from_millis(1), token.clone());
        timers.cancel(key);
        let other = CancellationToken::new();
        timers.cancel_after(Duration::from_millis(2), other.clone());
        timers.sleep(Duration::from_millis(5)).await;
        assert!(other.is_cancelled() && !token.is_cancelled());
        timers.close();
    }

    /// What the inbox has by now.
    fn fired(inbox: &Inbox) -> Vec<Option<OpId>> {
        inbox.take().inputs.iter().map(Event::op).collect()
    }

    #[tokio::test]
    async fn a_wall_clock_that_is_set_moves_its_own_timers_and_no_counted_one() {
        let clock = Clock::default();
        let timers = Timers::start(clock.clone()).unwrap();
        let inbox = Arc::new(Inbox::default());
        let [counted, of_wall] = [OpId::FIRST, OpId::FIRST.next()];
        let set = |op, counted, at| timers.fire_at(at, counted, Arc::clone(&inbox), end(op));

        let in_a_while = clock.wall().saturating_add(SECOND * 1_000);
        set(counted, true, in_a_while);
        set(of_wall, false, in_a_while);
        clock.step_wall(3_600_000_000);
        timers.shared.count_again();
        timers.sleep(Duration::from_millis(20)).await;
        assert_eq!(fired(&inbox), [Some(of_wall)], "an hour ahead: its moment has passed");

        let soon = clock.wall().saturating_add(Duration::from_millis(10));
        set(counted, true, soon);
        set(of_wall, false, soon);
        clock.step_wall(-3_600_000_000);
        timers.sleep(Duration::from_millis(30)).await;
        assert_eq!(fired(&inbox), [Some(counted)], "back: only what is counted has run out");
        clock.step_wall(3_600_000_000);
        timers.shared.count_again();
        timers.sleep(Duration::from_millis(20)).await;
        assert_eq!(fired(&inbox), [Some(of_wall)], "corrected: it is not late");
        timers.close();
    }

    #[tokio::test]
    async fn a_timer_that_was_counted_again_can_still_be_cancelled() {
        let clock = Clock::default();
        let timers = Timers::start(clock.clone()).unwrap();
        let inbox = Arc::new(Inbox::default());
        let at = clock.wall().saturating_add(SECOND * 1_000);
        let key = timers.fire_at(at, false, Arc::clone(&inbox), end(OpId::FIRST));
        clock.step_wall(3_600_000);
        timers.shared.count_again();
        timers.cancel(key);
        let state = timers.shared.lock();
        assert!(state.entries.is_empty() && state.dues.is_empty());
        drop(state);
        timers.close();
    }
}
