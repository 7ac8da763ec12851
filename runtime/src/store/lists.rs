//! Reading runs for who looks at them: lists, one run with what it waits for, its end.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::Connection;
use tidemill_eventlog::query::{self, RunFilter, RunSummary};
use tidemill_eventlog::{Row, waits};
use tidemill_model::{Event, OpId, Parent, RunId, RunState, RunStatus, Seq, WaitsFor};

use crate::engine::RunResult;
use crate::error::Error;

/// How many runs are listed at once: some hundred bytes each.
const PAGE: u32 = 1_000;

/// Runs that are blocked, which only the memory of this process says: it could not be written.
pub(crate) struct HeldBlocks {
    pub(crate) runs: BTreeSet<RunId>,
}

impl HeldBlocks {
    /// The page that a file would give that said so, and where the next one begins.
    pub(super) fn page(
        &self,
        file: &Connection,
        filter: &RunFilter,
        asked: usize,
    ) -> tidemill_eventlog::Result<(Vec<RunSummary>, Option<Seq>)> {
        let mut page = query::runs(file, filter)?;
        if filter.status == Some(RunStatus::Blocked) {
            for run in &self.runs {
                page.extend(query::run(file, run)?.filter(|run| {
                    filter.after.is_none_or(|after| run.seq < after)
                        && filter.workflow.as_ref().is_none_or(|of| run.workflow == *of)
                        && run.status != RunStatus::Blocked
                }));
            }
            page.sort_by_key(|run| std::cmp::Reverse(run.seq));
        }
        let more = page.len() > asked;
        page.truncate(asked);
        query::add_activity(file, &mut page)?;
        waits::say(file, &mut page)?;
        let next = page.last().map(|run| run.seq).filter(|_| more);
        for run in &mut page {
            if self.runs.contains(&run.run) {
                run.status = RunStatus::Blocked;
            }
        }
        if let Some(status) = filter.status {
            page.retain(|run| run.status == status);
        }
        Ok((page, next))
    }
}

/// A run, and the blocked run that it waits for; `None` if there is none of this id.
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

/// Events of a run after a position; `None` if there is no run of this id.
pub(super) fn events(
    file: &Connection,
    run: &RunId,
    after: Seq,
    limit: u32,
) -> Result<Option<Vec<Row>>, Error> {
    let rows = query::events(file, Some(run), after, limit)?;
    let is_there = !rows.is_empty() || query::run(file, run)?.is_some();
    Ok(is_there.then_some(rows))
}

/// A run of the file.
pub(crate) enum Stored {
    /// It has not ended.
    Unfinished,
    /// It has: who started it as a child, and how it ended; `None` if this version cannot read how.
    Ended(Option<Parent>, Option<RunResult>),
}

/// `None` if the file does not have the run.
pub(super) fn stored(file: &Connection, run: &RunId) -> Result<Option<Stored>, Error> {
    let Some(summary) = query::run(file, run)? else { return Ok(None) };
    if !summary.status.is_final() {
        return Ok(Some(Stored::Unfinished));
    }
    Ok(Some(Stored::Ended(summary.parent, last_result(file, run)?)))
}

/// The end that the newest event of a run records.
fn last_result(file: &Connection, run: &RunId) -> Result<Option<RunResult>, Error> {
    let last = query::last_observed(file, run)?.unwrap_or(Seq::ZERO);
    let before = Seq::new(last.get().saturating_sub(1))?;
    let rows = query::events(file, Some(run), before, 1)?;
    let event = rows.first().map(Row::event);
    Ok(match event {
        Some(Ok(Event::RunCompleted { output })) => Some(RunResult::Completed(output)),
        Some(Ok(Event::RunFailed { error })) => Some(RunResult::Failed(error)),
        Some(Ok(_) | Err(_)) | None => None,
    })
}

/// An unfinished run.
pub(crate) struct Unfinished {
    pub(crate) seq: Seq,
    pub(crate) run: RunId,
    pub(crate) parent: Option<Parent>,
    /// Its parent has dropped it.
    pub(crate) is_dropped: bool,
}

/// What the parents of unfinished runs dropped; each parent's log is read once.
#[derive(Default)]
pub(crate) struct Dropped(HashMap<RunId, HashSet<OpId>>);

/// The next unfinished runs after a position; empty after the last.
pub(super) fn unfinished(
    file: &Connection,
    after: Seq,
    mut dropped: Dropped,
) -> Result<(Vec<Unfinished>, Dropped), Error> {
    let page = query::unfinished(file, after, PAGE)?;
    let mut runs = Vec::with_capacity(page.len());
    for RunSummary { seq, run, parent, .. } in page {
        let is_dropped = match &parent {
            Some(by) => dropped.of(file, &by.run)?.contains(&by.op),
            None => false,
        };
        runs.push(Unfinished { seq, run, parent, is_dropped });
    }
    Ok((runs, dropped))
}

impl Dropped {
    fn of(&mut self, file: &Connection, parent: &RunId) -> Result<&HashSet<OpId>, Error> {
        if !self.0.contains_key(parent) {
            let ops = query::dropped_ops(file, parent)?;
            self.0.insert(parent.clone(), ops.into_iter().collect());
        }
        Ok(&self.0[parent])
    }
}
