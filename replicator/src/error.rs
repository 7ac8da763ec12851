//! The one error of this crate: its kind says what to do, its message what was wrong and where.

use std::fmt;

use tidemill_eventlog::LockError;
use tidemill_model::Invalid;

use crate::adapters::aside::InstallError;
use crate::adapters::files::FileError;
use crate::adapters::socket::ListenError;
use crate::adapters::state_file::StateError;
use crate::adapters::wal_watch::WatchError;

pub use tidemill_model::ErrorKind;

/// An error of this crate.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error whose message says it all.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    fn of(kind: ErrorKind, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error { kind, message: source.to_string(), source: Some(Box::new(source)) }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// One line for a person; it contains what matters of the causes.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| {
            let source: &(dyn std::error::Error + 'static) = source;
            source
        })
    }
}

impl From<tidemill_bucket::Error> for Error {
    fn from(error: tidemill_bucket::Error) -> Error {
        Error::of(error.kind(), error)
    }
}

impl From<tidemill_eventlog::Error> for Error {
    fn from(error: tidemill_eventlog::Error) -> Error {
        Error::of(error.kind(), error)
    }
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Error {
        tidemill_eventlog::Error::from(error).into()
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Error {
        let kind = if error.is_full() { ErrorKind::Unavailable } else { ErrorKind::Internal };
        Error::of(kind, error)
    }
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Error {
        match error {
            StateError::File(error) => error.into(),
            error @ StateError::Unreadable { .. } => Error::of(ErrorKind::Corrupt, error),
        }
    }
}

impl From<InstallError> for Error {
    fn from(error: InstallError) -> Error {
        match error {
            InstallError::File(error) => error.into(),
            error @ InstallError::Occupied { .. } => Error::of(ErrorKind::Conflict, error),
            error @ InstallError::NotWhole { .. } => Error::of(ErrorKind::Corrupt, error),
        }
    }
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Error {
        Error::of(ErrorKind::Invalid, error)
    }
}

impl From<WatchError> for Error {
    fn from(error: WatchError) -> Error {
        Error::of(ErrorKind::Internal, error)
    }
}

impl From<Invalid> for Error {
    fn from(error: Invalid) -> Error {
        Error::of(ErrorKind::Invalid, error)
    }
}
