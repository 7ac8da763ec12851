//! The logs of a file that this process only reads: another may be writing it, or it is a copy.

use std::path::Path;

use rusqlite::Connection;
use tidemill_eventlog::open_any;
use tidemill_eventlog::query::{self, RunFilter};
use tidemill_model::{RunId, RunStatus, Seq};

use super::log::{self, Log};
use super::process;
use crate::error::Error;

/// An open file. Its methods block.
pub(crate) struct Logs {
    file: Connection,
    floats_exact_from: Option<Seq>,
}

impl Logs {
    /// # Errors
    /// `NotFound`; `Invalid` for a file that is not Tidemill's or of a newer schema; what SQLite
    /// says.
    pub(crate) fn open(path: &Path) -> Result<Logs, Error> {
        let file = open_any(path)?;
        let floats_exact_from = process::floats_exact_from(&file)?;
        Ok(Logs { file, floats_exact_from })
    }

    /// The log of a run, empty if there is no such run.
    pub(crate) fn log(&self, run: &RunId) -> Result<Log, Error> {
        log::log(&self.file, run)
    }

    /// The position from which the floats of the file are exact; `None` if none is recorded.
    pub(crate) fn floats_exact_from(&self) -> Option<Seq> {
        self.floats_exact_from
    }

    /// The runs that have not ended, the oldest first.
    pub(crate) fn unfinished(&self) -> Result<Vec<RunId>, Error> {
        self.runs(RunStatus::ALL.into_iter().filter(|status| !status.is_final()))
    }

    /// All runs, the oldest first.
    pub(crate) fn all(&self) -> Result<Vec<RunId>, Error> {
        self.runs(RunStatus::ALL.into_iter())
    }

    fn runs(&self, of: impl Iterator<Item = RunStatus>) -> Result<Vec<RunId>, Error> {
        let mut found = Vec::new();
        for status in of {
            let filter =
                RunFilter { status: Some(status), limit: u32::MAX, ..RunFilter::default() };
            found
                .extend(query::runs(&self.file, &filter)?.into_iter().map(|run| (run.seq, run.id)));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, run)| run).collect())
    }
}
