//! The state of a run, folded from its events.

use std::ops::ControlFlow;

use rusqlite::Connection;
use tidemill_model::{RunId, RunState, Seq};

use crate::codec::StoredEvent;
use crate::error::{Error, Result};
use crate::process::Process;
use crate::query::walk_rows;

/// The state of a run, folded from its events up to a position (or all of them); `None` if there is
/// no such run, or none yet at that position. Attempts whose process is known to have ended by
/// then are cut off. An event that cannot be read or does not fit those before it is passed over,
/// and the state says so: such a run is blocked, not an error.
///
/// # Errors
/// `Corrupt` if its first event cannot be read, or a row is not what its columns say.
pub fn run_state(
    connection: &Connection,
    run: &RunId,
    until: Option<Seq>,
) -> Result<Option<RunState>> {
    run_state_with(connection, run, until, |_| {})
}

/// As [`run_state`]; calls `each` for every event up to there, too.
///
/// # Errors
/// As there.
pub fn run_state_with(
    connection: &Connection,
    run: &RunId,
    until: Option<Seq>,
    each: impl FnMut(&StoredEvent<'_>),
) -> Result<Option<RunState>> {
    let mut state = folded(connection, run, until, each)?;
    if let Some(state) = &mut state
        && let Some(process) = Process::read(connection)?
    {
        state.cut_off(|seq| process.end_of(seq, until));
    }
    Ok(state)
}

/// The state by the events alone: no attempt is cut off.
pub(crate) fn folded(
    connection: &Connection,
    run: &RunId,
    until: Option<Seq>,
    mut each: impl FnMut(&StoredEvent<'_>),
) -> Result<Option<RunState>> {
    let mut state: Option<RunState> = None;
    walk_rows(connection, Some(run), (Seq::ZERO, u32::MAX), |row| {
        let stored = StoredEvent::read(row)?;
        let StoredEvent { seq, ts, .. } = stored;
        if until.is_some_and(|until| seq > until) {
            return Ok(ControlFlow::Break(()));
        }
        each(&stored);
        let event = stored.event().map_err(|e| e.to_string());
        let Some(state) = &mut state else {
            let unreadable = |e| Error::corrupt(format!("event {seq} of {run}: {e}"));
            let event = event.map_err(unreadable)?;
            let created = RunState::create(run, seq, ts, &event);
            state = Some(created.map_err(|e| Error::corrupt(e.to_string()))?);
            return Ok(ControlFlow::Continue(()));
        };
        let applied =
            event.and_then(|event| state.apply(seq, ts, &event).map_err(|misfit| misfit.what));
        if let Err(why) = applied {
            state.pass_over(seq, ts, &format!("event {seq}: {why}"));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(state)
}
