//! `GET /v1/snapshot`: a consistent copy of the file as of one moment.

use std::fs::File;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use tidemill_eventlog::Beside;
use tokio::io::AsyncReadExt as _;

use super::Api;
use super::error::ApiError;
use super::query::Params;
use super::reference::Route;
use crate::error::{Error, ErrorKind, closed};

/// How much is sent at a time.
const CHUNK_BYTES: usize = 128 * 1024;

/// Allows one copy at a time, because each takes as much disk space as the file.
static ONE_AT_A_TIME: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);

/// `GET /v1/snapshot`.
pub(crate) async fn snapshot(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, ApiError> {
    Params::read(&uri, Route::Snapshot)?;
    let one = ONE_AT_A_TIME.acquire().await.map_err(|_| closed())?;
    let copy = Beside::new(&api.environment.path).with(".snapshot");
    // The copying continues if the caller disconnects, and keeps its path until it ends.
    let file = api.reads.copy(copy, api.closing.clone(), one).await?;
    let length = file.metadata().map_err(|e| failed("measure the copy", e))?.len();
    let headers = [
        (CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (CONTENT_DISPOSITION, "attachment; filename=\"workflow.db\"".to_owned()),
    ];
    Ok((headers, Body::from_stream(chunks(file))).into_response())
}

fn failed(what: &str, e: io::Error) -> Error {
    Error::caused(ErrorKind::Unavailable, format_args!("cannot {what} for a snapshot"), e)
}

fn chunks(file: File) -> impl futures_core::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(tokio::fs::File::from_std(file), |mut file| async move {
        let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
        let count = file.read_buf(&mut chunk).await?;
        Ok((count > 0).then(|| (chunk.freeze(), file)))
    })
}
