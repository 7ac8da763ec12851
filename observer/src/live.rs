//! A copy of a live node's file, through `GET /v1/snapshot`.
//!
//! The node makes a consistent copy; it is written to a file as it arrives, so its size does not
//! matter to memory. On failure or cancellation the caller's folder is dropped with what arrived.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::AsyncWriteExt as _;

use crate::error::{Error, ErrorKind, Result};
use crate::source::NodeAddress;

/// How long a node may take to begin its answer: it copies its whole file first, 1.2 GB in 6 s on a
/// small machine, and a slow disk may need a hundred times that for a large one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a node may pause between two pieces of its answer.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// How much of a refusal is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Copies the node's file to `to`.
///
/// # Errors
/// `Unavailable` if the node does not answer; else what the node says.
pub(crate) async fn fetch(address: &NodeAddress, token: Option<&str>, to: &Path) -> Result<()> {
    let reply = send(address, token).await?;
    if reply.status() != StatusCode::OK {
        return Err(refused(address, reply).await);
    }
    let mut file =
        tokio::fs::File::create(to).await.map_err(|e| Error::io("write a snapshot to", to, e))?;
    let mut body = reply.into_body();
    while let Some(frame) = within(address, PIECE_TIMEOUT, body.frame()).await? {
        let frame = frame.map_err(|e| unavailable(address, &e))?;
        if let Ok(data) = frame.into_data() {
            file.write_all(&data).await.map_err(|e| Error::io("write a snapshot to", to, e))?;
        }
    }
    file.flush().await.map_err(|e| Error::io("write a snapshot to", to, e))
}

async fn send(address: &NodeAddress, token: Option<&str>) -> Result<Response<Incoming>> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::get(format!("{}/v1/snapshot", address.as_str()));
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::new()).map_err(|e| {
        Error::new(ErrorKind::Invalid, format!("cannot ask {}: {e}", address.as_str()))
    })?;
    within(address, ANSWER_TIMEOUT, client.request(request))
        .await?
        .map_err(|e| unavailable(address, &e))
}

async fn within<T>(
    address: &NodeAddress,
    bound: Duration,
    wait: impl Future<Output = T>,
) -> Result<T> {
    tokio::time::timeout(bound, wait).await.map_err(|_| {
        let (node, seconds) = (address.as_str(), bound.as_secs());
        let message = format!("node {node} does not answer within {seconds} s: try again");
        Error::new(ErrorKind::Unavailable, message)
    })
}

fn unavailable(address: &NodeAddress, error: &dyn std::error::Error) -> Error {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        why = inner.to_string();
        cause = inner.source();
    }
    let message = format!("no node answers at {} ({why}): is it running?", address.as_str());
    Error::new(ErrorKind::Unavailable, message)
}

/// A refusal in the node's own words, `{"kind", "message"}`.
async fn refused(address: &NodeAddress, reply: Response<Incoming>) -> Error {
    let status = reply.status();
    let body = http_body_util::Limited::new(reply.into_body(), REFUSAL_BYTES_MAX);
    let bytes = match tokio::time::timeout(PIECE_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    let said: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let said = said.as_ref().and_then(|body| body.get("message")?.as_str());
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Invalid,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ", set TIDEMILL_TOKEN to its token",
        StatusCode::NOT_FOUND => ": is it a tidemill node?",
        // A tidemill node says in words what is wrong.
        _ if said.is_none() => ": is it a tidemill node?",
        _ => "",
    };
    let said = said.map_or_else(String::new, |said| format!(": {said}"));
    let message = format!("{} refused a snapshot ({status}){said}{hint}", address.as_str());
    Error::new(kind, message)
}
