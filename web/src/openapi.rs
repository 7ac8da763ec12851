//! The addresses as an OpenAPI 3.1 document: `web/openapi.json`, which the observer serves as it is.
//!
//! A test makes the document from the table of [`super::reference`] and from the types that pages and
//! the node's API show, and holds the file to it. So no program carries the code that makes it.

use axum::http::StatusCode;
use axum::response::Response;

use crate::answer;

/// The document.
const DOCUMENT: &str = include_str!("../openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn document() -> Response {
    answer::json(StatusCode::OK, DOCUMENT.to_owned())
}

#[cfg(test)]
mod tests;
