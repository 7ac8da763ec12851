//! This crate's error, and the one that a node returns while it shuts down.

pub use tidemill_model::{Error, ErrorKind};

/// The error of every call that reaches a node while it shuts down.
pub(crate) fn closed() -> Error {
    let message = "the node is shutting down: try again on the next one";
    Error::new(ErrorKind::Unavailable, message)
}
