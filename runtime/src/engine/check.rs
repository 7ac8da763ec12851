//! Replays a run from its log without executing anything.

use std::path::Path;
use std::sync::Arc;

use tidemill_model::{RunId, Seq};

use super::clock::Clock;
use super::handle::CheckReport;
use super::inbox::Inbox;
use super::journal;
use super::replay::ReplayContext;
use crate::author::App;
use crate::error::{Error, ErrorKind};
use crate::store::{self, Record, Unreadable};

impl App {
    /// Replays a run of a file: answers every operation from the log, and checks that this program
    /// does what the log records. It executes nothing and writes nothing.
    ///
    /// # Errors
    /// `NotFound` if there is no such file or run; otherwise what reading the file says.
    pub fn check_run(&self, path: &Path, run: &RunId) -> Result<CheckReport, Error> {
        self.check()?;
        let (log, floats_exact_from) = store::log_of(path, run)?;
        report(self, &Clock::default(), run, log, floats_exact_from)
    }

    /// [`App::check_run`] of each run of a file that has not ended, the oldest first.
    ///
    /// # Errors
    /// `NotFound` if there is no such file; otherwise what reading the file says.
    pub fn check_unfinished(&self, path: &Path) -> Result<Vec<CheckReport>, Error> {
        let runs = store::unfinished_of(path)?;
        runs.iter().map(|run| self.check_run(path, run)).collect()
    }
}

pub(super) fn report(
    app: &App,
    clock: &Clock,
    run: &RunId,
    log: Result<Vec<Record>, Unreadable>,
    floats_exact_from: Option<Seq>,
) -> Result<CheckReport, Error> {
    let unknown = |divergence| CheckReport {
        run: run.clone(),
        workflow: "?".to_owned(),
        events: 0,
        divergence: Some(divergence),
    };
    let log = match log {
        Ok(log) if log.is_empty() => {
            let message = format!("there is no run `{run}` in this file");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(log) => log,
        Err(unreadable) => return Ok(unknown(unreadable.reason)),
    };
    let created = match store::created(&log) {
        Ok(created) => created,
        Err(reason) => return Ok(unknown(reason)),
    };
    let inbox = Arc::new(Inbox::default());
    let stage = ReplayContext { app, run, clock, inbox: &inbox, floats_exact_from, polls: None };
    let divergence = journal::Journal::of(&log).and_then(|_| stage.replay(&log)).err();
    Ok(CheckReport {
        run: run.clone(),
        workflow: created.workflow.to_string(),
        events: log.len(),
        divergence,
    })
}
