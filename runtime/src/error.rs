//! The one error of this crate, with kinds named for what to do about them.

use std::fmt;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is not what it has to be: mend it.
    Invalid,
    /// It is not there.
    NotFound,
    /// Somebody else has it, or it exists already with other content.
    Conflict,
    /// Another owner has the node: leave.
    Fenced,
    /// Not now (disk full, queue full, shutting down): try again.
    Unavailable,
    /// What was stored is damaged: do not trust it.
    Corrupt,
    /// A fault of the host or of Tidemill.
    Internal,
}

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
        use tidemill_eventlog::ErrorKind as Log;
        let kind = match error.kind() {
            Log::Invalid => ErrorKind::Invalid,
            Log::NotFound => ErrorKind::NotFound,
            Log::Conflict => ErrorKind::Conflict,
            Log::Fenced => ErrorKind::Fenced,
            Log::Unavailable => ErrorKind::Unavailable,
            Log::Corrupt => ErrorKind::Corrupt,
            Log::Internal => ErrorKind::Internal,
        };
        Error { kind, message: error.to_string(), source: Some(Box::new(error)) }
    }
}

impl From<tidemill_model::Invalid> for Error {
    fn from(invalid: tidemill_model::Invalid) -> Error {
        Error::new(ErrorKind::Invalid, invalid.to_string())
    }
}
