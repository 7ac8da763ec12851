//! The node's HTTP API, under `/v1`, on the side thread.
//!
//! The table of its requests is in [`reference`].
//!
//! An error is `{kind, message}`. On any address that is not loopback, every request but those that
//! ask for health needs the bearer token, and a page the token or a session; a node without a token
//! refuses requests of web pages of other origins. What a reply reports is durable: it is read from
//! the file, or the writer has confirmed it.
//!
//! Failure: an internal error is logged with its source and shown without it. Shutdown: the streams
//! end, requests in flight get a moment, then their connections are cut; accepted requests stay
//! accepted. A caller that disconnects cancels nothing.

mod asks;
mod auth;
mod body;
mod error;
mod events;
mod forks;
mod health;
mod metrics;
mod openapi;
mod operations;
mod page;
mod pages;
mod promise_pages;
mod promises;
mod prune;
mod query;
pub(super) mod reference;
mod runs;
mod sign_in;
mod signals;
mod snapshot;
mod view;

pub(super) use query::duration;
pub(super) use runs::{WAIT_MAX, view};

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{MethodRouter, get, post};
use tidemill_page::guard::Guard;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use self::auth::Token;
use self::error::ApiError;
pub(crate) use self::health::Readiness;
pub(crate) use self::metrics::Scraped;
use self::reference::{Endpoint, Route};
pub(crate) use self::sign_in::guard;
use super::side::SideThread;
use crate::author::App;
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
    scraped: Scraped,
    closing: CancellationToken,
    /// Who may look at the pages, and act on them.
    guard: Guard,
}

impl Api {
    pub(crate) fn new(
        node: Node,
        app: AppInfo,
        environment: Environment,
        readiness: Readiness,
        scraped: Scraped,
        guard: Guard,
    ) -> Arc<Api> {
        let (reads, closing) = (node.reads(), CancellationToken::new());
        Arc::new(Api { node, app, environment, readiness, reads, scraped, closing, guard })
    }

    /// Ends the streams and closes the readers.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.reads.close().await;
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("app", &self.app).finish_non_exhaustive()
    }
}

/// What the API says about the author's program.
#[derive(Debug, Clone)]
pub(crate) struct AppInfo {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) workflows: Vec<String>,
}

impl AppInfo {
    pub(crate) fn of(app: &App) -> AppInfo {
        AppInfo {
            name: app.name().to_owned(),
            version: app.version.clone(),
            workflows: app.workflow_names(),
        }
    }
}

/// A listening API.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    api: Arc<Api>,
    task: JoinHandle<std::io::Result<()>>,
}

/// Refuses an address that other machines could reach if there is no token.
pub(crate) fn check_exposure(listen: SocketAddr, guard: &Guard) -> Result<(), Error> {
    let loopback = match listen.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
    };
    if loopback || guard.tokens().are_set() {
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
        api: Arc<Api>,
    ) -> Result<Server, Error> {
        check_exposure(listen, &api.guard)?;
        let router = router(Arc::clone(&api), Elsewhere::Ours);
        let (stop, bound) = (api.closing.clone(), bind(side, listen).await?);
        let address = bound
            .local_addr()
            .map_err(|e| Error::caused(ErrorKind::Internal, "cannot read our address", e))?;
        let task = side.spawn(async move {
            axum::serve(bound, router).with_graceful_shutdown(stop.cancelled_owned()).await
        });
        Ok(Server { address, api, task })
    }

    /// The address that the API listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, ends the streams, gives requests in flight a moment and closes the readers.
    pub(crate) async fn stop(mut self) {
        self.api.closing.cancel();
        match tokio::time::timeout(DRAIN_MAX, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(e))) => tracing::warn!(error = %e, "the HTTP server ended with an error"),
            Ok(Err(e)) => tracing::error!(error = %e, "the HTTP server's task failed"),
            Err(_) => {
                tracing::warn!("requests are still in flight: cutting their connections");
                self.task.abort();
            }
        }
        self.api.close().await;
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

/// What becomes of a request for a path that is not the API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// It is a page of the node, or refused.
    Ours,
    /// The router that this one is merged into answers it.
    Outside,
}

/// The API, guarded by the token, or without one against foreign web pages. Pages find out for
/// themselves who looks.
pub(super) fn router(api: Arc<Api>, elsewhere: Elsewhere) -> Router {
    let routes = routes_of(|endpoint| !endpoint.open).method_not_allowed_fallback(no_such_method);
    let has_token = api.guard.tokens().are_set();
    let routes = if has_token {
        routes.layer(axum::middleware::from_fn_with_state(Arc::clone(&api), auth::check))
    } else {
        routes
    };
    let routes = match elsewhere {
        Elsewhere::Ours => routes.fallback(pages::any),
        Elsewhere::Outside => routes,
    };
    let routes =
        if has_token { routes } else { routes.layer(axum::middleware::from_fn(page::check)) };
    routes_of(|endpoint| endpoint.open).merge(routes).with_state(api)
}

/// The routes of the table that `which` picks.
fn routes_of(which: impl Fn(&Endpoint) -> bool) -> Router<Arc<Api>> {
    Route::ALL.into_iter().fold(Router::new(), |router, route| {
        let endpoint = route.endpoint();
        if which(&endpoint) { router.route(endpoint.path, handler(route)) } else { router }
    })
}

fn handler(route: Route) -> MethodRouter<Arc<Api>> {
    match route {
        Route::StartRun => post(runs::start),
        Route::ListRuns => get(runs::list),
        Route::ShowRun => get(runs::show),
        Route::ListOperations => get(operations::list),
        Route::ShowOperation => get(operations::show),
        Route::ListEvents => get(events::events),
        Route::Result => get(runs::result),
        Route::Signal => post(signals::send),
        Route::ListPromises => get(promises::list),
        Route::ShowPromise => get(promises::show),
        Route::Resolve => post(promises::resolve),
        Route::Reject => post(promises::reject),
        Route::PromiseToken => post(promises::token),
        Route::Fork => post(forks::fork),
        Route::ForkFrom => post(forks::fork_from),
        Route::Cancel => post(asks::cancel),
        Route::Pause => post(asks::pause),
        Route::Resume => post(runs::resume),
        Route::Terminate => post(asks::terminate),
        Route::Prune => post(prune::prune),
        Route::Snapshot => get(snapshot::snapshot),
        Route::Metrics => get(metrics::metrics),
        Route::Index => get(index),
        Route::OpenApi => get(openapi::document),
        Route::Health => get(health::health),
        Route::Live => get(health::live),
    }
}

/// `GET /v1`: the table of requests, for a person with `curl`.
async fn index(State(api): State<Arc<Api>>) -> String {
    let AppInfo { name, version, workflows } = &api.app;
    format!(
        "{name} {version}, a node of Tidemill {}\nworkflows: {}\n\n{}",
        env!("CARGO_PKG_VERSION"),
        workflows.join(", "),
        reference::text()
    )
}

async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> ApiError {
    ApiError::method(format!("{} does not take {method}: GET /v1 lists what there is", uri.path()))
}
