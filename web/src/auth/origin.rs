//! What a request says about where it comes from, as [`tidemill_page::guard`] judges it. Pure.

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use tidemill_page::guard;

/// Whether a request comes from a page of ours. What is no browser sends no origin.
pub(crate) fn is_ours(uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    origin.to_str().is_ok_and(|origin| guard::is_own_origin(origin, host(uri, headers)))
}

/// Whether a request names this machine so that no foreign DNS can have led it here.
pub(crate) fn names_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    guard::names_this_machine(host(uri, headers))
}

fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let header = || headers.get(HOST).and_then(|value| value.to_str().ok());
    uri.authority().map(Authority::as_str).or_else(header).unwrap_or_default()
}
