//! What the file remembers about the process that wrote last: whether it ended cleanly.
//!
//! A step during which the process dies again and again is poison. What counts are deaths within
//! one boot under one owner: after a reboot, a take-over or a clean end the count starts again.
//! One row of `tidemill_meta` holds the boot, the epoch, whether the process ended cleanly, and
//! the position up to which nothing counts.

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_eventlog::host;
use tidemill_model::{BootId, Epoch, Seq};

use crate::error::{Error, ErrorKind};

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Process {
    boot: BootId,
    epoch: Option<Epoch>,
    clean: bool,
    counts_after: Seq,
}

fn failed(error: rusqlite::Error) -> Error {
    Error::with_source(ErrorKind::Internal, format!("read or write who wrote last: {error}"), error)
}

/// What a process finds out about the one before.
pub(super) struct Start {
    /// No crash counts that was logged up to here.
    pub(super) counts_after: Seq,
    /// No process wrote in this epoch before.
    pub(super) first_of_epoch: bool,
}

/// Notes, in the caller's transaction, that this process writes now.
pub(super) fn begin(
    connection: &Connection,
    epoch: Option<Epoch>,
    head: Seq,
) -> Result<Start, Error> {
    let boot = host::boot_id()?;
    let sql = "SELECT value FROM tidemill_meta WHERE key = 'process'";
    let stored: Option<String> =
        connection.query_row(sql, [], |row| row.get(0)).optional().map_err(failed)?;
    // A value that this version cannot read is of another one: then the count starts again.
    let before = stored.and_then(|text| serde_json::from_str::<Process>(&text).ok());
    let first_of_epoch = before.as_ref().is_none_or(|was| was.epoch != epoch);
    let crashed = before.filter(|was| !was.clean && was.boot == boot && was.epoch == epoch);
    let counts_after = crashed.map_or(head, |was| was.counts_after);
    write(connection, &Process { boot, epoch, clean: false, counts_after })?;
    Ok(Start { counts_after, first_of_epoch })
}

/// Notes that this process ended cleanly.
pub(super) fn end(connection: &Connection, epoch: Option<Epoch>) -> Result<(), Error> {
    let boot = host::boot_id()?;
    write(connection, &Process { boot, epoch, clean: true, counts_after: Seq::ZERO })
}

fn write(connection: &Connection, process: &Process) -> Result<(), Error> {
    let text = serde_json::to_string(process).expect("a struct of strings and numbers has JSON");
    let sql = "INSERT INTO tidemill_meta (key, value) VALUES ('process', ?1) \
               ON CONFLICT (key) DO UPDATE SET value = ?1";
    connection.execute(sql, [text]).map_err(failed)?;
    Ok(())
}
