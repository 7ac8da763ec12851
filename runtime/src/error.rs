//! The one error of this crate, with kinds named for what to do about them.

use std::fmt;

pub use tidemill_model::ErrorKind;

/// A failure of the runtime: what went wrong, where, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a source.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    /// An error with what caused it; the message should not repeat the cause.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error { kind, message: message.into(), source: Some(source.into()) }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn closed() -> Error {
        Error::new(ErrorKind::Unavailable, "the node is shutting down: try again on the next one")
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
        let source = self.source.as_deref()?;
        Some(source)
    }
}

impl From<tidemill_eventlog::Error> for Error {
    fn from(error: tidemill_eventlog::Error) -> Error {
        Error { kind: error.kind(), message: error.to_string(), source: Some(Box::new(error)) }
    }
}

impl From<tidemill_model::Invalid> for Error {
    fn from(invalid: tidemill_model::Invalid) -> Error {
        Error::new(ErrorKind::Invalid, invalid.to_string())
    }
}
