//! Whether the body of an attempt still gives signs of life: its heartbeats, which only memory has.
//!
//! A checkpoint is a sign of life, too, and while one is being recorded the body cannot give any: on a
//! full disk that takes as long as the disk is full.
//!
//! Crash: nothing here outlives the process, and the next attempt begins with a pulse of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tidemill_model::BootTime;
use tokio_util::sync::CancellationToken;

use crate::engine::clock::Clock;
use crate::engine::timers::Timers;
use crate::engine::virtual_time::{Task, TaskAbort};

/// The signs of life of one attempt.
#[derive(Debug)]
pub(crate) struct Pulse {
    clock: Clock,
    /// The last one, in nanoseconds of the boot clock.
    last: AtomicU64,
    /// How many checkpoints are being recorded.
    recording: AtomicU32,
    is_silent: AtomicBool,
}

impl Pulse {
    /// The pulse of an attempt that begins now.
    pub(super) fn begin(clock: &Clock) -> Arc<Pulse> {
        Arc::new(Pulse {
            clock: clock.clone(),
            last: AtomicU64::new(clock.boot().as_nanos()),
            recording: AtomicU32::new(0),
            is_silent: AtomicBool::new(false),
        })
    }

    /// The body is alive.
    pub(crate) fn beat(&self) {
        self.last.fetch_max(self.clock.boot().as_nanos(), Ordering::Relaxed);
    }

    /// The body waits for us; it is alive until the guard is dropped, and then.
    pub(crate) fn recording(&self) -> Recording<'_> {
        self.recording.fetch_add(1, Ordering::AcqRel);
        Recording(self)
    }

    /// Whether the attempt was asked to end because it had given no sign of life for too long.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Acquire)
    }

    /// How long the body may stay silent from now on; `None` if it has been so for the whole time.
    fn left(&self, limit: Duration) -> Option<Duration> {
        if self.recording.load(Ordering::Acquire) > 0 {
            return Some(limit);
        }
        let last = BootTime::from_nanos(self.last.load(Ordering::Relaxed));
        let silent = self.clock.boot().since(last);
        limit.checked_sub(silent).filter(|left| !left.is_zero())
    }

    /// Cancels the attempt's token once the body has been silent for this long. Not a part of the
    /// attempt's own task, which a blocking body keeps busy.
    pub(super) fn watch(
        self: &Arc<Self>,
        limit: Duration,
        (timers, runtime): (Timers, &tokio::runtime::Handle),
        attempt: CancellationToken,
    ) -> Watch {
        let pulse = Arc::clone(self);
        let watch = async move {
            while let Some(left) = pulse.left(limit) {
                timers.sleep(left).await;
            }
            pulse.is_silent.store(true, Ordering::Release);
            attempt.cancel();
        };
        let task: Task = self.clock.spawn(runtime, watch);
        Watch(task.abort_handle())
    }
}

/// A checkpoint that is being recorded.
pub(crate) struct Recording<'a>(&'a Pulse);

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.beat();
        self.0.recording.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Watches a pulse until it is dropped.
pub(super) struct Watch(TaskAbort);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_silent_once_it_neither_beats_nor_records_for_the_whole_time() {
        let clock = Clock::default();
        let pulse = Pulse::begin(&clock);
        let day = Duration::from_secs(86_400);
        let left = pulse.left(day).expect("it has just begun");
        assert!(left <= day && left > day / 2);
        assert_eq!(pulse.left(Duration::ZERO), None);
        let recording = pulse.recording();
        assert_eq!(pulse.left(Duration::ZERO), Some(Duration::ZERO), "it waits for us");
        drop(recording);
        assert_eq!(pulse.left(Duration::ZERO), None);
    }
}
