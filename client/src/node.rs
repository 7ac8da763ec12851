//! Calls to a node's HTTP API, for an author's `start` and `resume` and for the observer.
//!
//! A call waits a bounded time for the beginning of an answer and for each piece of it. A refusal
//! becomes an error of the kind and with the words that the node gave.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidemill_model::{ApiErrorKind, Error, ErrorKind};

use crate::address::NodeAddress;
use crate::call::{Answer, Call, CallError, Peer};

/// How long a node may take to begin its answer: for a snapshot it copies its whole file first,
/// 1.2 GB in 6 s on a small machine, and a slow disk may need a hundred times that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a node may pause between two pieces of its answer.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest document that is read: some ten times a page of operations with its largest one.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much of a refusal is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// A node to call.
#[derive(Debug, Clone)]
pub struct NodeClient {
    address: NodeAddress,
    token: Option<String>,
    /// What to do if the node refuses the token.
    advice: &'static str,
    peer: Peer,
}

/// An answer that the caller reads piece by piece.
#[derive(Debug)]
pub struct Pieces<'a> {
    node: &'a NodeClient,
    answer: Answer,
}

/// The body of a node's refusal.
#[derive(Deserialize)]
struct NodeRefusal {
    /// `None` for a kind that this version does not know.
    #[serde(default, deserialize_with = "known")]
    kind: Option<ApiErrorKind>,
    message: String,
}

impl NodeClient {
    /// A client of the node at an address, with the bearer token that the node may require.
    pub fn new(address: NodeAddress, token: Option<String>) -> NodeClient {
        let advice = "set TIDEMILL_TOKEN to its token";
        NodeClient { peer: Peer::Node(address.clone()), address, token, advice }
    }

    /// The same client, whose errors say this of a token that the node refuses.
    #[must_use]
    pub fn advising(self, advice: &'static str) -> NodeClient {
        NodeClient { advice, ..self }
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// `Unavailable` if the node does not answer, `Internal` if its answer is not the document, or
    /// the node's own error if it refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let answer = self.send(Call::get(path), path).await?;
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

    /// Posts a JSON document, or nothing, and returns the answer's document.
    ///
    /// # Errors
    /// As [`NodeClient::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<String>,
    ) -> Result<T, Error> {
        let answer = self.send(Call::post(path, body.map(Bytes::from)), path).await?;
        self.document(path, answer).await
    }

    /// As [`NodeClient::post`], with the status of the answer.
    ///
    /// # Errors
    /// As [`NodeClient::get`].
    pub async fn post_told<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<String>,
    ) -> Result<(u16, T), Error> {
        let answer = self.send(Call::post(path, body.map(Bytes::from)), path).await?;
        let status = answer.status().as_u16();
        Ok((status, self.document(path, answer).await?))
    }

    /// Gets a JSON document that the node gives with a conflict, too: a blocked run's result.
    ///
    /// # Errors
    /// As [`NodeClient::get`].
    pub async fn get_or_conflict<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.get_also(path, StatusCode::CONFLICT).await
    }

    /// Gets a JSON document that the node gives while it is not ready, too: its health.
    ///
    /// # Errors
    /// As [`NodeClient::get`].
    pub async fn get_ready_or_not<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.get_also(path, StatusCode::SERVICE_UNAVAILABLE).await
    }

    /// Gets a JSON document that the node gives with a status of its own, too.
    async fn get_also<T: DeserializeOwned>(
        &self,
        path: &str,
        also: StatusCode,
    ) -> Result<T, Error> {
        let answer = self.call(Call::get(path)).await?;
        match answer.status() {
            status if status == also || status.is_success() => self.document(path, answer).await,
            _ => Err(self.refused(path, answer).await),
        }
    }

    /// Gets a large answer, in pieces.
    ///
    /// # Errors
    /// As [`NodeClient::get`].
    pub async fn pieces(&self, path: &str) -> Result<Pieces<'_>, Error> {
        let answer = self.send(Call::get(path), path).await?;
        Ok(Pieces { node: self, answer })
    }

    async fn document<T: DeserializeOwned>(&self, path: &str, answer: Answer) -> Result<T, Error> {
        let document = answer.whole(DOCUMENT_BYTES_MAX).await.map_err(|e| match e {
            CallError::TooLarge { .. } => {
                let message = format!("{} answered {path} with over 64 MiB", self.address);
                Error::new(ErrorKind::Internal, message)
            }
            other => self.failed(other),
        })?;
        serde_json::from_slice(&document).map_err(|e| {
            let what = format!("{} answered {path} with something else", self.address);
            Error::caused(ErrorKind::Internal, what, e)
        })
    }

    /// Sends a request; returns the answer once its head has arrived, or the error of a refusal.
    async fn send(&self, call: Call<'_>, path: &str) -> Result<Answer, Error> {
        let answer = self.call(call).await?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(self.refused(path, answer).await)
        }
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Error> {
        let call = call.token(self.token.as_deref()).patience(ANSWER_TIMEOUT, PIECE_TIMEOUT);
        call.send(&self.peer).await.map_err(|e| self.failed(e))
    }

    fn failed(&self, error: CallError) -> Error {
        match error {
            CallError::Silent { within, .. } => {
                let (node, seconds) = (&self.address, within.as_secs());
                let message = format!("node {node} does not answer within {seconds} s: try again");
                Error::new(ErrorKind::Unavailable, message)
            }
            CallError::Request { source, .. } => Error::caused(
                ErrorKind::Invalid,
                format_args!("cannot ask {}", self.address),
                source,
            ),
            CallError::Connect { source, .. } => self.unavailable(&source),
            CallError::Broken { source, .. } => self.unavailable(&*source),
            CallError::TooLarge { .. } => self.unavailable(&error),
        }
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

    async fn refused(&self, path: &str, answer: Answer) -> Error {
        let status = answer.status();
        let bytes = answer.whole(REFUSAL_BYTES_MAX).await.unwrap_or_default();
        // A tidemill node always says in words what is wrong.
        let Ok(NodeRefusal { kind, message }) = serde_json::from_slice(&bytes) else {
            let what = format!("{} answered {path} with {status}", self.address);
            let message = format!("{what}: is it a tidemill node?");
            return Error::new(ErrorKind::Unavailable, message);
        };
        let message = match status {
            StatusCode::UNAUTHORIZED => format!("{}: {message}: {}", self.address, self.advice),
            _ => format!("{}: {message}", self.address),
        };
        Error::new(kind.map_or(ErrorKind::Internal, ApiErrorKind::kind), message)
    }
}

impl Pieces<'_> {
    /// The next piece; `None` at the end of the answer.
    ///
    /// # Errors
    /// `Unavailable` if the answer breaks off or pauses for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.answer.next().await.map_err(|e| self.node.failed(e))
    }
}

fn known<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<ApiErrorKind>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(serde_json::from_value(text.into()).ok())
}

#[cfg(test)]
mod tests;
