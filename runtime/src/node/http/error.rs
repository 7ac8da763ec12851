//! Errors as callers see them: `{kind, message}` with a status. The node logs their causes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tidemill_model::{ApiErrorKind, ApiErrorView};

use crate::error::Error;

/// An error reply.
#[derive(Debug)]
pub(crate) struct ApiError(ApiErrorView);

impl ApiError {
    pub(super) fn new(kind: ApiErrorKind, message: impl Into<String>) -> ApiError {
        ApiError(ApiErrorView { kind, message: message.into() })
    }

    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(ApiErrorKind::Invalid, message)
    }

    pub(crate) fn method(message: String) -> ApiError {
        ApiError::new(ApiErrorKind::MethodNotAllowed, message)
    }

    pub(crate) fn unauthorized(message: &str) -> ApiError {
        ApiError::new(ApiErrorKind::Unauthorized, message)
    }

    pub(crate) fn forbidden(message: String) -> ApiError {
        ApiError::new(ApiErrorKind::Forbidden, message)
    }

    pub(crate) fn too_large(message: String) -> ApiError {
        ApiError::new(ApiErrorKind::TooLarge, message)
    }

    pub(crate) fn unfit(message: String) -> ApiError {
        ApiError::new(ApiErrorKind::Unfit, message)
    }

    pub(crate) fn media_type(message: &str) -> ApiError {
        ApiError::new(ApiErrorKind::UnsupportedMediaType, message)
    }

    /// The error as a JSON value, for a stream that has begun.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("a kind and a message have a JSON form")
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let kind = ApiErrorKind::from(error.kind());
        if kind.status() == 500 {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(error = %error, source, "a request failed");
        }
        ApiError::new(kind, error.to_string())
    }
}

impl From<tidemill_model::Invalid> for ApiError {
    fn from(invalid: tidemill_model::Invalid) -> ApiError {
        ApiError::invalid(invalid.to_string())
    }
}

/// The status of a kind of refusal.
pub(crate) fn status(kind: ApiErrorKind) -> StatusCode {
    StatusCode::from_u16(kind.status()).expect("each kind has a status of HTTP's")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (status(self.0.kind), Json(self.0)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_refusal_has_a_status_of_an_error() {
        for kind in ApiErrorKind::ALL {
            assert!(status(kind).is_client_error() || status(kind).is_server_error(), "{kind:?}");
        }
    }
}
