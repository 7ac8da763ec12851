//! The node's own pages, at `/` and `/runs`: what `tidemill-page` makes of its file as it is now.
//!
//! The same addresses give JSON to those who do not ask for a page, which is how an observer shows a
//! node that answers. An app that serves the API under a router of its own has no pages: the
//! addresses are its own.
//!
//! Where the node has a token, a program sends it and a person signs in with it. Without one the
//! router has refused foreign pages before.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, LOCATION, SET_COOKIE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tidemill_eventlog::host::{boot_now, wall_now};
use tidemill_model::{ApiErrorKind, Requester, RunId};
use tidemill_page::guard::{FORM_BYTES_MAX, SIGN_IN, SIGN_OUT, Sender, Who};
use tidemill_page::run::{ASKS, followed};
use tidemill_page::{File, FileContent, Params, Shown, Site, View, Viewer, assets, error_page};

use super::error::ApiError;
use super::promise_pages::{self, Asked};
use super::{Api, events, sign_in};
use crate::error::{Error, ErrorKind};

/// Answers what is none of the API's: pages, their files, and what a person does on a page.
pub(crate) async fn any(State(api): State<Arc<Api>>, request: Request) -> Response {
    if let Some(asset) = asset(&request) {
        return asset;
    }
    let wants_page = wants_page(request.headers());
    let who = api.guard.who(&Sender::of(request.uri(), request.headers()), boot_now());
    let viewer = api.guard.viewer(&who);
    // Without a token there is nothing to sign in to.
    let path = Some(request.uri().path()).filter(|_| api.guard.tokens().are_set());
    let answered = match (request.method(), path) {
        (&Method::POST, Some(SIGN_IN)) => sign_in::sign_in(&api.guard, request).await,
        _ if let Some(asked) = promise_pages::asked(request.method(), request.uri()) => match asked
        {
            Asked::Look(id, token) => promise_pages::look(&api, (id, token), wants_page).await,
            Asked::Answer(id, verdict) => {
                let (who, asked) = ((&who, &viewer), (id, verdict));
                promise_pages::answer(&api, who, asked, request, wants_page).await
            }
        },
        _ if matches!(who, Who::Nobody) => Ok(sign_in::first(&api.guard, &request, wants_page)),
        (&Method::POST, Some(SIGN_OUT)) => sign_in::sign_out(&api.guard, request).await,
        (&Method::GET | &Method::HEAD, _) => {
            let uri = request.uri().clone();
            get(&api, &viewer, &uri, wants_page).await
        }
        (&Method::POST, _) => act(&api, (&who, &viewer), request, wants_page).await,
        _ => Err(no_such_path(request.uri().path())),
    };
    answered.unwrap_or_else(|error| refused(error, wants_page, &viewer))
}

/// One of the files that pages refer to, the form of the sign-in among them.
fn asset(request: &Request) -> Option<Response> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = Some(request.uri().path()).filter(|_| is_read)?;
    let asset = assets::Asset::ALL.into_iter().find(|asset| asset.path == path)?;
    let mut response = answer(StatusCode::OK, asset.media_type, asset.content.to_owned());
    let (name, kept) = assets::KEPT;
    response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(kept));
    Some(response)
}

async fn get(
    api: &Arc<Api>,
    viewer: &Viewer,
    uri: &Uri,
    wants_page: bool,
) -> Result<Response, Error> {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let segments = tidemill_page::segments(path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let Some((run, after)) = followed(&segments, query)? {
        let stream = events::follow_run(Arc::clone(api), run, after, events::Named::No).await;
        return Ok(stream.unwrap_or_else(ApiError::into_response));
    }
    let (site, now) = (site(api, viewer), wall_now());
    if let Some(file) = File::parse(&segments, query)? {
        let shown = site.clone();
        let file = api.reads.shown(move |connection| file.read(connection, &shown, now)).await?;
        return Ok(download(file));
    }
    let view = View::parse(&segments, query)?.ok_or_else(|| no_such_path(path))?;
    let page = api.reads.shown(move |connection| view.read(connection, now)).await?;
    if !wants_page {
        return Ok(answer(StatusCode::OK, "application/json", page.json()?));
    }
    let rest = uri.path_and_query().map_or("/", |it| it.as_str());
    Ok(html(StatusCode::OK, page.html(&site, rest)))
}

/// What a form asks of a run.
async fn act(
    api: &Api,
    (who, viewer): (&Who, &Viewer),
    request: Request,
    wants_page: bool,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let segments = tidemill_page::segments(path)?;
    let [runs, run, verb] = segments.as_slice() else { return Err(no_such_path(path)) };
    if runs != "runs" || !ASKS.contains(&verb.as_str()) {
        return Err(no_such_path(path));
    }
    let run = RunId::new(run)?;
    let sent = Params::read(&form(body).await?, &["form_token", "reason"])?;
    let sender = Sender::of(&parts.uri, &parts.headers);
    if let Some(why) = api.guard.refuses_change(who, &sender, sent.text("form_token")) {
        return Ok(not_done(why, wants_page, viewer));
    }
    let by = Requester::default().because(sent.text("reason").unwrap_or_default());
    match verb.as_str() {
        "cancel" => drop(api.node.cancel(&run, by).await?),
        "pause" => drop(api.node.pause(&run, by).await?),
        "terminate" => drop(api.node.terminate(&run, by).await?),
        _ => api.node.resume(&run).await?,
    }
    Ok(see(&site(api, viewer).run(run.as_str()), None))
}

/// The text of a form.
pub(super) async fn form(body: Body) -> Result<String, Error> {
    let bytes = to_bytes(body, FORM_BYTES_MAX).await.map_err(|_| {
        Error::new(ErrorKind::Invalid, format!("a form has at most {FORM_BYTES_MAX} bytes"))
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn site(api: &Api, viewer: &Viewer) -> Site {
    let node = api.environment.node.as_ref().map(ToString::to_string);
    Site {
        base: String::new(),
        name: node.unwrap_or_else(|| api.app.name.clone()),
        shown: Shown::Live,
        observer: None,
        viewer: viewer.clone(),
        now: wall_now(),
    }
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.into_iter().any(assets::wants_page)
}

fn no_such_path(path: &str) -> Error {
    let message = format!("there is no {path}: GET /v1 lists what there is");
    Error::new(ErrorKind::NotFound, message)
}

fn refused(error: Error, wants_page: bool, viewer: &Viewer) -> Response {
    let status = super::error::status(ApiErrorKind::from(error.kind()));
    if !wants_page || status == StatusCode::INTERNAL_SERVER_ERROR {
        return ApiError::from(error).into_response();
    }
    html(status, error_page("Not shown", &error.to_string(), viewer))
}

/// The refusal of what a form asks for.
pub(super) fn not_done(why: &str, wants_page: bool, viewer: &Viewer) -> Response {
    if !wants_page {
        return ApiError::forbidden(why.to_owned()).into_response();
    }
    html(StatusCode::FORBIDDEN, error_page("Not done", why, viewer))
}

/// Leads the browser to an address of ours.
pub(super) fn see(location: &str, cookie: Option<&str>) -> Response {
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain", String::new());
    let headers = response.headers_mut();
    let location = HeaderValue::from_str(location);
    headers.insert(LOCATION, location.unwrap_or(HeaderValue::from_static("/")));
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

/// A page.
pub(super) fn html(status: StatusCode, page: impl Into<String>) -> Response {
    answer(status, "text/html; charset=utf-8", page.into())
}

fn download(file: FileContent) -> Response {
    let FileContent { name, media_type, content } = file;
    let mut response = answer(StatusCode::OK, media_type, content);
    if let Ok(disposition) = HeaderValue::from_str(&assets::attachment(&name)) {
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

pub(super) fn answer(status: StatusCode, media_type: &'static str, content: String) -> Response {
    let mut response = Response::new(Body::from(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in assets::HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
