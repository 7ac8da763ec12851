//! Detects a broken deferred foreign key before `COMMIT`, where SQLite itself would report it.

use rusqlite::{Connection, ffi};

use crate::error::{Error, ErrorKind};

/// Returns an error if `COMMIT` would now fail because of a deferred key of an author's table.
/// Rolling a savepoint back removes the violations of that savepoint.
pub(super) fn check(connection: &Connection) -> tidemill_eventlog::Result<()> {
    if !is_broken(connection)? {
        return Ok(());
    }
    let what = "a deferred foreign key of one of the program's own tables is broken by it";
    Err(Error::new(ErrorKind::Conflict, what))
}

#[expect(unsafe_code, reason = "rusqlite has no safe function for sqlite3_db_status")]
fn is_broken(connection: &Connection) -> tidemill_eventlog::Result<bool> {
    let (mut now, mut highest) = (0, 0);
    // SAFETY: the handle is of a connection that lives during the call and that only this thread
    // uses; both pointers are to integers that outlive the call.
    let code = unsafe {
        let status = ffi::SQLITE_DBSTATUS_DEFERRED_FKS;
        ffi::sqlite3_db_status(connection.handle(), status, &raw mut now, &raw mut highest, 0)
    };
    if code == ffi::SQLITE_OK {
        return Ok(now != 0);
    }
    Err(Error::new(ErrorKind::Internal, "SQLite does not tell whether deferred keys are broken"))
}
