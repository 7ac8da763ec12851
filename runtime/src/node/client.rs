//! HTTP/1.1 over the sidecar's unix socket: one request a connection.
//!
//! A connection's task runs on the runtime on which the request was sent and ends with it.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// An answer is read up to this size: eight payloads, far above what these calls return.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long connecting may take; a sidecar is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A sidecar's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SidecarSocket(pub(crate) PathBuf);

impl std::fmt::Display for SidecarSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "socket {}", self.0.display())
    }
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody answers there.
    #[error("cannot reach {socket}: {source}")]
    Connect {
        /// Who was called.
        socket: SidecarSocket,
        /// Why.
        source: std::io::Error,
    },
    /// The connection ended, or what came is not HTTP.
    #[error("the answer of {socket} broke off: {what}")]
    Broken {
        /// Who was called.
        socket: SidecarSocket,
        /// What happened.
        what: String,
    },
}

impl CallError {
    fn broken(socket: &SidecarSocket, what: impl std::fmt::Display) -> CallError {
        CallError::Broken { socket: socket.clone(), what: what.to_string() }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Sends a request and returns as soon as the head of the answer is there.
pub(crate) async fn open(
    socket: &SidecarSocket,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Response<Incoming>, CallError> {
    let refused = |source| CallError::Connect { socket: socket.clone(), source };
    let too_slow = |_| refused(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let request = request(method, path, body).map_err(|e| CallError::broken(socket, e))?;
    let connect = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&socket.0));
    let stream = connect.await.map_err(too_slow)?.map_err(refused)?;
    let broken = |e: hyper::Error| CallError::broken(socket, e);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!(error = %e, "a connection of the client ended");
        }
    });
    sender.send_request(request).await.map_err(broken)
}

/// Sends a request and reads the whole answer.
pub(crate) async fn call(
    socket: &SidecarSocket,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Answer, CallError> {
    let response = open(socket, method, path, body).await?;
    read(socket, response).await
}

/// Reads the rest of an answer.
pub(crate) async fn read(
    socket: &SidecarSocket,
    response: Response<Incoming>,
) -> Result<Answer, CallError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|e| CallError::broken(socket, e))?.to_bytes();
    Ok(Answer { status, body })
}

fn request(
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    request.body(Full::new(body.unwrap_or_default().into()))
}
