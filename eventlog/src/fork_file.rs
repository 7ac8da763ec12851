//! A new file that holds a fork of a run of another file, and nothing else: `tidemill fork --into-file`.
//!
//! It is a node of its own, as a copy is: steps have idempotency keys that no other file's have. The
//! fork in it is parked, which is in the events that it is made of.

use rusqlite::Connection;
use tidemill_model::{Event, MadeFork, MadeRun, RunStatus, Seq, Timestamp};

use crate::append::{Appended, Appender};
use crate::error::{Result, sqlite};
use crate::host;
use crate::own_copy::OwnCopy;
use crate::process::Process;
use crate::projection;

/// Makes an empty file a node that has this fork, in one transaction. Only for a file that nothing else
/// has open.
///
/// # Errors
/// What SQLite says, and the file is as it was.
pub fn begin_with_fork(
    connection: &Connection,
    copy: &OwnCopy,
    fork: &MadeFork,
    at: Timestamp,
) -> Result<()> {
    let failed = |e| sqlite("write the fork", e);
    let transaction = connection.unchecked_transaction().map_err(failed)?;
    let mut appender = Appender::load(&transaction)?;
    copy.begin(&transaction, &mut appender)?;
    for run in std::iter::once(&fork.run).chain(&fork.children) {
        write_run(&transaction, &mut appender, run, at)?;
    }
    // Without this row the next process would take the history for one that version 0.1 wrote.
    let exact = Process {
        boot: host::boot_id()?,
        epoch: None,
        instance: None,
        clean: true,
        counts_after: Seq::ZERO,
        floats_exact_from: Some(Seq::ZERO),
        ends: Vec::new(),
    };
    exact.write(&transaction)?;
    transaction.commit().map_err(failed)
}

fn write_run(
    connection: &Connection,
    appender: &mut Appender,
    run: &MadeRun,
    at: Timestamp,
) -> Result<()> {
    let mut append = |event: &Event| -> Result<Appended> {
        let appended = appender.append(connection, at, Some(&run.id), event)?;
        projection::project(connection, appended, Some(&run.id), event)?;
        Ok(appended)
    };
    let mut newest = append(&Event::RunCreated(Box::new(run.created.clone())))?;
    for event in &run.events {
        newest = append(event.event())?;
    }
    let because = Some(newest.seq).filter(|_| run.status == RunStatus::Blocked);
    match run.status {
        RunStatus::Pending => Ok(()),
        status => projection::set_status(connection, &run.id, status, because),
    }
}
