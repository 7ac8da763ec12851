//! Answers: a page for people, JSON for programs, and the headers that guard both.

use axum::body::Body;
use axum::http::header::{
    ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, LOCATION, SET_COOKIE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use maud::Markup;
use tidemill_model::{ApiErrorKind, Error, ErrorKind};
use tidemill_page::{Viewer, assets, error_page};

/// Whether a request asks for a page: browsers do, and what is no browser gets JSON.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.into_iter().any(assets::wants_page)
}

/// A page.
pub(crate) fn page(status: StatusCode, page: Markup) -> Response {
    answer(status, "text/html; charset=utf-8", Body::from(page.into_string()))
}

/// JSON.
pub(crate) fn json(status: StatusCode, json: String) -> Response {
    answer(status, "application/json", Body::from(json))
}

/// A value as JSON.
pub(crate) fn value<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => json(status, text),
        Err(e) => {
            tracing::error!(error = %e, "an answer has no JSON form");
            json(StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned())
        }
    }
}

/// A file to be kept, under this name.
pub(crate) fn download(media_type: &str, name: &str, body: Body) -> Response {
    let mut response = answer(StatusCode::OK, media_type, body);
    if let Ok(disposition) = HeaderValue::from_str(&assets::attachment(name)) {
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

/// A text for programs.
pub(crate) fn text(media_type: &str, text: String) -> Response {
    answer(StatusCode::OK, media_type, Body::from(text))
}

/// An answer that comes as a node gives it.
pub(crate) fn stream(media_type: &str, body: Body) -> Response {
    answer(StatusCode::OK, media_type, body)
}

/// One of the files that pages refer to; its address changes with its content.
pub(crate) fn asset(path: &str) -> Option<Response> {
    let asset = assets::Asset::ALL.into_iter().find(|asset| asset.path == path)?;
    let mut response = answer(StatusCode::OK, asset.media_type, Body::from(asset.content));
    let (name, kept) = assets::KEPT;
    response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(kept));
    Some(response)
}

/// Sends the browser on.
pub(crate) fn see(location: &str, cookie: Option<&str>) -> Response {
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain", Body::empty());
    let headers = response.headers_mut();
    match HeaderValue::from_str(location) {
        Ok(location) => drop(headers.insert(LOCATION, location)),
        Err(_) => drop(headers.insert(LOCATION, HeaderValue::from_static("/"))),
    }
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

/// An error, as a page or as the JSON that a node's API has for errors.
pub(crate) fn error(error: &Error, wants_page: bool, viewer: &Viewer) -> Response {
    let (status, kind) = status_of(error.kind());
    let message = if error.kind() == ErrorKind::Internal {
        tracing::error!(%error, "a request failed");
        "something is wrong in the observer itself: its log says what".to_owned()
    } else {
        error.to_string()
    };
    if wants_page {
        return page(status, error_page(heading(status), &message, viewer));
    }
    value(status, &serde_json::json!({ "kind": kind, "message": message }))
}

/// Nobody looks without a token.
pub(crate) fn unauthorized() -> Response {
    let message = "this observer wants a token: send `Authorization: Bearer TOKEN`";
    let body = serde_json::json!({ "kind": ApiErrorKind::Unauthorized, "message": message });
    value(StatusCode::UNAUTHORIZED, &body)
}

/// A request that may not be done.
pub(crate) fn forbidden(message: &str, wants_page: bool, viewer: &Viewer) -> Response {
    if wants_page {
        return page(StatusCode::FORBIDDEN, error_page("Not done", message, viewer));
    }
    let body = serde_json::json!({ "kind": ApiErrorKind::Forbidden, "message": message });
    value(StatusCode::FORBIDDEN, &body)
}

/// The status of an error.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    status_of(kind).0
}

fn status_of(kind: ErrorKind) -> (StatusCode, ApiErrorKind) {
    match kind {
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, ApiErrorKind::Invalid),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, ApiErrorKind::NotFound),
        ErrorKind::Forbidden => (StatusCode::FORBIDDEN, ApiErrorKind::Forbidden),
        ErrorKind::Conflict => (StatusCode::CONFLICT, ApiErrorKind::Conflict),
        ErrorKind::Fenced => (StatusCode::SERVICE_UNAVAILABLE, ApiErrorKind::Fenced),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, ApiErrorKind::Unavailable),
        ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, ApiErrorKind::Corrupt),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, ApiErrorKind::Internal),
    }
}

fn heading(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The address is wrong",
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::CONFLICT => "Not possible now",
        StatusCode::SERVICE_UNAVAILABLE => "Not reachable",
        _ => "Something is wrong",
    }
}

fn answer(status: StatusCode, media_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(media_type) = HeaderValue::from_str(media_type) {
        headers.insert(CONTENT_TYPE, media_type);
    }
    for (name, value) in assets::HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
