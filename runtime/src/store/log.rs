//! Reads the log of one run.

use rusqlite::Connection;
use tidemill_eventlog::{Row, promises, query, signals};
use tidemill_model::{
    BlockReason, Event, EventClass, EventKind, RunCreated, RunId, Seq, Timestamp,
};

use crate::error::{Error, ErrorKind};

/// An event with its place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) seq: Seq,
    pub(crate) ts: Timestamp,
    pub(crate) event: Event,
}

/// The `run_created` event, with which every log begins.
pub(crate) fn created(log: &[Record]) -> Result<&RunCreated, BlockReason> {
    match log.first().map(|record| &record.event) {
        Some(Event::RunCreated(created)) => Ok(created),
        Some(other) => Err(BlockReason::unreadable(&format!("it begins with {}", other.kind()))),
        None => Err(BlockReason::unreadable("it is empty")),
    }
}

/// The log of a run, or why this version cannot read it.
pub(crate) type Log = Result<Vec<Record>, Unreadable>;

/// A log that this version cannot read or fold, with what it can still tell.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) reason: BlockReason,
    /// The newest event that is not an aside, by which the writer checks turns.
    pub(crate) last: Seq,
    /// Why the run is blocked, from the events that can be read; `None` if it is not blocked.
    pub(crate) blocked: Option<BlockReason>,
}

impl Unreadable {
    /// For a log whose events can be read but do not fit together.
    pub(crate) fn misfit(log: &[Record], reason: BlockReason) -> Unreadable {
        let mut this = Unreadable { reason, last: Seq::ZERO, blocked: None };
        for record in log {
            this.see(record.seq, record.event.class() != EventClass::Aside, Some(&record.event));
        }
        this
    }

    /// Takes the next event into account; `event` is `None` if it cannot be read.
    pub(crate) fn see(&mut self, seq: Seq, observed: bool, event: Option<&Event>) {
        if observed {
            self.last = seq;
        }
        match event {
            Some(Event::RunBlocked { reason }) => self.blocked = Some(reason.clone()),
            Some(Event::RunStarted { .. } | Event::RunResumed {}) => self.blocked = None,
            Some(_) | None => {}
        }
    }
}

/// The whole log of a run; the inner error says why this version cannot read it.
pub(crate) fn log(connection: &Connection, run: &RunId) -> Result<Log, Error> {
    let mut log = Vec::new();
    let mut bad: Option<Unreadable> = None;
    query::for_each_event(connection, Some(run), Seq::ZERO, u32::MAX, |row| {
        let event = row.event();
        if let Err(why) = &event
            && bad.is_none()
        {
            let reason = BlockReason::unreadable(&format!("event {}: {why}", row.seq));
            bad = Some(Unreadable::misfit(&log, reason));
        }
        match (&mut bad, event) {
            (Some(bad), event) => {
                bad.see(row.seq, query::is_observed(&row.kind), event.as_ref().ok());
            }
            (None, Ok(event)) => log.push(Record { seq: row.seq, ts: row.ts, event }),
            (None, Err(_)) => {}
        }
        Ok(())
    })?;
    Ok(bad.map_or(Ok(log), Err))
}

/// The signals that a run was sent after the one of this number, in the order of the log.
pub(crate) fn signals_after(
    connection: &Connection,
    run: &RunId,
    number: u32,
) -> Result<Vec<Record>, Error> {
    records(run, &signals::after(connection, run, number, u32::MAX)?)
}

/// The answers that a run's promises were given after a position, in the order of the log.
pub(crate) fn answers_after(
    connection: &Connection,
    run: &RunId,
    after: Seq,
) -> Result<Vec<Record>, Error> {
    records(run, &promises::answers_after(connection, run, after)?)
}

/// The runs whose histories a run began with, the first first.
pub(crate) fn was(connection: &Connection, run: &RunId) -> Result<Vec<RunId>, Error> {
    let mut found = Vec::new();
    query::for_each_event(connection, Some(run), Seq::ZERO, u32::MAX, |row| {
        if row.kind == EventKind::RunForked.as_str()
            && let Ok(Event::RunForked { from, .. }) = row.event()
        {
            found.push(from);
        }
        Ok(())
    })?;
    Ok(found)
}

fn records(run: &RunId, rows: &[Row]) -> Result<Vec<Record>, Error> {
    let record = |row: &Row| {
        let event = row.event().map_err(|e| {
            let message = format!("event {} of run `{run}` cannot be read: {e}", row.seq);
            Error::new(ErrorKind::Corrupt, message)
        })?;
        Ok(Record { seq: row.seq, ts: row.ts, event })
    };
    rows.iter().map(record).collect()
}
