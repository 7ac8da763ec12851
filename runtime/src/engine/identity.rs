//! Who the code is while it runs: its run, or, in the history that a fork has of another run, that run.
//!
//! What the code calls may be made of its run's id and of random numbers, so a replay of copied history
//! tells it those of the run that it was then (`docs/design/fork.md`).

use std::sync::atomic::{AtomicUsize, Ordering};

use tidemill_model::{Event, RunCreated, RunId, Seed};

use crate::store::Record;

/// The identity of a run's code, which changes where copied history ends.
pub(crate) struct Identity {
    run: RunId,
    seed: Seed,
    started_by: Option<String>,
    /// The runs that the code was before it was this one, each with the seed after it.
    histories: Vec<(RunId, Seed)>,
    /// How many of them lie behind it.
    passed: AtomicUsize,
}

impl Identity {
    pub(crate) fn of(run: RunId, created: &RunCreated, log: &[Record]) -> Identity {
        let histories = log.iter().filter_map(|record| match &record.event {
            Event::RunForked { from, seed } => Some((from.clone(), *seed)),
            _ => None,
        });
        Identity {
            run,
            seed: created.seed,
            started_by: created.by.clone(),
            histories: histories.collect(),
            passed: AtomicUsize::new(0),
        }
    }

    /// The run, whoever the code is now.
    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Who started the run, as they said.
    pub(crate) fn started_by(&self) -> Option<&str> {
        self.started_by.as_deref()
    }

    /// The run that the code is now.
    pub(crate) fn run_now(&self) -> &RunId {
        self.histories.get(self.passed()).map_or(&self.run, |(was, _)| was)
    }

    /// What random numbers come from now.
    pub(crate) fn seed_now(&self) -> Seed {
        let newest = self.passed().checked_sub(1).and_then(|newest| self.histories.get(newest));
        newest.map_or(self.seed, |(_, seed)| *seed)
    }

    /// The code leaves the history of a run that it was.
    pub(crate) fn pass_history(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the code is in the history of another run.
    pub(crate) fn is_in_history(&self) -> bool {
        self.passed() < self.histories.len()
    }

    fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }
}
