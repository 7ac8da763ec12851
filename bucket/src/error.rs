//! The one error of this crate: its kind says what to do, its message what was wrong and where.

use std::fmt;

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
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// One line for a person; it contains what matters of the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// An object's content is not what it has to be.
    pub(crate) fn corrupt(key: &str, source: &tidemill_model::Invalid) -> Error {
        Error::new(ErrorKind::Corrupt, format!("object `{key}` is unreadable: {source}"))
    }

    /// A local file operation failed.
    pub(crate) fn io(verb: &str, path: &std::path::Path, source: std::io::Error) -> Error {
        let message = format!("cannot {verb} `{}`: {source}", path.display());
        Error::new(ErrorKind::Internal, message).because(source)
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
