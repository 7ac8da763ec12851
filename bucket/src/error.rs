//! What is wrong with an object.

pub use tidemill_model::{Error, ErrorKind};

/// An object's content is not what it should be.
pub(crate) fn unreadable(key: &str, source: &tidemill_model::Invalid) -> Error {
    Error::corrupt(format!("object `{key}` is unreadable: {source}"))
}
