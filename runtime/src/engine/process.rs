//! What the file remembers about the process that wrote last: whether it ended cleanly.
//!
//! A step during which the process dies again and again is poison. What counts are deaths within
//! one boot under one owner: after a reboot, a take-over or a clean end the count starts again.
//! One row of `tidemill_meta` holds the boot, the epoch, whether the process ended cleanly, and
//! the position up to which nothing counts.
//!
//! The row also says from where on floats in the log are exact. Versions before this field read
//! numbers with a fraction up to 2 units in the last place wrong, and what they passed on lies in
//! the log. They drop the field when they write the row, so the first process of a version that
//! reads floats exactly finds it missing, after an upgrade and after each time back and forth.

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
    /// None where a version wrote last that did not read floats exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floats_exact_from: Option<Seq>,
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
    /// From here on the log was written by versions that read floats exactly.
    pub(super) floats_exact_from: Seq,
}

/// Notes, in the caller's transaction, that this process writes now.
pub(super) fn begin(
    connection: &Connection,
    epoch: Option<Epoch>,
    head: Seq,
) -> Result<Start, Error> {
    let boot = host::boot_id()?;
    let before = read(connection)?;
    let floats_exact_from = before.as_ref().and_then(|was| was.floats_exact_from);
    let floats_exact_from = floats_exact_from.unwrap_or_else(|| head.next());
    let first_of_epoch = before.as_ref().is_none_or(|was| was.epoch != epoch);
    let crashed = before.filter(|was| !was.clean && was.boot == boot && was.epoch == epoch);
    let counts_after = crashed.map_or(head, |was| was.counts_after);
    let floats = Some(floats_exact_from);
    let now = Process { boot, epoch, clean: false, counts_after, floats_exact_from: floats };
    write(connection, &now)?;
    Ok(Start { counts_after, first_of_epoch, floats_exact_from })
}

/// From where on floats in this log are exact; none if nowhere.
pub(super) fn floats_exact_from(connection: &Connection) -> Result<Option<Seq>, Error> {
    Ok(read(connection)?.and_then(|process| process.floats_exact_from))
}

/// Notes that this process ended cleanly.
pub(super) fn end(connection: &Connection, epoch: Option<Epoch>) -> Result<(), Error> {
    let boot = host::boot_id()?;
    let floats_exact_from = floats_exact_from(connection)?;
    let counts_after = Seq::ZERO;
    write(connection, &Process { boot, epoch, clean: true, counts_after, floats_exact_from })
}

/// The row; none if there is none, or one of a version that this one cannot read: then every count
/// starts again.
fn read(connection: &Connection) -> Result<Option<Process>, Error> {
    let sql = "SELECT value FROM tidemill_meta WHERE key = 'process'";
    let stored: Option<String> =
        connection.query_row(sql, [], |row| row.get(0)).optional().map_err(failed)?;
    Ok(stored.and_then(|text| serde_json::from_str(&text).ok()))
}

fn write(connection: &Connection, process: &Process) -> Result<(), Error> {
    let text = serde_json::to_string(process).expect("a struct of strings and numbers has JSON");
    let sql = "INSERT INTO tidemill_meta (key, value) VALUES ('process', ?1) \
               ON CONFLICT (key) DO UPDATE SET value = ?1";
    connection.execute(sql, [text]).map_err(failed)?;
    Ok(())
}
