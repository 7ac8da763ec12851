//! The one error of this crate, with kinds named for what to do about them.

use std::fmt;

use rusqlite::ErrorCode;

pub use tidemill_model::ErrorKind;

/// A failure of the event log: what went wrong, where, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a source.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    /// An error of the file system about `what`, such as `open /data/workflow.db`.
    pub fn io(what: impl fmt::Display, source: std::io::Error) -> Error {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            std::io::ErrorKind::StorageFull => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Error { kind, message: format!("{what}: {source}"), source: Some(Box::new(source)) }
    }

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
        Error { kind, message: format!("{what}: {source}"), source: Some(Box::new(source)) }
    }

    /// What is stored is not what was written.
    pub fn corrupt(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt, message)
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What SQLite reported, if it was SQLite: a full disk is not a failed one.
    pub fn sqlite_code(&self) -> Option<ErrorCode> {
        let source = self.source.as_ref()?;
        source.downcast_ref::<rusqlite::Error>()?.sqlite_error_code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message already has the source's text; what lies deeper is of interest.
        self.source.as_ref().and_then(|source| source.source())
    }
}
