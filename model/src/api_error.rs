//! The kinds of a node's refusals over HTTP: what to do about each, and its status.

use serde::{Deserialize, Serialize};

use crate::error_kind::ErrorKind;

/// What to do about a refused request. Text: the name in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ApiErrorKind {
    /// 400: the request is not what it has to be: mend it.
    Invalid,
    /// 401: send the node's bearer token.
    Unauthorized,
    /// 403: without a token the node takes nothing from this host or origin.
    Forbidden,
    /// 404: what was named does not exist.
    NotFound,
    /// 405: the path takes other methods.
    MethodNotAllowed,
    /// 409: it exists already, or is not in a state for this.
    Conflict,
    /// 409: the run is blocked until a person fixes what the message names.
    Blocked,
    /// 413: the body is larger than the node reads.
    TooLarge,
    /// 415: send JSON.
    UnsupportedMediaType,
    /// 422: the run's code cannot read this value.
    Unfit,
    /// 503: another owner has the node: ask that one.
    Fenced,
    /// 503: not now: try again.
    Unavailable,
    /// 500: what is stored is damaged.
    Corrupt,
    /// 500: a fault of the host or of Tidemill.
    Internal,
}

impl ApiErrorKind {
    /// Every kind.
    pub const ALL: [ApiErrorKind; 14] = [
        ApiErrorKind::Invalid,
        ApiErrorKind::Unauthorized,
        ApiErrorKind::Forbidden,
        ApiErrorKind::NotFound,
        ApiErrorKind::MethodNotAllowed,
        ApiErrorKind::Conflict,
        ApiErrorKind::Blocked,
        ApiErrorKind::TooLarge,
        ApiErrorKind::UnsupportedMediaType,
        ApiErrorKind::Unfit,
        ApiErrorKind::Fenced,
        ApiErrorKind::Unavailable,
        ApiErrorKind::Corrupt,
        ApiErrorKind::Internal,
    ];

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            ApiErrorKind::Invalid => 400,
            ApiErrorKind::Unauthorized => 401,
            ApiErrorKind::Forbidden => 403,
            ApiErrorKind::NotFound => 404,
            ApiErrorKind::MethodNotAllowed => 405,
            ApiErrorKind::Conflict | ApiErrorKind::Blocked => 409,
            ApiErrorKind::TooLarge => 413,
            ApiErrorKind::UnsupportedMediaType => 415,
            ApiErrorKind::Unfit => 422,
            ApiErrorKind::Corrupt | ApiErrorKind::Internal => 500,
            ApiErrorKind::Fenced | ApiErrorKind::Unavailable => 503,
        }
    }

    /// The kind of error that a caller of the node makes of it.
    pub fn kind(self) -> ErrorKind {
        match self {
            ApiErrorKind::Invalid
            | ApiErrorKind::Unauthorized
            | ApiErrorKind::MethodNotAllowed
            | ApiErrorKind::TooLarge
            | ApiErrorKind::UnsupportedMediaType
            | ApiErrorKind::Unfit => ErrorKind::Invalid,
            ApiErrorKind::NotFound => ErrorKind::NotFound,
            ApiErrorKind::Forbidden => ErrorKind::Forbidden,
            ApiErrorKind::Conflict | ApiErrorKind::Blocked => ErrorKind::Conflict,
            ApiErrorKind::Fenced => ErrorKind::Fenced,
            ApiErrorKind::Unavailable => ErrorKind::Unavailable,
            ApiErrorKind::Corrupt => ErrorKind::Corrupt,
            ApiErrorKind::Internal => ErrorKind::Internal,
        }
    }
}

impl From<ErrorKind> for ApiErrorKind {
    fn from(kind: ErrorKind) -> ApiErrorKind {
        match kind {
            ErrorKind::Invalid => ApiErrorKind::Invalid,
            ErrorKind::NotFound => ApiErrorKind::NotFound,
            ErrorKind::Forbidden => ApiErrorKind::Forbidden,
            ErrorKind::Conflict => ApiErrorKind::Conflict,
            ErrorKind::Fenced => ApiErrorKind::Fenced,
            ErrorKind::Unavailable => ApiErrorKind::Unavailable,
            ErrorKind::Corrupt => ApiErrorKind::Corrupt,
            ErrorKind::Internal => ApiErrorKind::Internal,
        }
    }
}

/// The body of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiErrorView {
    /// What to do about it.
    pub kind: ApiErrorKind,
    /// What was wrong, where, and what to do.
    pub message: String,
}
