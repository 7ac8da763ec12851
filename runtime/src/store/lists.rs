//! Reads runs: lists and states for HTTP and the commands, and due runs for the engine.

use std::collections::BTreeMap;

use rusqlite::Connection;
use tidemill_eventlog::due::{self, DueRun, RunDeadline, WaitingTimer};
use tidemill_eventlog::query::{self, RunFilter};
use tidemill_eventlog::{Row, waits};
use tidemill_eventlog::{promises, run_list, signals};
use tidemill_model::{
    BlockReason, Event, OldestBlocked, OpId, RunCounts, RunId, RunState, RunStatus, RunSummary,
    Seq, Timestamp, WaitsFor,
};

use crate::engine::RunResult;
use crate::error::Error;

/// How many runs are listed at once: some hundred bytes each.
const PAGE: u32 = 1_000;

/// Blocked runs that only this process knows of, because their `run_blocked` could not be written.
pub(crate) struct HeldBlocks {
    pub(crate) runs: BTreeMap<RunId, BlockReason>,
}

impl HeldBlocks {
    /// The page that the file would give if it had those blocks, and where the next page begins.
    pub(super) fn page(
        &self,
        file: &Connection,
        filter: &RunFilter,
        asked: usize,
    ) -> tidemill_eventlog::Result<(Vec<RunSummary>, Option<Seq>)> {
        let mut page = query::runs(file, filter)?;
        if filter.status == Some(RunStatus::Blocked) {
            for run in self.runs.keys() {
                page.extend(query::run(file, run)?.filter(|run| {
                    filter.after.is_none_or(|after| run.seq < after)
                        && filter.workflow.as_ref().is_none_or(|of| run.workflow == *of)
                        && run.status != RunStatus::Blocked
                }));
            }
            page.sort_by_key(|run| std::cmp::Reverse(run.seq));
        }
        let fits = run_list::fitting(&page, asked, filter.bytes_max);
        let more = page.len() > fits;
        page.truncate(fits);
        query::add_activity(file, &mut page)?;
        waits::say(file, &mut page)?;
        let next = page.last().map(|run| run.seq).filter(|_| more);
        for run in &mut page {
            if let Some(reason) = self.runs.get(&run.id) {
                run.status = RunStatus::Blocked;
                run.blocked = Some(reason.clone().listed());
            }
        }
        if let Some(status) = filter.status {
            page.retain(|run| run.status == status);
        }
        Ok((page, next))
    }

    /// The run that has been blocked for the longest time: by the file, else one of those blocks.
    pub(super) fn oldest(
        &self,
        file: &Connection,
    ) -> tidemill_eventlog::Result<Option<OldestBlocked>> {
        if let Some((run, since, reason)) = query::oldest_blocked(file)? {
            return Ok(Some(OldestBlocked::new(run, Some(since), reason.as_ref())));
        }
        let held = self.runs.first_key_value();
        Ok(held.map(|(run, reason)| OldestBlocked::new(run.clone(), None, Some(reason))))
    }

    /// The counts that the file would give if it had those blocks.
    pub(super) fn counts(&self, file: &Connection) -> tidemill_eventlog::Result<RunCounts> {
        let mut counts = query::counts(file)?;
        for run in self.runs.keys() {
            let Some(run) = query::run(file, run)? else { continue };
            if let Some(others) = counts.get_mut(&run.status).filter(|count| **count > 0) {
                *others -= 1;
                *counts.entry(RunStatus::Blocked).or_default() += 1;
            }
        }
        Ok(counts)
    }
}

/// A run, and the blocked run that it waits for; `None` if no run has this id.
pub(super) fn state(
    file: &Connection,
    run: &RunId,
) -> Result<Option<(RunState, Option<WaitsFor>)>, Error> {
    let Some(state) = query::run_state(file, run, None)? else { return Ok(None) };
    let waits_for = match state.status.is_final() {
        true => None,
        false => waits::waits_for(file, run)?,
    };
    Ok(Some((state, waits_for)))
}

/// A page of the events of a run.
#[derive(Debug)]
pub(crate) struct EventRows {
    pub(crate) rows: Vec<Row>,
    /// Whether there are more after them.
    pub(crate) more: bool,
}

/// Events of a run after a position; `None` if there is no run of this id.
pub(super) fn events(
    file: &Connection,
    run: &RunId,
    after: Seq,
    limit: u32,
    bytes_max: usize,
) -> Result<Option<EventRows>, Error> {
    let (rows, more) = query::events_page(file, run, after, limit, bytes_max)?;
    let is_there = !rows.is_empty() || query::run(file, run)?.is_some();
    Ok(is_there.then_some(EventRows { rows, more }))
}

/// The state of a run as the engine needs it.
pub(crate) enum Stored {
    /// It is unfinished, and neither blocked nor paused.
    Going,
    /// It is blocked: its place in the order of starts, and the reason.
    Blocked(Seq, BlockReason),
    /// Nothing of it goes on until it is resumed.
    Paused,
    /// It has ended: its status, and its end; `None` if this version cannot read its last event.
    Ended(RunStatus, Option<RunResult>),
}

/// `None` if the file does not have the run.
pub(super) fn stored(file: &Connection, run: &RunId) -> Result<Option<Stored>, Error> {
    let Some(summary) = query::run(file, run)? else { return Ok(None) };
    Ok(Some(match summary.status {
        status if status.is_final() => Stored::Ended(status, last_result(file, run)?),
        RunStatus::Paused => Stored::Paused,
        RunStatus::Blocked => {
            let reason = query::block_reason(file, run)?;
            let unreadable = || BlockReason::unreadable("the reason is of a newer version");
            Stored::Blocked(summary.seq, reason.unwrap_or_else(unreadable))
        }
        _ => Stored::Going,
    }))
}

/// The end that the newest event of a run records.
fn last_result(file: &Connection, run: &RunId) -> Result<Option<RunResult>, Error> {
    let last = query::last_observed(file, run)?.unwrap_or(Seq::ZERO);
    let before = Seq::new(last.get().saturating_sub(1))?;
    let rows = query::events(file, Some(run), before, 1)?;
    let event = rows.first().map(Row::event);
    Ok(match event {
        Some(Ok(Event::RunCompleted { output })) => Some(RunResult::Completed(output)),
        Some(Ok(Event::RunFailed { error, .. })) => Some(RunResult::Failed(error)),
        Some(Ok(_) | Err(_)) | None => None,
    })
}

/// Why a run has something to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Due {
    /// It is a child, and its parent has dropped it or ended.
    Unwanted,
    /// It has this status.
    Status(RunStatus),
    /// One of its children has ended, and it has not observed that.
    UnobservedChild,
    /// It keeps signals that its code has not taken.
    Signals,
    /// One of its promises was answered, and it has not observed that.
    Answers,
}

/// The next runs that have something to do; empty if there are no more.
pub(super) fn due(file: &Connection, due: Due, after: Seq) -> Result<Vec<DueRun>, Error> {
    match due {
        Due::Unwanted => due::unwanted(file, after, PAGE),
        Due::Status(status) => due::in_status(file, status, after, PAGE),
        Due::UnobservedChild => due::with_unobserved_child(file, after, PAGE),
        Due::Signals => signals::runs_that_keep(file, after, PAGE),
        Due::Answers => promises::answered_runs(file, after, PAGE),
    }
}

/// The next timers of runs that are not blocked; empty if there are no more.
pub(super) fn timers(
    file: &Connection,
    after: Option<&(Timestamp, RunId, OpId)>,
) -> Result<Vec<WaitingTimer>, Error> {
    due::timers(file, after, PAGE)
}

/// The next deadlines of runs; empty if there are no more.
pub(super) fn deadlines(
    file: &Connection,
    after: Option<&RunDeadline>,
) -> Result<Vec<RunDeadline>, Error> {
    due::deadlines(file, after, PAGE)
}

/// A child that its parent waits for.
pub(crate) struct AwaitedChild {
    pub(crate) op: OpId,
    /// How it ended; `None` while it is unfinished, or if this version cannot read its last event.
    pub(crate) ended: Option<RunResult>,
}

/// The children that a run waits for.
pub(super) fn children(file: &Connection, run: &RunId) -> Result<Vec<AwaitedChild>, Error> {
    let mut children = Vec::new();
    for child in due::awaited_children(file, run)? {
        let ended = match child.has_ended {
            true => last_result(file, &child.run)?,
            false => None,
        };
        children.push(AwaitedChild { op: child.op, ended });
    }
    Ok(children)
}

/// The children that begin anew with a parked fork of a run that is elsewhere, and are parked like it.
/// None of them has begun.
pub(super) fn parked_with(file: &Connection, run: &RunId) -> Result<Vec<RunId>, Error> {
    let first = query::events(file, Some(run), Seq::ZERO, 1)?;
    let from_elsewhere = match first.first().map(Row::event) {
        Some(Ok(Event::RunCreated(created))) => {
            created.forked.is_some_and(|it| it.origin.is_some())
        }
        Some(Ok(_) | Err(_)) | None => false,
    };
    if !from_elsewhere {
        return Ok(Vec::new());
    }
    // A fork that was cancelled meanwhile ends its children, so that they need not begin.
    let state = query::run_state(file, run, None)?;
    if !state.is_some_and(|it| it.head.is_parked() && it.head.cancel.is_none()) {
        return Ok(Vec::new());
    }
    let mut parked = Vec::new();
    for child in due::awaited_children(file, run)? {
        let state = query::run_state(file, &child.run, None)?;
        if state.is_some_and(|state| state.head.attempt == 0 && state.head.is_parked()) {
            parked.push(child.run);
        }
    }
    Ok(parked)
}

/// How many ancestors of a run are looked for: far more than anybody nests.
#[cfg(feature = "otel")]
const ANCESTORS_MAX: usize = 1_000;

/// A run and its ancestors up to the root; empty if there is no such run.
#[cfg(feature = "otel")]
pub(super) fn lineage(file: &Connection, run: &RunId) -> Result<Vec<RunSummary>, Error> {
    let (mut family, mut next) = (Vec::new(), Some(run.clone()));
    while let Some(run) = next.take_if(|_| family.len() < ANCESTORS_MAX)
        && let Some(found) = query::run(file, &run)?
    {
        next = found.parent.as_ref().map(|parent| parent.run.clone());
        family.push(found);
    }
    Ok(family)
}
