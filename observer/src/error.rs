//! The one error of this crate, with kinds named for what to do about them.

use std::fmt;

pub use tidemill_model::ErrorKind;

/// A failure to look at something: what went wrong, where, and what to do.
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

    /// A file operation failed.
    pub(crate) fn io(verb: &str, path: &std::path::Path, source: std::io::Error) -> Error {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            _ => ErrorKind::Internal,
        };
        let message = format!("cannot {verb} {}: {source}", path.display());
        Error { kind, message, source: Some(Box::new(source)) }
    }

    /// SQLite failed while doing `what`.
    pub(crate) fn sqlite(what: &str, source: rusqlite::Error) -> Error {
        tidemill_eventlog::Error::sqlite(what, source).into()
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
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

impl From<tidemill_eventlog::Error> for Error {
    fn from(error: tidemill_eventlog::Error) -> Error {
        Error { kind: error.kind(), message: error.to_string(), source: Some(Box::new(error)) }
    }
}

impl From<tidemill_bucket::Error> for Error {
    fn from(error: tidemill_bucket::Error) -> Error {
        Error { kind: error.kind(), message: error.to_string(), source: Some(Box::new(error)) }
    }
}
