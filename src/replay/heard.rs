//! What a replay has found so far, and the line on a terminal that tells how far it is.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use tidemill_eventlog::host::boot_now;
use tidemill_eventlog::selection::NamedRun;
use tidemill_model::{BootTime, terminal};

use super::program::Listener;
use super::words;
use crate::checked::Checked;
use crate::output;

/// How often the progress is drawn anew.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// What was heard so far, and the line on a terminal that tells how far it is.
pub(super) struct Heard {
    of: usize,
    runs: RefCell<Vec<Checked>>,
    part: Cell<usize>,
    draws: bool,
    drawn_at: Cell<Option<BootTime>>,
}

impl Heard {
    pub(super) fn new(of: usize) -> Heard {
        let draws = stderr().is_terminal();
        Heard { of, runs: RefCell::default(), part: Cell::new(0), draws, drawn_at: Cell::new(None) }
    }

    /// The runs that were replayed, in their order.
    pub(super) fn into_runs(self) -> Vec<Checked> {
        self.runs.into_inner()
    }

    fn draw(&self) {
        let now = boot_now();
        let is_fresh = self.drawn_at.get().is_some_and(|at| now.since(at) < DRAWN_EVERY);
        if !self.draws || is_fresh {
            return;
        }
        self.drawn_at.set(Some(now));
        let line = words::progress(self.runs.borrow().len(), self.of, self.part.get());
        // Nothing is left to do if stderr is closed.
        let _ = write!(stderr(), "\r\u{1b}[K{}", terminal::line(&line));
    }

    /// Removes the line.
    pub(super) fn clear(&self) {
        if self.drawn_at.take().is_some() {
            let _ = write!(stderr(), "\r\u{1b}[K");
        }
    }

    /// The error of a replay that was given up.
    pub(super) fn too_long(&self, runs: &[NamedRun], timeout: Duration) -> anyhow::Error {
        let done = self.runs.borrow().len();
        let at = runs.get(done).map(|run| format!(", at run {}", run.id)).unwrap_or_default();
        let of = self.of;
        anyhow::anyhow!(
            "the replay took longer than --timeout {timeout:?}: {done} of {of} runs were replayed{at}"
        )
    }
}

impl Listener for Heard {
    fn replayed(&self, run: Checked) {
        if !run.agrees {
            self.part.set(self.part.get().saturating_add(1));
        }
        self.runs.borrow_mut().push(run);
        self.draw();
    }

    fn printed(&self, line: &str) {
        self.clear();
        output::say(line);
    }
}
