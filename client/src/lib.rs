//! Calls to a node's HTTP API: an author's `start` and `resume` and the observer have one client.
//!
//! A call waits a bounded time for the beginning of an answer and for each piece of it. A refusal
//! becomes an error of the kind and with the words that the node gave. A future that is dropped
//! drops its request; what the node accepted meanwhile stays accepted.

mod address;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidemill_model::{Error, ErrorKind};

pub use address::NodeAddress;

/// How long connecting may take; a host that drops packets says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a node may take to begin its answer: for a snapshot it copies its whole file first,
/// 1.2 GB in 6 s on a small machine, and a slow disk may need a hundred times that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a node may pause between two pieces of its answer.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// A document is read up to this size: some ten times a page of operations with its largest one.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much of a refusal is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// A node to call. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct NodeClient {
    address: NodeAddress,
    token: Option<String>,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// An answer that is read piece by piece.
#[derive(Debug)]
pub struct Pieces<'a> {
    node: &'a NodeClient,
    body: Incoming,
}

/// What a node says when it refuses.
#[derive(Deserialize)]
struct NodeRefusal {
    /// `None` for a kind that this version does not know.
    #[serde(default, deserialize_with = "known")]
    kind: Option<ErrorKind>,
    message: String,
}

impl NodeClient {
    /// A node at an address, with the bearer token that it may want.
    pub fn new(address: NodeAddress, token: Option<String>) -> NodeClient {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let http = Client::builder(TokioExecutor::new()).build(connector);
        NodeClient { address, token, http }
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// `Unavailable` if the node does not answer, `Internal` if it answers with something else, and
    /// what it says when it refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let answer = self.send(Method::GET, path, None).await?;
        self.document(path, answer).await
    }

    /// Gets a JSON document of a path with parameters.
    ///
    /// # Errors
    /// As [`NodeClient::get`].
    pub async fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<T, Error> {
        let query =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.get(&format!("{path}?{query}")).await
    }

    /// Posts a JSON document, or nothing, and gets one.
    ///
    /// # Errors
    /// As [`NodeClient::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<String>,
    ) -> Result<T, Error> {
        let answer = self.send(Method::POST, path, body).await?;
        self.document(path, answer).await
    }

    /// Gets something large.
    ///
    /// # Errors
    /// As [`NodeClient::get`].
    pub async fn pieces(&self, path: &str) -> Result<Pieces<'_>, Error> {
        let answer = self.send(Method::GET, path, None).await?;
        Ok(Pieces { node: self, body: answer.into_body() })
    }

    async fn document<T: DeserializeOwned>(
        &self,
        path: &str,
        answer: Response<Incoming>,
    ) -> Result<T, Error> {
        let mut pieces = Pieces { node: self, body: answer.into_body() };
        let mut document = Vec::new();
        while let Some(piece) = pieces.next().await? {
            document.extend_from_slice(&piece);
            if document.len() > DOCUMENT_BYTES_MAX {
                let message = format!("{} answered {path} with over 64 MiB", self.address);
                return Err(Error::new(ErrorKind::Internal, message));
            }
        }
        serde_json::from_slice(&document).map_err(|e| {
            let what = format!("{} answered {path} with something else", self.address);
            Error::caused(ErrorKind::Internal, what, e)
        })
    }

    /// Sends a request and returns with the head of an answer that is no refusal.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default().into()));
        let request = request.map_err(|e| {
            Error::caused(ErrorKind::Invalid, format_args!("cannot ask {}", self.address), e)
        })?;
        let answer = self.within(ANSWER_TIMEOUT, self.http.request(request)).await?;
        let answer = answer.map_err(|e| self.unavailable(&e))?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(self.refused(path, answer).await)
        }
    }

    async fn within<T>(&self, bound: Duration, wait: impl Future<Output = T>) -> Result<T, Error> {
        tokio::time::timeout(bound, wait).await.map_err(|_| {
            let (node, seconds) = (&self.address, bound.as_secs());
            let message = format!("node {node} does not answer within {seconds} s: try again");
            Error::new(ErrorKind::Unavailable, message)
        })
    }

    fn unavailable(&self, error: &dyn std::error::Error) -> Error {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            why = inner.to_string();
            cause = inner.source();
        }
        let message = format!("no node answers at {} ({why}): is it running?", self.address);
        Error::new(ErrorKind::Unavailable, message)
    }

    async fn refused(&self, path: &str, answer: Response<Incoming>) -> Error {
        let status = answer.status();
        let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect();
        let bytes = match tokio::time::timeout(PIECE_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        // A tidemill node says in words what is wrong.
        let Ok(NodeRefusal { kind, message }) = serde_json::from_slice(&bytes) else {
            let what = format!("{} answered {path} with {status}", self.address);
            let message = format!("{what}: is it a tidemill node?");
            return Error::new(ErrorKind::Unavailable, message);
        };
        let hint = match status {
            StatusCode::UNAUTHORIZED => ": set TIDEMILL_TOKEN to its token",
            _ => "",
        };
        let message = format!("{}: {message}{hint}", self.address);
        Error::new(kind.unwrap_or(ErrorKind::Internal), message)
    }
}

impl Pieces<'_> {
    /// The next piece; `None` at the end of the answer.
    ///
    /// # Errors
    /// `Unavailable` if the answer breaks off or pauses for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = self.node.within(PIECE_TIMEOUT, self.body.frame()).await?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|e| self.node.unavailable(&e))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

fn known<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<ErrorKind>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(serde_json::from_value(text.into()).ok())
}

#[cfg(test)]
mod tests;
