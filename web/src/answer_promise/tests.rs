//! The observer passes an answer on to a node, here to one that says what a test tells it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, Method};
use axum::response::IntoResponse as _;
use serde_json::json;
use tidemill_eventlog::host::boot_now;
use tidemill_model::Timestamp;
use tidemill_observer::{Access, Cache};
use tidemill_page::guard::Tokens;

use super::*;
use crate::node_tokens::NodeTokens;
use crate::settings::Settings;

/// What a node was asked to do, and with which token: the path with its query, and the body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// Who this observer's node accepts.
const NODE_TOKEN: &str = "0123456789abcdef-node";

/// A node with one promise, which accepts what `ada` says and refuses others.
async fn node(State(asked): State<Asked>, request: Request) -> Response {
    let json = |status: u16, value: serde_json::Value| {
        let status = StatusCode::from_u16(status).unwrap();
        (status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
    };
    let bearer = format!("Bearer {NODE_TOKEN}");
    if request.headers().get("authorization").is_none_or(|it| it.as_bytes() != bearer.as_bytes()) {
        return json(401, json!({ "kind": "unauthorized", "message": "no token" }));
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().to_string();
    match (&parts.method, path.as_str()) {
        (_, "/v1/health") => json(200, json!({ "app": "demo", "status": "ok" })),
        (&Method::GET, "/promises/r:1") => json(200, promise()),
        (&Method::POST, path) => {
            let body = to_bytes(body, 1_000).await.unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            asked.lock().unwrap_or_else(PoisonError::into_inner).push((path.to_owned(), body));
            match path.contains("by=ada") {
                true => json(200, json!({ "id": "r:1" })),
                false => json(409, json!({ "kind": "conflict", "message": "ada was first" })),
            }
        }
        _ => json(404, json!({ "kind": "not_found", "message": "there is none" })),
    }
}

fn promise() -> serde_json::Value {
    json!({ "promise": {
        "id": "r:1", "run": "r", "op": 1, "name": "order", "workflow": "shop", "status": "open",
        "message": "What shall we order?", "started_at": "2026-11-20T10:00:00Z", "seq": 4,
        "schema": { "properties": { "count": { "type": "integer" } }, "required": ["count"] },
    } })
}

fn access() -> Access {
    let cache = Cache::new("/nonexistent".into());
    let now = Timestamp::from_micros(0).unwrap();
    Access { s3: tidemill_bucket::Settings::default(), cache, litestream: None, token: None, now }
}

struct World {
    service: Arc<Service>,
    address: NodeAddress,
    asked: Asked,
}

impl World {
    async fn start() -> World {
        let asked = Asked::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: NodeAddress =
            format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let node = Router::new().fallback(node).with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, node).await });
        let settings = Settings {
            fleets: Vec::new(),
            nodes: vec![address.clone()],
            listen: "127.0.0.1:0".parse().unwrap(),
            access: access(),
            node_tokens: NodeTokens::shared(Some(NODE_TOKEN.to_owned())),
            tokens: Tokens::default(),
            watch_every: Duration::from_secs(30),
        };
        let (service, _tasks) = Service::start(settings).unwrap();
        World { service, address, asked }
    }

    /// The path of the promise, where this observer shows it.
    fn path(&self) -> String {
        format!("{}/promises/r:1", live_path(&self.address))
    }

    /// Who looks at a page, and what their forms carry.
    fn asker(&self) -> (Who, Asker) {
        let headers = HeaderMap::new();
        let uri = "/".parse().unwrap();
        let who = self.service.guard.who(&Sender::of(&uri, &headers), boot_now());
        let viewer = self.service.guard.viewer(&who);
        (who, Asker { wants_page: true, viewer })
    }

    async fn post(&self, verb: &str, form: &str) -> (u16, String, String) {
        let (who, asker) = self.asker();
        let request = Request::builder().method("POST").uri(format!("{}/{verb}", self.path()));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let answer = self.service.post(request, &who, &asker).await.unwrap();
        let location = answer.headers().get(LOCATION).map(|it| it.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, location.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tokio::test]
async fn an_answer_is_passed_on_and_a_refusal_is_shown_where_it_was_typed() {
    let world = World::start().await;
    let (_, asker) = world.asker();
    let segments = ["promises".to_owned(), "r:1".to_owned()];
    let page = world.service.live(&world.address, &segments, "", &asker).await.unwrap();
    let page = to_bytes(page.into_body(), 1 << 20).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    let form = asker.viewer.may_act.clone().unwrap();
    assert!(page.contains(&format!("action=\"{}/resolve\"", world.path())), "{page}");
    assert!(page.contains(&format!("name=\"form_token\" value=\"{form}\"")), "{page}");

    let (status, ..) = world.post("resolve", "value.count=3&by=ada").await;
    assert_eq!(status, 403, "without the page's own token");
    let (status, _, page) = world.post("resolve", &format!("form_token={form}&by=ada")).await;
    assert!(status == 400 && page.contains("count: fill it in"), "{status}: {page}");
    assert!(world.asked().is_empty(), "nothing of that reached the node");

    let whole = format!("form_token={form}&value.count=3");
    let (status, location, _) = world.post("resolve", &format!("{whole}&by=ada")).await;
    assert_eq!((status, location), (303, world.path()));
    let (status, _, page) = world.post("reject", &format!("{whole}&by=b%26n&reason=no")).await;
    assert!(status == 409 && page.contains("ada was first"), "{status}: {page}");
    assert!(page.contains("value=\"b&amp;n\""), "what was typed stays: {page}");
    let asked = [
        ("/v1/promises/r:1/resolve?by=ada", "{\"count\":3}"),
        ("/v1/promises/r:1/reject?by=b%26n", "\"no\""),
    ];
    assert_eq!(world.asked(), asked.map(|(path, body)| (path.to_owned(), body.to_owned())));
}
