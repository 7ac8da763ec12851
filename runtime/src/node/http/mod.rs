//! The node's HTTP API, under `/v1`, on the side thread.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/runs` `{workflow, input, id?, labels?}` | 201 with the run, 200 if it exists with the same input |
//! | `GET /v1/runs?status=&workflow=&limit=&after=` | `{runs, next}`, the newest first |
//! | `GET /v1/runs/{id}` | the run with its first 1,000 operations; `operations_next` continues |
//! | `GET /v1/runs/{id}/operations?after=OP&limit=` | `{operations, next}`, the first first; `whole=true` cuts nothing |
//! | `GET /v1/runs/{id}/operations/{op}` | one operation, whole |
//! | `GET /v1/runs/{id}/events?after=SEQ&limit=` | `{events, next}`; with `follow=true` server-sent events |
//! | `GET /v1/runs/{id}/result?wait=30s` | 200 with the end of the run, 202 while it has none |
//! | `POST /v1/runs/{id}/resume` | 200; a blocked run is tried again |
//! | `GET /v1/snapshot` | a consistent copy of the file |
//! | `GET /v1/health` | 200 while this node can act, record and ship what it did in time, else 503 |
//! | `GET /v1/live` | 200 as long as this process answers: S3 and the sidecar do not matter to it |
//!
//! An error is `{kind, message}`. On any address that is not loopback, every request but the last
//! two needs the bearer token; a node without a token refuses requests of web pages of other
//! origins. What a reply reports is durable: it is read from the file, or the writer has confirmed
//! it.
//!
//! Failure: an internal error is logged with its source and shown without it. Shutdown: the streams
//! end, requests in flight get a moment, then their connections are cut; accepted requests stay
//! accepted. A caller that disconnects cancels nothing.

mod auth;
mod error;
mod events;
mod health;
mod operations;
mod page;
mod query;
mod runs;
mod snapshot;
mod view;

pub(super) use query::duration;
pub(super) use runs::WAIT_MAX;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use self::auth::Token;
use self::error::ApiError;
pub(crate) use self::health::Readiness;
use super::side::SideThread;
use crate::engine::{Environment, Node};
use crate::error::{Error, ErrorKind};
use crate::store::Reads;

/// How long requests in flight may continue at shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What the handlers share.
pub(crate) struct Api {
    node: Node,
    app: AppInfo,
    environment: Environment,
    readiness: Readiness,
    reads: Reads,
    closing: CancellationToken,
}

/// What the API says about the author's program.
#[derive(Debug, Clone)]
pub(crate) struct AppInfo {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) workflows: Vec<String>,
}

/// A listening API.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    reads: Reads,
    closing: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

/// Refuses an address that other machines could reach if there is no token.
pub(crate) fn check_exposure(listen: SocketAddr, token: Option<&Token>) -> Result<(), Error> {
    let loopback = match listen.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
    };
    if loopback || token.is_some() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "{listen} can be reached from other machines: set TIDEMILL_TOKEN to the bearer token \
             that callers must send, or listen on 127.0.0.1"
        ),
    ))
}

impl Server {
    /// Binds the address and serves. A port of 0 takes any free one.
    pub(crate) async fn start(
        side: &SideThread,
        listen: SocketAddr,
        token: Option<Token>,
        node: Node,
        app: AppInfo,
        environment: Environment,
        readiness: Readiness,
    ) -> Result<Server, Error> {
        check_exposure(listen, token.as_ref())?;
        let reads = node.reads();
        let closing = CancellationToken::new();
        let api = Api {
            node,
            app,
            environment,
            readiness,
            reads: reads.clone(),
            closing: closing.clone(),
        };
        let router = router(Arc::new(api), token);
        let (stop, bound) = (closing.clone(), bind(side, listen).await?);
        let address = bound
            .local_addr()
            .map_err(|e| Error::caused(ErrorKind::Internal, "cannot read our address", e))?;
        let task = side.spawn(async move {
            axum::serve(bound, router).with_graceful_shutdown(stop.cancelled_owned()).await
        });
        Ok(Server { address, reads, closing, task })
    }

    /// The address that the API listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, ends the streams, gives requests in flight a moment and closes the readers.
    pub(crate) async fn stop(mut self) {
        self.closing.cancel();
        match tokio::time::timeout(DRAIN_MAX, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(e))) => tracing::warn!(error = %e, "the HTTP server ended with an error"),
            Ok(Err(e)) => tracing::error!(error = %e, "the HTTP server's task failed"),
            Err(_) => {
                tracing::warn!("requests are still in flight: cutting their connections");
                self.task.abort();
            }
        }
        self.reads.close().await;
    }
}

async fn bind(side: &SideThread, listen: SocketAddr) -> Result<TcpListener, Error> {
    side.run(async move {
        TcpListener::bind(listen).await.map_err(|e| {
            let hint = match e.kind() {
                std::io::ErrorKind::AddrInUse => ": choose another port with --listen",
                _ => "",
            };
            let message = format!("cannot listen on {listen}: {e}{hint}");
            Error::new(ErrorKind::Unavailable, message).because(e)
        })
    })
    .await
}

fn router(api: Arc<Api>, token: Option<Token>) -> Router {
    let routes = Router::new()
        .route("/v1/runs", post(runs::start).get(runs::list))
        .route("/v1/runs/{id}", get(runs::show))
        .route("/v1/runs/{id}/operations", get(operations::list))
        .route("/v1/runs/{id}/operations/{op}", get(operations::show))
        .route("/v1/runs/{id}/events", get(events::events))
        .route("/v1/runs/{id}/result", get(runs::result))
        .route("/v1/runs/{id}/resume", post(runs::resume))
        .route("/v1/snapshot", get(snapshot::snapshot))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method);
    let guarded = match token {
        Some(token) => {
            routes.layer(axum::middleware::from_fn_with_state(Arc::new(token), auth::check))
        }
        None => routes.layer(axum::middleware::from_fn(page::check)),
    };
    Router::new()
        .route("/v1/health", get(health::health))
        .route("/v1/live", get(health::live))
        .merge(guarded)
        .with_state(api)
}

async fn no_such_path(uri: axum::http::Uri) -> ApiError {
    ApiError::not_found(format!("there is no {}: see /v1/runs and /v1/health", uri.path()))
}

async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> ApiError {
    ApiError::method(format!("{} does not take {method}", uri.path()))
}
