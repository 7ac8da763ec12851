//! The kinds of errors, shared by every crate: each is named for what to do about it.

use serde::{Deserialize, Serialize};

/// What to do about an error. Text: the name in snake case, as in JSON replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A request, setting or file is not what it has to be: mend it.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// The caller may not do this: somebody else has to.
    Forbidden,
    /// Another process holds the thing or wrote first, or it already exists.
    Conflict,
    /// Another owner has the node: leave.
    Fenced,
    /// Not now (busy, disk full, S3 silent, shutting down): try again.
    Unavailable,
    /// What was stored is damaged: do not trust it.
    Corrupt,
    /// A fault of the host or of Tidemill.
    Internal,
}
