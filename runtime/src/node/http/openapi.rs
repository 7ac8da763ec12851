//! The API as an OpenAPI 3.1 document: `runtime/openapi.json`, which the node serves as it is.
//!
//! A test makes the document from the table of [`super::reference`] and from the types that the
//! handlers send, and holds the file to it. So no program carries the code that makes it.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

/// The document.
const DOCUMENT: &str = include_str!("../../../openapi.json");

/// `GET /v1/openapi.json`.
pub(crate) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests;
