//! The events of a file as a reader sees them, one after another.

use std::ops::ControlFlow;

use rusqlite::Connection;
use tidemill_eventlog::query;
use tidemill_model::{EventView, RunId, Seq};

use crate::error::{Error, ErrorKind, Result};

/// Which events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRange {
    /// Those after this one.
    pub after: Seq,
    /// Up to this one; `None` for all.
    pub until: Option<Seq>,
    /// How many at most.
    pub limit: u32,
}

/// Calls `each` for the events of a range, in order: those of one run, or all.
///
/// # Errors
/// `NotFound` if there is no such run, `Corrupt` if a row is unreadable, and what `each` returns.
pub fn for_each_event<E: From<Error>>(
    connection: &Connection,
    run: Option<&RunId>,
    range: EventRange,
    mut each: impl FnMut(EventView) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    if let Some(run) = run {
        require_run(connection, run)?;
    }
    let mut result = Ok(());
    query::walk_events(connection, run, range.after, range.limit, |row| {
        if range.until.is_some_and(|until| row.seq > until) {
            return Ok(ControlFlow::Break(()));
        }
        result = each(row.into_view());
        Ok(if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    result
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
