//! The errors of this crate's parts, by what to do about them.

use crate::app::socket::ListenError;
use crate::disk::diverged::InstallError;
use crate::disk::files::FileError;
use crate::disk::state_file::StateError;
use crate::ship::wal::WatchError;

pub use tidemill_model::{Error, ErrorKind};

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
