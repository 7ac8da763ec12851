//! Replays a run from its log without executing anything.

use std::path::Path;
use std::sync::Arc;

use tidemill_model::{RunId, Seq};

use super::clock::Clock;
use super::handle::CheckReport;
use super::inbox::Inbox;
use super::journal::Journal;
use super::replay::{Divergence, PartedAt, ReplayContext};
use crate::author::App;
use crate::error::{Error, ErrorKind};
use crate::store::{self, Log, Logs};

impl App {
    /// Replays a run of a file: answers every operation from the log, and checks that this program
    /// does what the log records. It executes nothing and writes nothing.
    ///
    /// A run that has ended must reach the same end: the same output, or the same error.
    ///
    /// # Errors
    /// `NotFound` if there is no such file or run; otherwise what reading the file says.
    pub fn check_run(&self, path: &Path, run: &RunId) -> Result<CheckReport, Error> {
        Checker::open(self, path)?.report(run)
    }

    /// [`App::check_run`] of each run of a file that has not ended, the oldest first.
    ///
    /// # Errors
    /// `NotFound` if there is no such file; otherwise what reading the file says.
    pub fn check_unfinished(&self, path: &Path) -> Result<Vec<CheckReport>, Error> {
        let checker = Checker::open(self, path)?;
        checker.unfinished()?.iter().map(|run| checker.report(run)).collect()
    }
}

/// A program and an open file, whose runs it replays one by one.
pub(crate) struct Checker<'a> {
    app: &'a App,
    logs: Logs,
    clock: Clock,
}

impl Checker<'_> {
    pub(crate) fn open<'a>(app: &'a App, path: &Path) -> Result<Checker<'a>, Error> {
        app.check()?;
        Ok(Checker { app, logs: Logs::open(path)?, clock: Clock::default() })
    }

    /// The runs that have not ended, the oldest first.
    pub(crate) fn unfinished(&self) -> Result<Vec<RunId>, Error> {
        self.logs.unfinished()
    }

    /// All runs, the oldest first.
    pub(crate) fn all(&self) -> Result<Vec<RunId>, Error> {
        self.logs.all()
    }

    pub(crate) fn report(&self, run: &RunId) -> Result<CheckReport, Error> {
        let log = self.logs.log(run)?;
        report(self.app, &self.clock, run, log, self.logs.floats_exact_from())
    }
}

pub(super) fn report(
    app: &App,
    clock: &Clock,
    run: &RunId,
    log: Log,
    floats_exact_from: Option<Seq>,
) -> Result<CheckReport, Error> {
    let agrees = CheckReport {
        run: run.clone(),
        workflow: "?".to_owned(),
        events: 0,
        divergence: None,
        seq: None,
        at: None,
        waits_at: None,
    };
    let log = match log {
        Ok(log) if log.is_empty() => {
            let message = format!("there is no run `{run}` in this file");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(log) => log,
        Err(unreadable) => return Ok(agrees.parted(unreadable.reason.into())),
    };
    let created = match store::created(&log) {
        Ok(created) => created,
        Err(reason) => return Ok(agrees.parted(reason.into())),
    };
    let agrees =
        CheckReport { workflow: created.workflow.to_string(), events: log.len(), ..agrees };
    let inbox = Arc::new(Inbox::default());
    let stage = ReplayContext { app, run, clock, inbox: &inbox, floats_exact_from, polls: None };
    let fits = Journal::of(&log).map(drop).map_err(Divergence::from);
    Ok(match fits.and_then(|()| stage.replay(&log)) {
        Ok(_) => agrees,
        Err(divergence) => agrees.parted(divergence),
    })
}

impl CheckReport {
    fn parted(self, Divergence { reason, seq, call }: Divergence) -> CheckReport {
        let (at, waits_at) = match call {
            Some(PartedAt::Asks(call)) => (Some(call.exact()), None),
            Some(PartedAt::Waits(call)) => (None, Some(call.exact())),
            None => (None, None),
        };
        CheckReport { divergence: Some(reason), seq, at, waits_at, ..self }
    }
}
