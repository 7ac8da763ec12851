//! The error of this crate, and its result.

pub use tidemill_model::{Error, ErrorKind};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
