//! The error of this crate, and the one that every part of a node that closes gives.

pub use tidemill_model::{Error, ErrorKind};

/// The node is shutting down.
pub(crate) fn closed() -> Error {
    let message = "the node is shutting down: try again on the next one";
    Error::new(ErrorKind::Unavailable, message)
}
