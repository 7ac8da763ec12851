//! The body of a request: a JSON object of bounded size.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use tidemill_model::limits::FORK_SOURCE_BYTES_MAX;

use super::error::ApiError;
use super::reference::Route;

/// The largest body of a request: a payload of 1 MiB, with room for JSON escapes and labels.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How much of a body that is too large is read before its connection is cut.
const BODY_BYTES_DRAINED_MAX: usize = 32 * 1024 * 1024;

/// Reads the body that the table of the API names for this route.
pub(super) async fn object<T: DeserializeOwned>(
    request: Request,
    route: Route,
) -> Result<T, ApiError> {
    sized_object(request, route, BODY_BYTES_MAX).await
}

/// The same, for a body that may have the history of a run.
pub(super) async fn large_object<T: DeserializeOwned>(
    request: Request,
    route: Route,
) -> Result<T, ApiError> {
    sized_object(request, route, FORK_SOURCE_BYTES_MAX).await
}

async fn sized_object<T: DeserializeOwned>(
    request: Request,
    route: Route,
    bytes_max: usize,
) -> Result<T, ApiError> {
    let shape = route.endpoint().body.unwrap_or("{}");
    let body = json(request, bytes_max).await?;
    parse(&body).map_err(|why| ApiError::invalid(format!("the body is not {shape}: {why}")))
}

/// The same, for a body that may be left out.
pub(super) async fn optional_object<T: DeserializeOwned + Default>(
    request: Request,
    route: Route,
) -> Result<T, ApiError> {
    use axum::body::HttpBody as _;
    if request.body().is_end_stream() {
        return Ok(T::default());
    }
    object(request, route).await
}

/// Reads any JSON value; `null` if there is no body.
pub(super) async fn optional_value(request: Request) -> Result<tidemill_model::Json, ApiError> {
    use axum::body::HttpBody as _;
    if request.body().is_end_stream() {
        return Ok(tidemill_model::Json::null());
    }
    let body = json(request, BODY_BYTES_MAX).await?;
    let read = |body| {
        let text = std::str::from_utf8(body).map_err(|e| e.to_string())?;
        tidemill_model::Json::parse(text).map_err(|e| e.to_string())
    };
    read(&body).map_err(|why| ApiError::invalid(format!("the body is not a JSON value: {why}")))
}

/// Reads an object. An array has no names, so it is refused even if its values would fit.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match body.trim_ascii_start().first() {
        None => Err("it is empty".to_owned()),
        Some(b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => {
            Err("it is JSON, but not an object".to_owned())
        }
        Some(_) => serde_json::from_slice(body).map_err(|e| e.to_string()),
    }
}

/// The body of a request whose content type is JSON: a browser does not let a foreign web page send
/// that without asking the node first.
async fn json(request: Request, bytes_max: usize) -> Result<bytes::Bytes, ApiError> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = content_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        return Err(ApiError::media_type("send JSON, with `Content-Type: application/json`"));
    }
    whole(request.into_body(), bytes_max).await
}

/// Reads a body. Reads the rest of a body that is too large for a while and discards it: if the
/// connection were cut while the caller sends, the caller would never see why.
async fn whole(mut body: Body, bytes_max: usize) -> Result<bytes::Bytes, ApiError> {
    use http_body_util::BodyExt as _;
    let (mut kept, mut read) = (bytes::BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| ApiError::invalid(format!("the body broke off: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        read = read.saturating_add(data.len());
        if read <= bytes_max {
            kept.extend_from_slice(&data);
        } else if read > bytes_max.saturating_add(BODY_BYTES_DRAINED_MAX) {
            break;
        }
    }
    if read > bytes_max {
        return Err(ApiError::too_large(format!(
            "the body is larger than the limit of {bytes_max} bytes: put large data into your \
             own storage and its key into the input"
        )));
    }
    Ok(kept.freeze())
}
