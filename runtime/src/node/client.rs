//! A small HTTP/1.1 client: one request a connection, over TCP to a node or over a unix socket to
//! the sidecar.
//!
//! A connection's task runs on the runtime on which the request was sent and ends with it.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// An answer is read up to this size: eight payloads, far above what these calls return.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long connecting may take; a node or sidecar is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A sidecar's socket.
    Unix(PathBuf),
    /// A node, as `HOST:PORT`, with the bearer token if it wants one.
    Tcp {
        /// `HOST:PORT`.
        address: String,
        /// What `Authorization: Bearer` carries.
        token: Option<String>,
    },
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "socket {}", path.display()),
            Target::Tcp { address, .. } => write!(f, "http://{address}"),
        }
    }
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody answers there.
    #[error("cannot reach {target}: {source}")]
    Connect {
        /// Who was called.
        target: Target,
        /// Why.
        source: std::io::Error,
    },
    /// The connection ended, or what came is not HTTP.
    #[error("the answer of {target} broke off: {what}")]
    Broken {
        /// Who was called.
        target: Target,
        /// What happened.
        what: String,
    },
}

impl CallError {
    fn broken(target: &Target, what: impl std::fmt::Display) -> CallError {
        CallError::Broken { target: target.clone(), what: what.to_string() }
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
    target: &Target,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Response<Incoming>, CallError> {
    let refused = |source| CallError::Connect { target: target.clone(), source };
    let too_slow = |_| refused(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let request = request(target, method, path, body).map_err(|e| CallError::broken(target, e))?;
    match target {
        Target::Unix(socket) => {
            let connect = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(socket));
            send(target, connect.await.map_err(too_slow)?.map_err(refused)?, request).await
        }
        Target::Tcp { address, .. } => {
            let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
            send(target, connect.await.map_err(too_slow)?.map_err(refused)?, request).await
        }
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn call(
    target: &Target,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Answer, CallError> {
    let response = open(target, method, path, body).await?;
    read(target, response).await
}

/// Reads the rest of an answer.
pub(crate) async fn read(
    target: &Target,
    response: Response<Incoming>,
) -> Result<Answer, CallError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|e| CallError::broken(target, e))?.to_bytes();
    Ok(Answer { status, body })
}

fn request(
    target: &Target,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut request = Request::builder().method(method).uri(path);
    match target {
        Target::Unix(_) => request = request.header(HOST, "localhost"),
        Target::Tcp { address, token } => {
            request = request.header(HOST, address);
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
        }
    }
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    request.body(Full::new(body.unwrap_or_default().into()))
}

async fn send<S>(
    target: &Target,
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, CallError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |e: hyper::Error| CallError::broken(target, e);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!(error = %e, "a connection of the client ended");
        }
    });
    sender.send_request(request).await.map_err(broken)
}
