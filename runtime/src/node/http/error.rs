//! Errors as callers see them: `{kind, message}` with a status. The node logs their causes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::error::{Error, ErrorKind};

/// An error reply.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: ErrorKind,
    message: String,
}

#[derive(serde::Serialize)]
struct Body<'a> {
    kind: ErrorKind,
    message: &'a str,
}

impl ApiError {
    fn new(status: StatusCode, kind: ErrorKind, message: String) -> ApiError {
        ApiError { status, kind, message }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, ErrorKind::Invalid, message.into())
    }

    pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message.into())
    }

    pub(crate) fn method(message: String) -> ApiError {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Invalid, message)
    }

    pub(crate) fn unauthorized(message: &str) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, ErrorKind::Invalid, message.to_owned())
    }

    pub(crate) fn forbidden(message: String) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, ErrorKind::Invalid, message)
    }

    pub(crate) fn too_large(message: String) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::Invalid, message)
    }

    pub(crate) fn media_type(message: &str) -> ApiError {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorKind::Invalid, message.to_owned())
    }

    /// The error as a JSON value, for a stream that has begun.
    pub(crate) fn to_json(&self) -> String {
        let body = Body { kind: self.kind, message: &self.message };
        serde_json::to_string(&body).expect("a kind and a message have a JSON form")
    }
}

/// The status for each kind of error.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Fenced | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let status = status(error.kind());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(error = %error, source, "a request failed");
        }
        ApiError::new(status, error.kind(), error.to_string())
    }
}

impl From<tidemill_model::Invalid> for ApiError {
    fn from(invalid: tidemill_model::Invalid) -> ApiError {
        ApiError::invalid(invalid.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(Body { kind: self.kind, message: &self.message }).into_response();
        (self.status, body).into_response()
    }
}
