//! The service: its parts, its router, its beginning and its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use tidemill_bucket::NodeUrl;
use tidemill_eventlog::host::{boot_now, wall_now};
use tidemill_model::{Error, ErrorKind};
use tidemill_page::guard::{Guard, SIGN_IN, SIGN_OUT, Sender, Who};
use tidemill_page::{Viewer, plain};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::address::{Address, Addressable, node_path};
use crate::answer;
use crate::fleet::Watch;
use crate::live::LiveNodes;
use crate::metrics::metrics;
use crate::moments::Moments;
use crate::openapi;
use crate::requests::{self, Requests};
use crate::settings::Settings;
use crate::sign_in;
use crate::timelines::Timelines;

/// How long requests in flight may continue at the end.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// How long the first page waits for the first look at the fleets.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The running service.
#[derive(Debug)]
pub struct Service {
    pub(crate) known: Addressable,
    pub(crate) guard: Guard,
    pub(crate) moments: Moments,
    pub(crate) timelines: Timelines,
    pub(crate) watch: Arc<Watch>,
    pub(crate) live: Arc<LiveNodes>,
    pub(crate) requests: Requests,
}

/// Who asks, and for what form of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) wants_page: bool,
    pub(crate) viewer: Viewer,
}

/// Serves until `stop`; tells `ready` the address that it listens on.
///
/// # Errors
/// `Invalid` for settings that cannot be served; `Unavailable` if the address cannot be listened on.
pub async fn serve(
    settings: Settings,
    stop: CancellationToken,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Error> {
    settings.check()?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => ": choose another port with --listen",
            _ => "",
        };
        let message = format!("cannot listen on {}: {e}{hint}", settings.listen);
        Error::caused(ErrorKind::Unavailable, message, e)
    })?;
    let address = listener
        .local_addr()
        .map_err(|e| Error::caused(ErrorKind::Internal, "cannot read our address", e))?;
    let (service, _tasks) = Service::start(settings)?;
    ready(address);
    let closing = stop.clone();
    let served = axum::serve(listener, router(service))
        .with_graceful_shutdown(async move { closing.cancelled().await });
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        served = async { served.await } => served
            .map_err(|e| Error::caused(ErrorKind::Internal, "the HTTP server ended", e)),
        () = drained => Ok(()),
    }
}

impl Service {
    /// The parts, and the tasks that watch fleets and nodes; they end when dropped.
    pub(crate) fn start(
        settings: Settings,
    ) -> Result<(Arc<Service>, Vec<AbortOnDropHandle<()>>), Error> {
        let Settings { fleets, nodes, access, node_tokens, tokens, watch_every, .. } = settings;
        let guard = sign_in::guard(tokens)?;
        let watch = Arc::new(Watch::new(access.clone(), fleets.clone(), watch_every));
        let live = Arc::new(LiveNodes::new(node_tokens, nodes.clone()));
        let mut tasks = Vec::new();
        for fleet in fleets.clone() {
            tasks.push(AbortOnDropHandle::new(tokio::spawn(Arc::clone(&watch).fleet(fleet))));
        }
        let asking = Arc::clone(&live);
        tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                asking.ask_all().await;
                tokio::time::sleep(watch_every).await;
            }
        })));
        let service = Service {
            known: Addressable { fleets, nodes },
            guard,
            moments: Moments::new(access.clone()),
            timelines: Timelines::new(access),
            watch,
            live,
            requests: Requests::default(),
        };
        Ok((Arc::new(service), tasks))
    }

    /// Answers a request for a page or for JSON.
    async fn get(&self, uri: &Uri, asker: &Asker) -> Result<Response, Error> {
        let query = uri.query().unwrap_or_default();
        let Some(address) = self.known.address(uri.path())? else {
            let message = format!("there is no {} here: / lists the nodes", uri.path());
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        match address {
            Address::Home => self.home(asker).await,
            Address::Node(node) => self.node(&node, asker).await,
            Address::Moment(at) => self.moment(&at, query, asker).await,
            Address::Live(node, rest) => self.live(&node, &rest, query, asker).await,
        }
    }

    async fn home(&self, asker: &Asker) -> Result<Response, Error> {
        // Without an answer of the bucket the page says that it was not read yet.
        let _in_time = tokio::time::timeout(FIRST_LOOK, self.watch.first_look()).await;
        let page = self.watch.page(&self.live);
        Ok(if asker.wants_page {
            answer::page(StatusCode::OK, page.html(&asker.viewer))
        } else {
            answer::value(StatusCode::OK, &page)
        })
    }

    async fn node(&self, node: &NodeUrl, asker: &Asker) -> Result<Response, Error> {
        let timeline = self.timelines.of(node).await?;
        if !asker.wants_page {
            return Ok(answer::value(StatusCode::OK, &*timeline));
        }
        let content = timeline.html(wall_now());
        Ok(answer::page(StatusCode::OK, plain(node.node.as_str(), &asker.viewer, &content)))
    }
}

fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route(SIGN_IN, post(sign_in_now))
        .route(SIGN_OUT, post(sign_out))
        .route("/go", get(go))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(any)
        .layer(from_fn_with_state(Arc::clone(&service), guard))
        .layer(from_fn_with_state(Arc::clone(&service), requests::count))
        .with_state(service)
}

/// Lets a request through if its sender may look. Forms check for themselves who may act.
async fn guard(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let uri = request.uri();
    let sender = Sender::of(uri, request.headers());
    let wants_page = answer::wants_page(request.headers());
    if !service.guard.tokens().are_set() && !sender.names_this_machine() {
        let message = "without a token this observer answers only to an address or to localhost: \
                       set TIDEMILL_OBSERVE_TOKEN to serve it under a name";
        return answer::forbidden(message, wants_page, &Viewer::default());
    }
    if let Some(asset) = answer::asset(uri.path()) {
        return asset;
    }
    let signs_in = uri.path() == SIGN_IN && request.method() == Method::POST;
    if signs_in || !matches!(service.guard.who(&sender, boot_now()), Who::Nobody) {
        return next.run(request).await;
    }
    if wants_page && request.method() == Method::GET {
        let next = uri.path_and_query().map_or("/", |it| it.as_str());
        return answer::page(StatusCode::UNAUTHORIZED, service.guard.sign_in_page(next, None));
    }
    answer::unauthorized()
}

/// Every page and every JSON, and what a person does on a page.
async fn any(State(service): State<Arc<Service>>, request: Request) -> Response {
    let who = service.guard.who(&Sender::of(request.uri(), request.headers()), boot_now());
    let wants_page = answer::wants_page(request.headers());
    let asker = Asker { wants_page, viewer: service.guard.viewer(&who) };
    let answered = match *request.method() {
        Method::GET | Method::HEAD => service.get(request.uri(), &asker).await,
        Method::POST => service.post(request, &who, &asker).await,
        _ => Err(Error::new(ErrorKind::Invalid, "use GET, or POST for what changes something")),
    };
    answered.unwrap_or_else(|error| answer::error(&error, wants_page, &asker.viewer))
}

async fn sign_in_now(State(service): State<Arc<Service>>, request: Request) -> Response {
    let answered = sign_in::sign_in(&service.guard, request).await;
    answered.unwrap_or_else(|error| answer::error(&error, true, &Viewer::default()))
}

async fn sign_out(State(service): State<Arc<Service>>, request: Request) -> Response {
    let answered = sign_in::sign_out(&service.guard, request).await;
    answered.unwrap_or_else(|error| answer::error(&error, true, &Viewer::default()))
}

/// A moment that was typed.
#[derive(Deserialize)]
struct Go {
    node: String,
    moment: String,
}

/// Leads to a moment that was typed into a form.
async fn go(
    State(service): State<Arc<Service>>,
    axum::extract::Query(go): axum::extract::Query<Go>,
) -> Response {
    let moment = go.moment.trim().trim_start_matches('@');
    let address = service.known.address(&format!("{}@{moment}/runs", go.node));
    match address {
        Ok(Some(Address::Moment(at))) => {
            answer::see(&format!("{}@{}/runs", node_path(&at.node), at.asked), None)
        }
        Ok(_) => {
            let error = Error::new(ErrorKind::Invalid, format!("`{}` is no node", go.node));
            answer::error(&error, true, &Viewer::default())
        }
        Err(error) => answer::error(&error, true, &Viewer::default()),
    }
}
