//! One run with all of its operations and, below them, its children.
//!
//! All of it is the fold of the run's events, so the run can be shown at any event of its past. A
//! live node folds them itself.

use rusqlite::Connection;
use tidemill_eventlog::query;
use tidemill_model::{OperationView, PageRequest, RunId, RunView, Seq, WaitsFor};

use crate::error::{Error, ErrorKind, Result};
use crate::events::require_run;

/// Children of children are followed this deep; a tree that is deeper is shown run by run.
pub(crate) const DEPTH_MAX: u32 = 20;

/// A run, now or as of an event.
///
/// # Errors
/// `NotFound` if there is no such run (or none yet at that event), `Corrupt` if its first event
/// cannot be read. A run whose later events cannot be read, or do not fit together, is blocked.
pub fn show(connection: &Connection, run: &RunId, until: Option<Seq>) -> Result<RunView> {
    require_run(connection, run)?;
    view(connection, run, until, 0)?.ok_or_else(|| {
        let at = until.map_or_else(String::new, |seq| format!(" at event {seq}"));
        let message = format!("run `{run}` was not yet started{at}");
        Error::new(ErrorKind::NotFound, message)
    })
}

fn view(
    connection: &Connection,
    run: &RunId,
    until: Option<Seq>,
    depth: u32,
) -> Result<Option<RunView>> {
    let Some(state) = query::run_state(connection, run, until)? else { return Ok(None) };
    let mut shown = RunView::of(state, None, PageRequest::WHOLE);
    for op in &mut shown.operations {
        if let (Some(child), true) = (&op.child, depth < DEPTH_MAX) {
            op.child_run = view(connection, child, until, depth + 1)?.map(Box::new);
        }
    }
    shown.waits_for = waits_for(&shown.operations);
    Ok(Some(shown))
}

/// The first blocked run that keeps an open child from ending.
pub(crate) fn waits_for(operations: &[OperationView]) -> Option<WaitsFor> {
    let open = operations.iter().filter(|op| op.status == "open");
    let mut children = open.filter_map(|op| op.child_run.as_ref());
    children.find_map(|child| match &child.blocked {
        Some(reason) => Some(WaitsFor { run: child.id.clone(), reason: reason.clone() }),
        None => child.waits_for.clone(),
    })
}
