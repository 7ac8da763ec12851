//! The one error of all crates: its kind says what to do, its message what was wrong and where.
//!
//! The message has in it what the direct cause said, so that one line tells a person enough;
//! `source` continues from there, so that a printed chain repeats nothing.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use crate::error_kind::ErrorKind;
use crate::name::Invalid;

/// A failure: what went wrong, where, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error whose message says it all.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), cause: None }
    }

    /// What was tried, and how it failed: `open /data/workflow.db: permission denied`.
    pub fn caused(
        kind: ErrorKind,
        tried: impl fmt::Display,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        let cause = cause.into();
        Error { kind, message: format!("{tried}: {cause}"), cause: Some(cause) }
    }

    /// An error that says what its cause says.
    pub fn of(kind: ErrorKind, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let cause = cause.into();
        Error { kind, message: cause.to_string(), cause: Some(cause) }
    }

    /// The same error with its cause as `source`; the message has the cause's text already.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.cause = Some(cause.into());
        self
    }

    /// A request, setting or file is not what it has to be.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    /// What is stored is not what was written.
    pub fn corrupt(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt, message)
    }

    /// A file operation failed: what was tried with which file, and how it ended.
    pub fn io(verb: &str, path: &Path, cause: io::Error) -> Error {
        let kind = match cause.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
        Error::caused(kind, format_args!("cannot {verb} {}", path.display()), cause)
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// One line for a person; it contains what matters of the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The direct cause, if it is of this type.
    pub fn cause<T: StdError + 'static>(&self) -> Option<&T> {
        self.cause.as_ref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_ref().and_then(|cause| cause.source())
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        Error::of(ErrorKind::Invalid, invalid)
    }
}
