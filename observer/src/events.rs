//! The events of a file as a reader sees them, one after another.

use rusqlite::Connection;
use tidemill_eventlog::query;
use tidemill_model::{EventView, RunId, Seq};

use crate::error::{Error, ErrorKind, Result};

/// Calls `each` for the events after a position, in order, at most `limit`: those of one run, or
/// all.
///
/// # Errors
/// `NotFound` if there is no such run, `Corrupt` if a row is unreadable, and what `each` returns.
pub fn for_each_event<E: From<Error>>(
    connection: &Connection,
    run: Option<&RunId>,
    after: Seq,
    limit: u32,
    mut each: impl FnMut(EventView) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    if let Some(run) = run {
        require_run(connection, run)?;
    }
    // An error of `each` ends the walk; it is carried around the walk's own error type.
    let mut stopped = None;
    let walked = query::for_each_event(connection, run, after, limit, |row| {
        each(row.into_view()).map_err(|error| {
            stopped = Some(error);
            Error::new(ErrorKind::Internal, "stopped")
        })
    });
    match stopped {
        Some(error) => Err(error),
        None => walked.map_err(E::from),
    }
}

/// Refuses a run that does not exist.
pub(crate) fn require_run(connection: &Connection, run: &RunId) -> Result<()> {
    if query::run(connection, run)?.is_some() {
        return Ok(());
    }
    Err(no_such_run(run))
}

/// The error for a run that is not there.
pub(crate) fn no_such_run(run: &RunId) -> Error {
    let message = format!("there is no run `{run}` in this source: `tidemill runs` lists them");
    Error::new(ErrorKind::NotFound, message)
}
