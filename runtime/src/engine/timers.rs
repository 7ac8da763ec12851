//! The timers of this process: one thread that sleeps until the next one is due.
//!
//! It sleeps on a timer of `CLOCK_BOOTTIME`, which goes on in suspend and which nobody sets. A
//! durable timer has a moment of the wall clock: it fires when the time that it had left when it
//! was set has passed *and* the wall clock has reached its moment. A wall clock that jumps ahead
//! therefore fires nothing early; one that jumps back delays, and loses nothing. That holds while
//! the run is in memory: one that comes back has the time left by the wall clock of that moment.
//!
//! Crash: nothing here outlives the process; timers are set again from the log. Cancellation: a
//! timer that was cancelled may just have fired, and its receiver ignores it.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tidemill_model::{BootTime, Event, Timestamp};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::inbox::Inbox;
use crate::error::{Error, ErrorKind};

/// Names a timer, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TimerKey {
    due: BootTime,
    number: u64,
}

/// What a timer does when it is due.
enum Action {
    /// A durable timer of a run: its end.
    Fire { inbox: Arc<Inbox>, end: Event },
    /// An attempt is out of time.
    Cancel(CancellationToken),
    /// A dropped step's body has had its grace.
    Abort(AbortHandle),
    /// Somebody waits.
    Wake(Arc<Mutex<SleepState>>),
}

struct TimerEntry {
    /// The wall clock has to have reached this, too.
    not_before: Option<Timestamp>,
    action: Action,
}

#[derive(Default)]
struct TimersState {
    entries: BTreeMap<TimerKey, TimerEntry>,
    next_number: u64,
    closed: bool,
}

struct TimersShared {
    clock: Clock,
    fd: OwnedFd,
    state: Mutex<TimersState>,
}

/// See the module. A clone is the same.
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
        let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC);
        let fd = fd.map_err(|e| failed(e.into()))?;
        let shared = Arc::new(TimersShared { clock, fd, state: Mutex::default() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tidemill-timers".to_owned())
            .spawn(move || theirs.run())
            .map_err(failed)?;
        Ok(Timers { shared, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Ends a durable timer with this event at a moment of the wall clock.
    pub(crate) fn fire_at(&self, at: Timestamp, inbox: Arc<Inbox>, end: Event) -> TimerKey {
        self.shared.insert_at(at, Action::Fire { inbox, end })
    }

    /// Cancels a token after a while.
    pub(crate) fn cancel_after(&self, delay: Duration, token: CancellationToken) -> TimerKey {
        let due = self.shared.clock.boot().saturating_add(delay);
        self.shared.insert(due, None, Action::Cancel(token))
    }

    /// Drops a task after a while.
    pub(crate) fn abort_after(&self, delay: Duration, task: AbortHandle) {
        let due = self.shared.clock.boot().saturating_add(delay);
        self.shared.insert(due, None, Action::Abort(task));
    }

    /// Waits for a while.
    pub(crate) fn sleep(&self, delay: Duration) -> ProcessSleep {
        let state = Arc::default();
        let due = self.shared.clock.boot().saturating_add(delay);
        let key = self.shared.insert(due, None, Action::Wake(Arc::clone(&state)));
        ProcessSleep { timers: self.clone(), key, state }
    }

    /// Waits until a moment of the wall clock.
    pub(crate) fn sleep_until(&self, at: Timestamp) -> ProcessSleep {
        let state = Arc::default();
        let key = self.shared.insert_at(at, Action::Wake(Arc::clone(&state)));
        ProcessSleep { timers: self.clone(), key, state }
    }

    pub(crate) fn cancel(&self, key: TimerKey) {
        // Dropped after the lock is free: an action may be the last owner of much.
        let cancelled = self.shared.lock().entries.remove(&key);
        drop(cancelled);
    }

    /// Ends the thread; what waits never fires.
    pub(crate) fn close(&self) {
        {
            let mut state = self.shared.lock();
            state.closed = true;
            self.shared.arm(BootTime::from_nanos(1));
        }
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
        let left = at.since(self.clock.wall());
        self.insert(self.clock.boot().saturating_add(left), Some(at), action)
    }

    fn insert(&self, due: BootTime, not_before: Option<Timestamp>, action: Action) -> TimerKey {
        let mut state = self.lock();
        let key = TimerKey { due, number: state.next_number };
        state.next_number += 1;
        state.entries.insert(key, TimerEntry { not_before, action });
        if state.entries.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.arm(due);
        }
        key
    }

    /// Lets the thread's read return at `due`, or at once if that has passed.
    fn arm(&self, due: BootTime) {
        let nanos = due.as_nanos().max(1);
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
            },
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)
            .expect("a timer descriptor of ours takes any moment from 1 ns");
    }

    fn run(&self) {
        let mut expirations = [0; 8];
        loop {
            match rustix::io::read(&self.fd, &mut expirations) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "reading the timer descriptor failed: no timer fires");
                    return;
                }
            }
            let mut due = Vec::new();
            {
                let mut state = self.lock();
                if state.closed {
                    return;
                }
                self.take_due(&mut state, &mut due);
                if let Some((next, _)) = state.entries.first_key_value() {
                    self.arm(next.due);
                }
            }
            due.into_iter().for_each(Action::act);
        }
    }

    /// Takes what is due by both clocks; what the wall clock has not reached waits on.
    fn take_due(&self, state: &mut TimersState, due: &mut Vec<Action>) {
        let now = self.clock.boot();
        while let Some(first) = state.entries.first_entry() {
            if first.key().due > now {
                return;
            }
            let number = first.key().number;
            let entry = first.remove();
            let left = entry.not_before.map(|at| at.since(self.clock.wall()));
            match left {
                Some(left) if !left.is_zero() => {
                    let key = TimerKey { due: now.saturating_add(left), number };
                    state.entries.insert(key, entry);
                }
                Some(_) | None => due.push(entry.action),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, TimersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A wait of the engine itself, which is not recorded. Dropping it cancels it.
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

    fn wait_for_input(inbox: &Inbox) -> Option<Event> {
        let mut cx = Context::from_waker(Waker::noop());
        match inbox.poll_mail(&mut cx) {
            Poll::Ready(mail) => mail.inputs.into_iter().next(),
            Poll::Pending => None,
        }
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

    #[tokio::test]
    async fn a_wall_clock_that_jumps_fires_nothing_early_and_loses_nothing() {
        let clock = Clock::default();
        let timers = Timers::start(clock.clone()).unwrap();
        let inbox = Arc::new(Inbox::default());
        let at = clock.wall().saturating_add(SECOND * 1000);
        timers.fire_at(at, Arc::clone(&inbox), end(OpId::FIRST));
        let soon = clock.wall().saturating_add(Duration::from_millis(20));
        let second = OpId::FIRST.next();
        timers.fire_at(soon, Arc::clone(&inbox), end(second));
        clock.step_wall(3_600_000_000);
        timers.sleep(Duration::from_millis(40)).await;
        let fired = wait_for_input(&inbox).unwrap();
        assert_eq!(fired.op(), Some(second), "an hour ahead fires only what had run out");

        let back = clock.wall().saturating_add(Duration::from_millis(10));
        timers.fire_at(back, Arc::clone(&inbox), end(second));
        clock.step_wall(-3_600_000_000);
        timers.sleep(Duration::from_millis(30)).await;
        assert_eq!(wait_for_input(&inbox), None, "the wall clock has not reached it");
        assert_eq!(timers.shared.lock().entries.len(), 2, "and both still wait");
        timers.close();
    }
}
