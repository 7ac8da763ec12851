//! The threads for `.blocking()` bodies, so that work that keeps a processor busy does not block
//! the runtime's workers.
//!
//! The pool has as many threads as there are cores; further jobs wait in the order of their starts.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::clock::Clock;
use super::virtual_time::WorkInFlight;
use crate::error::{Error, closed};

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct PoolState {
    jobs: VecDeque<(Job, WorkInFlight)>,
    closed: bool,
    /// Threads that have not ended.
    threads: usize,
}

#[derive(Default)]
struct PoolShared {
    state: Mutex<PoolState>,
    changed: Condvar,
}

/// The pool. Its threads start with the first job.
pub(crate) struct Pool {
    shared: Arc<PoolShared>,
    size: usize,
    clock: Clock,
}

impl Pool {
    pub(crate) fn new(size: usize, clock: &Clock) -> Pool {
        Pool { shared: Arc::default(), size: size.max(1), clock: clock.clone() }
    }

    /// Runs a job when a thread is free.
    pub(crate) fn run(&self, job: Job) -> Result<(), Error> {
        let start = {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err(closed());
            }
            state.jobs.push_back((job, self.clock.work_beside()));
            let start = state.threads < self.size;
            state.threads += usize::from(start);
            start
        };
        self.shared.changed.notify_one();
        if start {
            let shared = Arc::clone(&self.shared);
            let builder = std::thread::Builder::new().name("tidemill-blocking".to_owned());
            if let Err(error) = builder.spawn(move || shared.work()) {
                // The job stays queued, for a running thread or for one that a later job starts.
                tracing::error!(%error, "a thread for blocking steps did not start");
                let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.threads -= 1;
            }
        }
        Ok(())
    }

    /// Refuses further jobs and drops the waiting ones; running jobs continue.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(dropped);
        self.shared.changed.notify_all();
    }
}

impl PoolShared {
    fn work(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((job, work)) = state.jobs.pop_front() {
                drop(state);
                // A job catches the panics of its body.
                job();
                drop(work);
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            } else if state.closed {
                state.threads -= 1;
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
