//! One HTTP/1.1 exchange over TCP or a unix socket, on a connection of its own.
//!
//! Connecting takes a bounded time; the caller bounds the duration and the size of the answer. A
//! connection's task runs on the runtime on which the call was sent. Cancellation: dropping a call
//! or its answer closes the connection; what the peer accepted stays accepted.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::address::NodeAddress;

/// How long connecting may take: a host that drops packets never answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The server that is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A node over TCP.
    Node(NodeAddress),
    /// The server of a unix socket.
    Socket(PathBuf),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Node(address) => address.fmt(f),
            Peer::Socket(path) => write!(f, "socket {}", path.display()),
        }
    }
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No server answers there.
    #[error("cannot reach {peer}: {source}")]
    Connect {
        /// Who was called.
        peer: Peer,
        /// Why.
        source: std::io::Error,
    },
    /// The request cannot be sent to any server.
    #[error("cannot ask {peer}: {source}")]
    Request {
        /// Who was to be called.
        peer: Peer,
        /// What is wrong with it.
        source: hyper::http::Error,
    },
    /// The connection ended, or the answer is not HTTP.
    #[error("the answer of {peer} broke off: {source}")]
    Broken {
        /// Who was called.
        peer: Peer,
        /// What happened.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The answer did not begin or continue in time.
    #[error("{peer} does not answer within {} s", within.as_secs())]
    Silent {
        /// Who was called.
        peer: Peer,
        /// How long the call waited.
        within: Duration,
    },
    /// The answer is larger than the caller reads.
    #[error("the answer of {peer} has over {bytes_max} bytes")]
    TooLarge {
        /// Who was called.
        peer: Peer,
        /// How many bytes the caller would have read.
        bytes_max: usize,
    },
}

/// A request.
#[derive(Debug)]
pub struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Option<Bytes>,
    token: Option<&'a str>,
    answer_within: Option<Duration>,
    piece_within: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A `GET` request of a path.
    pub fn get(path: &'a str) -> Call<'a> {
        let method = Method::GET;
        Call { method, path, body: None, token: None, answer_within: None, piece_within: None }
    }

    /// A `POST` request to a path, with a JSON document or without a body.
    pub fn post(path: &'a str, body: Option<Bytes>) -> Call<'a> {
        Call { method: Method::POST, body, ..Call::get(path) }
    }

    /// Adds a bearer token, which the peer may require.
    #[must_use]
    pub fn token(self, token: Option<&'a str>) -> Call<'a> {
        Call { token, ..self }
    }

    /// Bounds the wait for the beginning of the answer, and for each piece of it. Without this the
    /// call waits without end.
    #[must_use]
    pub fn patience(self, answer: Duration, piece: Duration) -> Call<'a> {
        Call { answer_within: Some(answer), piece_within: Some(piece), ..self }
    }

    /// Sends the request and returns as soon as the head of the answer has arrived.
    ///
    /// # Errors
    /// [`CallError`], but never `TooLarge`.
    pub async fn send(self, peer: &Peer) -> Result<Answer, CallError> {
        let (answer_within, piece_within) = (self.answer_within, self.piece_within);
        let request = self
            .request(peer)
            .map_err(|source| CallError::Request { peer: peer.clone(), source })?;
        within(peer, answer_within, async {
            let exchange = match peer {
                Peer::Node(address) => {
                    let connect = TcpStream::connect(address.host_and_port());
                    exchange(peer, connected(peer, connect).await?, request).await
                }
                Peer::Socket(path) => {
                    let connect = UnixStream::connect(path);
                    exchange(peer, connected(peer, connect).await?, request).await
                }
            };
            exchange.map(|answer| Answer { piece_within, ..answer })
        })
        .await
    }

    fn request(self, peer: &Peer) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let host = match peer {
            Peer::Node(address) => address.host(),
            Peer::Socket(_) => "localhost",
        };
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(HOST, host)
            .header(CONNECTION, "close");
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if self.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(self.body.unwrap_or_default()))
    }
}

/// An answer whose head has arrived, and whose body may still be arriving.
#[derive(Debug)]
pub struct Answer {
    peer: Peer,
    status: StatusCode,
    body: Incoming,
    piece_within: Option<Duration>,
    _connection: Connection,
}

impl Answer {
    /// The status in its head.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The next piece; `None` at the end of the answer.
    ///
    /// # Errors
    /// `Broken` if the answer breaks off, `Silent` if it pauses for too long.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            let frame =
                within(&self.peer, self.piece_within, async { Ok(self.body.frame().await) });
            let Some(frame) = frame.await? else { return Ok(None) };
            let frame = frame.map_err(|source| broken(&self.peer, source))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The rest of the answer, up to a size.
    ///
    /// # Errors
    /// As [`Answer::next`], and `TooLarge`.
    pub async fn whole(mut self, bytes_max: usize) -> Result<Vec<u8>, CallError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > bytes_max {
                return Err(CallError::TooLarge { peer: self.peer, bytes_max });
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

/// The task that drives a connection, which is aborted when the call or its answer is dropped.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connected<S>(
    peer: &Peer,
    connect: impl Future<Output = std::io::Result<S>>,
) -> Result<S, CallError> {
    let refused = |source| CallError::Connect { peer: peer.clone(), source };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
    connected.map_err(|_| refused(std::io::ErrorKind::TimedOut.into()))?.map_err(refused)
}

async fn exchange(
    peer: &Peer,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, CallError> {
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|source| broken(peer, source))?;
    // The answer reports how the connection ends.
    let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
    let response = sender.send_request(request).await.map_err(|source| broken(peer, source))?;
    Ok(Answer {
        peer: peer.clone(),
        status: response.status(),
        body: response.into_body(),
        piece_within: None,
        _connection: connection,
    })
}

async fn within<T>(
    peer: &Peer,
    bound: Option<Duration>,
    wait: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let Some(within) = bound else { return wait.await };
    let silent = |_| CallError::Silent { peer: peer.clone(), within };
    tokio::time::timeout(within, wait).await.map_err(silent)?
}

fn broken(peer: &Peer, source: impl Into<Box<dyn StdError + Send + Sync>>) -> CallError {
    CallError::Broken { peer: peer.clone(), source: source.into() }
}

#[cfg(test)]
mod tests;
