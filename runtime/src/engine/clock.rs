//! The clocks, passed to every component that reads one or waits by one, so that a test can set the
//! wall clock, or give the node a clock of its own ([`VirtualTime`]).
//!
//! What the engine spawns, queues or reads goes through the functions here, by which virtual time
//! knows what is in flight. In real time each of them is a look at a field that is `None`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{BootTime, Timestamp};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::virtual_time::{self, Counted, Task, VirtualTime, WaitKind, Waiting, WorkInFlight};
use crate::error::Error;

/// The host's clocks, or virtual time; the wall clock may be moved by a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    wall_step_micros: Arc<AtomicI64>,
    virtual_time: Option<Arc<VirtualTime>>,
}

impl Clock {
    /// A clock that moves when the app is idle.
    pub(crate) fn virtual_time(time: &Arc<VirtualTime>) -> Clock {
        Clock { virtual_time: Some(Arc::clone(time)), ..Clock::default() }
    }

    /// The virtual time; `None` in real time.
    pub(super) fn as_virtual(&self) -> Option<&Arc<VirtualTime>> {
        self.virtual_time.as_ref()
    }

    /// Whether this is virtual time.
    pub(crate) fn is_virtual(&self) -> bool {
        self.virtual_time.is_some()
    }

    /// The wall clock, for people and for what must survive a reboot.
    pub(crate) fn wall(&self) -> Timestamp {
        let now = match &self.virtual_time {
            Some(time) => time.wall(),
            None => host::wall_now(),
        };
        let step = self.wall_step_micros.load(Ordering::Relaxed);
        let by = Duration::from_micros(step.unsigned_abs());
        if step < 0 { now.saturating_sub(by) } else { now.saturating_add(by) }
    }

    /// The boot clock, for waiting.
    pub(crate) fn boot(&self) -> BootTime {
        match &self.virtual_time {
            Some(time) => time.boot(),
            None => host::boot_now(),
        }
    }

    /// Random bits from the kernel; in virtual time the same ones in every test.
    pub(crate) fn random(&self) -> Result<[u8; 16], Error> {
        match &self.virtual_time {
            Some(time) => Ok(time.draw()),
            None => Ok(host::random()?),
        }
    }

    /// A random number from 0 to 1, for jitter; 1 in virtual time, where every back-off has its
    /// full length.
    pub(crate) fn random_unit(&self) -> f64 {
        if self.virtual_time.is_some() {
            return 1.0;
        }
        let random = getrandom::u32().unwrap_or(u32::MAX / 2);
        f64::from(random) / f64::from(u32::MAX)
    }

    /// Holds virtual time while the guard lives.
    pub(crate) fn work(&self) -> WorkInFlight {
        self.virtual_time.as_ref().map_or(WorkInFlight::NONE, VirtualTime::work)
    }

    /// The same for what the writer does not wait for: its own messages, jobs of the pool, and waits
    /// in real time.
    pub(crate) fn work_beside(&self) -> WorkInFlight {
        self.virtual_time.as_ref().map_or(WorkInFlight::NONE, VirtualTime::work_beside)
    }

    /// Ends messages that were handed over to the writer.
    pub(crate) fn end_messages(&self, messages: usize) {
        if let Some(time) = &self.virtual_time {
            virtual_time::end_work_beside(time, messages);
        }
    }

    /// Waits, in virtual time, until every task has done what it can.
    pub(crate) fn rest(&self) {
        if let Some(time) = &self.virtual_time {
            time.rest();
        }
    }

    /// How many runs are loaded at a time: one in virtual time, so that their order is known.
    pub(super) fn loads_max(&self, real: usize) -> usize {
        if self.virtual_time.is_some() { 1 } else { real }
    }

    /// Spawns a task of the engine.
    pub(crate) fn spawn(
        &self,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        match &self.virtual_time {
            None => Task::real(runtime.spawn(task)),
            Some(time) => Task::counted(time, runtime, task),
        }
    }

    /// Spawns a task that the tracker waits for.
    pub(crate) fn spawn_tracked(
        &self,
        tracker: &TaskTracker,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        match &self.virtual_time {
            None => drop(tracker.spawn_on(task, runtime)),
            // The tracker hears of the end before the count ends.
            Some(time) => {
                drop(runtime.spawn(Counted::new(time, tracker.track_future(task))));
            }
        }
    }

    /// Does what was asked for from outside in a task of its own, which goes on if the caller
    /// drops this future.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        runtime: &Handle,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        match &self.virtual_time {
            None => runtime.spawn(work).await,
            Some(time) => runtime.spawn(Counted::new(time, work)).await,
        }
    }

    /// Waits for the app from outside: virtual time moves meanwhile.
    ///
    /// # Errors
    /// `Unavailable` in virtual time, if the app cannot go on or the wait takes too long.
    pub(crate) async fn wait<T>(
        &self,
        kind: WaitKind,
        wait: impl Future<Output = T> + Send,
    ) -> Result<T, Error> {
        match &self.virtual_time {
            None => Ok(wait.await),
            Some(time) => Waiting::new(time, kind, wait).await,
        }
    }

    /// Moves the wall clock, as an operator or NTP would.
    #[cfg(test)]
    pub(crate) fn step_wall(&self, micros: i64) {
        self.wall_step_micros.fetch_add(micros, Ordering::Relaxed);
    }
}
