//! Counts a task as work in flight from the moment it is woken until it waits again.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::{AbortHandle, JoinHandle};

use super::VirtualTime;

/// Whether a task counts now, shared by the task and its wakers.
struct TaskCount {
    time: Arc<VirtualTime>,
    state: Mutex<TaskState>,
}

struct TaskState {
    /// Whether it is one of the work in flight.
    counts: bool,
    /// Whether it was woken since its poll began.
    woken: bool,
    /// Whether it was aborted: it counts until it is dropped.
    aborted: bool,
    /// Whether its future is gone.
    done: bool,
    /// The waker of the poll before.
    outer: Option<Waker>,
    /// Who waits for its end.
    joiners: Vec<Waker>,
}

impl TaskCount {
    /// The count of a task that is about to be polled.
    fn begin(time: &Arc<VirtualTime>) -> Arc<TaskCount> {
        time.begin_work();
        let state = TaskState {
            counts: true,
            woken: true,
            aborted: false,
            done: false,
            outer: None,
            joiners: Vec::new(),
        };
        Arc::new(TaskCount { time: Arc::clone(time), state: Mutex::new(state) })
    }

    fn count(&self, state: &mut TaskState) {
        if !state.counts && !state.done {
            state.counts = true;
            self.time.begin_work();
        }
    }

    fn poll_begins(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        state.woken = false;
        state.outer = Some(cx.waker().clone());
        self.count(&mut state);
    }

    /// Its poll ended, and it waits.
    fn waits(&self) {
        let mut state = self.lock();
        if !state.woken && !state.aborted && std::mem::take(&mut state.counts) {
            drop(state);
            self.time.end_work(1);
        }
    }

    /// Its future is gone: who waits for that is woken before the count ends.
    fn ends(&self) {
        let mut state = self.lock();
        state.done = true;
        let counted = std::mem::take(&mut state.counts);
        let joiners = std::mem::take(&mut state.joiners);
        state.outer = None;
        drop(state);
        joiners.into_iter().for_each(Waker::wake);
        if counted {
            self.time.end_work(1);
        }
    }

    fn aborts(&self) {
        let mut state = self.lock();
        state.aborted = true;
        self.count(&mut state);
    }

    fn is_done(&self) -> bool {
        self.lock().done
    }

    fn poll_done(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.done {
            return Poll::Ready(());
        }
        state.joiners.push(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, TaskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for TaskCount {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let outer = {
            let mut state = self.lock();
            if state.done {
                return;
            }
            state.woken = true;
            self.count(&mut state);
            state.outer.clone()
        };
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

/// A future that counts while it runs or is about to.
pub(crate) struct Counted<'a, T> {
    /// `None` once it has returned.
    future: Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
    count: Arc<TaskCount>,
}

impl<'a, T> Counted<'a, T> {
    pub(crate) fn new(
        time: &Arc<VirtualTime>,
        future: impl Future<Output = T> + Send + 'a,
    ) -> Counted<'a, T> {
        // Tokio's budget would make it wait without anything that has to wake it.
        let future = Box::pin(tokio::task::unconstrained(future));
        Counted { future: Some(future), count: TaskCount::begin(time) }
    }
}

impl<T> Future for Counted<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let count = Arc::clone(&self.count);
        let Some(future) = self.future.as_mut() else { return Poll::Pending };
        count.poll_begins(cx);
        let waker = Waker::from(Arc::clone(&count));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        match polled {
            Poll::Ready(output) => {
                self.future = None;
                count.ends();
                Poll::Ready(output)
            }
            Poll::Pending => {
                count.waits();
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Counted<'_, T> {
    fn drop(&mut self) {
        if self.future.take().is_some() {
            self.count.ends();
        }
    }
}

/// A task that was spawned, in real time or in virtual time.
pub(crate) struct Task {
    join: JoinHandle<()>,
    count: Option<Arc<TaskCount>>,
}

impl Task {
    /// A task in real time.
    pub(crate) fn real(join: JoinHandle<()>) -> Task {
        Task { join, count: None }
    }

    pub(crate) fn counted(
        time: &Arc<VirtualTime>,
        runtime: &tokio::runtime::Handle,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        let counted = Counted::new(time, future);
        let count = Some(Arc::clone(&counted.count));
        Task { join: runtime.spawn(counted), count }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.count.as_ref().map_or_else(|| self.join.is_finished(), |count| count.is_done())
    }

    /// Drops the task at its next await.
    pub(crate) fn abort(&self) {
        self.abort_handle().abort();
    }

    pub(crate) fn abort_handle(&self) -> TaskAbort {
        TaskAbort { task: self.join.abort_handle(), count: self.count.clone() }
    }

    /// Waits until the task has ended, in any way. Cancel safety: it can be called again, until it
    /// has returned.
    pub(crate) async fn ended(&mut self) {
        match &self.count {
            Some(count) => poll_fn(|cx| count.poll_done(cx)).await,
            // A panic is caught in the task, and an abort is the end that was asked for.
            None => drop((&mut self.join).await),
        }
    }
}

/// Aborts a task.
pub(crate) struct TaskAbort {
    task: AbortHandle,
    count: Option<Arc<TaskCount>>,
}

impl TaskAbort {
    pub(crate) fn abort(&self) {
        if let Some(count) = &self.count {
            count.aborts();
        }
        self.task.abort();
    }
}
