//! Who waits for the app from outside, and lets its clock move meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidemill_model::BootTime;

use super::counted::Counted;
use super::{Moves, STALL, State, VirtualTime};
use crate::error::{Error, ErrorKind};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitKind {
    /// The end of a run: bounded in real time.
    Run,
    /// A moment to which the clock was told to move: bounded, too.
    Moment,
    /// The end of the node, which never fails and for which any clock moves.
    Shutdown,
}

/// A wait under way.
pub(super) struct Wait {
    pub(super) kind: WaitKind,
    /// When it began, in real time.
    since: BootTime,
    waker: Option<Waker>,
    /// Why it ends without what it waits for.
    failed: Option<String>,
}

impl Wait {
    fn is_bounded(&self) -> bool {
        self.kind != WaitKind::Shutdown && self.failed.is_none()
    }

    fn fail(&mut self, why: &str) -> Option<Waker> {
        self.failed = Some(why.to_owned());
        self.waker.take()
    }
}

impl State {
    /// How long the clock's thread may sleep before it must end a wait; `None` for as long as it
    /// likes.
    pub(super) fn bound(
        &self,
        now: BootTime,
        patience: Duration,
        stalls: bool,
    ) -> Option<Duration> {
        let bounded = self.waits.values().filter(|wait| wait.is_bounded());
        let left = bounded.map(|wait| patience.saturating_sub(now.since(wait.since))).min()?;
        Some(if stalls { left.min(STALL) } else { left })
    }

    /// The clock has come to its target.
    pub(super) fn reached(&mut self) -> Vec<Waker> {
        self.target = None;
        let moments = self.waits.values_mut().filter(|wait| wait.kind == WaitKind::Moment);
        moments.filter_map(|wait| wait.waker.take()).collect()
    }

    /// Ends the waits of an app that cannot go on.
    pub(super) fn fail_stalled(&mut self) -> Vec<Waker> {
        self.fail(
            |_| true,
            "nothing in the app can make progress: no body runs and no timer is set; the run waits \
             for a blocked or paused run, or for something that the test has yet to do",
        )
    }

    /// Ends the waits that have taken too long.
    pub(super) fn fail_late(&mut self, now: BootTime, patience: Duration) -> Vec<Waker> {
        let held = match self.holders.values().cloned().collect::<Vec<_>>().join(", ") {
            held if held.is_empty() && self.moves == Moves::ByHand => {
                ": the clock is moved by hand, and nobody has moved it far enough".to_owned()
            }
            held if held.is_empty() => String::new(),
            held => format!(
                ", while the clock was held by {held}: a body holds it until it returns; a script \
                 that hangs does not"
            ),
        };
        let why = format!("the wait took longer than {patience:?} of real time{held}");
        self.fail(|wait| now.since(wait.since) >= patience, &why)
    }

    fn wait_for(&mut self, kind: WaitKind) -> u64 {
        let id = self.take_id();
        let since = tidemill_eventlog::host::boot_now();
        self.waits.insert(id, Wait { kind, since, waker: None, failed: None });
        id
    }

    /// Why the wait ends without what it waits for.
    fn poll_failed(&mut self, id: u64, cx: &Context<'_>) -> Poll<Error> {
        let Some(wait) = self.waits.get_mut(&id) else { return Poll::Pending };
        if let Some(why) = wait.failed.clone() {
            self.waits.remove(&id);
            return Poll::Ready(Error::new(ErrorKind::Unavailable, why));
        }
        wait.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn fail(&mut self, which: impl Fn(&Wait) -> bool, why: &str) -> Vec<Waker> {
        let waits = self.waits.values_mut().filter(|wait| wait.is_bounded() && which(wait));
        waits.filter_map(|wait| wait.fail(why)).collect()
    }
}

/// A wait for the app, until it is dropped.
pub(crate) struct Waiting<'a, T> {
    time: Arc<VirtualTime>,
    id: u64,
    inner: Counted<'a, T>,
}

impl<'a, T> Waiting<'a, T> {
    pub(crate) fn new(
        time: &Arc<VirtualTime>,
        kind: WaitKind,
        inner: impl Future<Output = T> + Send + 'a,
    ) -> Waiting<'a, T> {
        let inner = Counted::new(time, inner);
        let id = time.lock().wait_for(kind);
        // The clock's thread learns until when it may sleep.
        time.changed.notify_all();
        Waiting { time: Arc::clone(time), id, inner }
    }
}

impl<T> Future for Waiting<'_, T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The clock stands still from here until the wait is over for the clock, too.
        let time = Arc::clone(&self.time);
        let _work = time.work();
        if let Poll::Ready(output) = Pin::new(&mut self.inner).poll(cx) {
            time.lock().waits.remove(&self.id);
            return Poll::Ready(Ok(output));
        }
        match time.lock().poll_failed(self.id, cx) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.time.lock().waits.remove(&self.id);
    }
}

/// Moves the clock to a moment, through every timer on the way, and waits until all that follows
/// from them has happened.
pub(crate) struct Advance {
    time: Arc<VirtualTime>,
    id: u64,
    to: u64,
}

impl VirtualTime {
    /// Cancel safety: a dropped wait leaves the clock where it is.
    pub(crate) fn advance(self: &Arc<Self>, by: Duration) -> Advance {
        let to = self.boot().saturating_add(by).as_nanos();
        let mut state = self.lock();
        state.target = Some(state.target.map_or(to, |other| other.max(to)));
        let id = state.wait_for(WaitKind::Moment);
        drop(state);
        self.changed.notify_all();
        Advance { time: Arc::clone(self), id, to }
    }
}

impl Future for Advance {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.time.lock();
        // With a later target of somebody else, everything up to this one has happened once the
        // clock is past it.
        if state.target.is_none() || self.time.boot().as_nanos() > self.to {
            return Poll::Ready(Ok(()));
        }
        state.poll_failed(self.id, cx).map(Err)
    }
}

impl Drop for Advance {
    fn drop(&mut self) {
        let mut state = self.time.lock();
        state.waits.remove(&self.id);
        if state.target == Some(self.to) {
            state.target = None;
        }
    }
}
