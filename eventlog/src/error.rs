//! Errors of SQLite, by what to do about them.

use std::fmt;

use rusqlite::ErrorCode;

pub use tidemill_model::{Error, ErrorKind};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of SQLite while doing `what`, such as `append an event`.
pub fn sqlite(what: impl fmt::Display, source: rusqlite::Error) -> Error {
    let kind = match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::OperationInterrupted,
        ) => ErrorKind::Unavailable,
        Some(_) | None => ErrorKind::Internal,
    };
    // A person reads what was tried and what is wrong; the statement is only of use to us, and the
    // source has it.
    match &source {
        rusqlite::Error::SqlInputError { msg, .. } => {
            Error::new(kind, format!("{what}: {msg}")).because(source)
        }
        _ => Error::caused(kind, what, source),
    }
}

/// What SQLite reported, if it was SQLite: a full disk is not a failed one.
pub fn sqlite_code(error: &Error) -> Option<ErrorCode> {
    error.cause::<rusqlite::Error>()?.sqlite_error_code()
}
