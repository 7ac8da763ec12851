//! What a failed write means: which messages it refuses, and whether the process may continue.

use rusqlite::ErrorCode;

use super::condition::RefusalCause;
use crate::error::{Error, ErrorKind};

/// Whether a failure is the message's own: the same message would fail again, and others would not.
/// Every other failure is of the file or the machine, and refuses all messages.
pub(super) fn is_own(error: &Error) -> bool {
    match tidemill_eventlog::sqlite_code(error) {
        None => error.kind() != ErrorKind::Unavailable,
        Some(
            ErrorCode::DiskFull
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationInterrupted
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::NoLargeFileSupport
            | ErrorCode::OutOfMemory
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => false,
        Some(_) => true,
    }
}

/// Ends the process unless the failed commit certainly left nothing in the file.
pub(super) fn die_unless_refused(error: &Error) {
    if !left_nothing(tidemill_eventlog::sqlite_code(error)) {
        tracing::error!(%error, "a commit failed and may be in the file: the process ends");
        std::process::abort();
    }
}

/// Whether a commit that failed with this code has certainly left nothing in the file. SQLite
/// checks deferred keys before it writes the first frame.
fn left_nothing(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(
            ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ConstraintViolation
        )
    )
}

/// The cause for which the file takes no writes.
pub(super) fn cause(error: &Error) -> RefusalCause {
    match tidemill_eventlog::sqlite_code(error) {
        Some(ErrorCode::DiskFull) => RefusalCause::DiskFull,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => RefusalCause::Locked,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => RefusalCause::Damaged,
        Some(_) | None => RefusalCause::Failing,
    }
}

/// The error that all callers get while nothing can be written; the node's log has the details.
pub(super) fn refused(cause: RefusalCause) -> Error {
    match cause {
        RefusalCause::DiskFull => Error::new(
            ErrorKind::Unavailable,
            "the disk is full: free some space; nothing that was acknowledged is lost",
        ),
        RefusalCause::Locked => Error::new(
            ErrorKind::Unavailable,
            "another process holds the file's write lock: end its transaction; nothing was \
             written, try again",
        ),
        RefusalCause::Damaged => Error::new(
            ErrorKind::Corrupt,
            "the file is damaged: nothing was written; run `tidemill fsck` on it",
        ),
        RefusalCause::Failing => Error::new(
            ErrorKind::Unavailable,
            "the file cannot be written now, and the node's log says why: nothing was written, \
             try again",
        ),
    }
}

/// The error that a caller gets whose own message cannot be written.
pub(super) fn unfit(error: &Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::Corrupt => ErrorKind::Corrupt,
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Forbidden
        | ErrorKind::Conflict
        | ErrorKind::Fenced
        | ErrorKind::Unavailable
        | ErrorKind::Internal => ErrorKind::Internal,
    };
    Error::new(kind, format!("the file does not take it: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_leaves_nothing_after_a_full_disk_a_lock_and_an_open_key() {
        for code in [
            ErrorCode::DiskFull,
            ErrorCode::DatabaseBusy,
            ErrorCode::DatabaseLocked,
            ErrorCode::ConstraintViolation,
        ] {
            assert!(left_nothing(Some(code)), "{code:?}");
        }
        for code in [
            ErrorCode::SystemIoFailure,
            ErrorCode::CannotOpen,
            ErrorCode::DatabaseCorrupt,
            ErrorCode::OutOfMemory,
            ErrorCode::ReadOnly,
        ] {
            assert!(!left_nothing(Some(code)), "{code:?}");
        }
        assert!(!left_nothing(None), "an error that is not SQLite's");
    }

    fn sqlite(code: i32) -> Error {
        let failure = rusqlite::ffi::Error::new(code);
        tidemill_eventlog::sqlite("test", rusqlite::Error::SqliteFailure(failure, None))
    }

    #[test]
    fn a_failure_of_the_machine_is_nobodys_own() {
        use rusqlite::ffi::{
            SQLITE_BUSY, SQLITE_CONSTRAINT, SQLITE_ERROR, SQLITE_FULL, SQLITE_IOERR, SQLITE_NOMEM,
            SQLITE_TOOBIG,
        };
        for code in [SQLITE_FULL, SQLITE_IOERR, SQLITE_NOMEM, SQLITE_BUSY] {
            assert!(!is_own(&sqlite(code)), "{code}");
            assert_eq!(refused(cause(&sqlite(code))).kind(), ErrorKind::Unavailable);
        }
        for code in [SQLITE_CONSTRAINT, SQLITE_ERROR, SQLITE_TOOBIG] {
            assert!(is_own(&sqlite(code)), "{code}");
        }
        assert!(is_own(&Error::corrupt("a row")), "what one message reads");
    }
}
