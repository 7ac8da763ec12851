//! Whether a transaction has broken a deferred foreign key, which SQLite tells only at `COMMIT`.

use rusqlite::{Connection, ffi};

use crate::error::{Error, ErrorKind};

/// An error if what was written so far would let `COMMIT` fail for a deferred key of an author's
/// table. A savepoint that is rolled back takes its part with it.
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
    // SAFETY: the handle is of a connection that lives during the call and is used by this thread
    // alone; both pointers are of integers that outlive it.
    let code = unsafe {
        let status = ffi::SQLITE_DBSTATUS_DEFERRED_FKS;
        ffi::sqlite3_db_status(connection.handle(), status, &raw mut now, &raw mut highest, 0)
    };
    if code == ffi::SQLITE_OK {
        return Ok(now != 0);
    }
    Err(Error::new(ErrorKind::Internal, "SQLite does not tell whether deferred keys are broken"))
}
