//! The node's own pages, at `/` and `/runs`: what `tidemill-page` makes of its file as it is now.
//!
//! The same addresses give JSON to those who do not ask for a page, which is how an observer shows a
//! node that answers. An app that serves the API under a router of its own has no pages: the
//! addresses are its own.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tidemill_eventlog::host::wall_now;
use tidemill_model::{ApiErrorKind, RunId};
use tidemill_page::guard::is_same_secret;
use tidemill_page::{File, FileContent, Params, Shown, Site, View, Viewer, assets, error_page};

use super::Api;
use super::error::ApiError;
use crate::error::{Error, ErrorKind};

/// A form of ours has a token and nothing else.
const FORM_BYTES_MAX: usize = 4 * 1024;

/// Answers what is none of the API's: pages, their files, and what a person does on a page.
pub(crate) async fn any(State(api): State<Arc<Api>>, request: Request) -> Response {
    let wants_page = wants_page(request.headers());
    let answered = match *request.method() {
        Method::GET | Method::HEAD => {
            let uri = request.uri().clone();
            get(&api, &uri, wants_page).await
        }
        Method::POST => act(&api, request).await,
        _ => Err(no_such_path(request.uri().path())),
    };
    answered.unwrap_or_else(|error| refused(error, wants_page))
}

async fn get(api: &Api, uri: &Uri, wants_page: bool) -> Result<Response, Error> {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if let Some(asset) = assets::Asset::ALL.into_iter().find(|asset| asset.path == path) {
        let mut response = answer(StatusCode::OK, asset.media_type, asset.content.to_owned());
        let (name, kept) = assets::KEPT;
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from_static(kept));
        return Ok(response);
    }
    let segments = tidemill_page::segments(path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (site, now) = (site(api), wall_now());
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
    let html = page.html(&site, rest).into_string();
    Ok(answer(StatusCode::OK, "text/html; charset=utf-8", html))
}

/// What a form asks for: a blocked run is tried again.
async fn act(api: &Api, request: Request) -> Result<Response, Error> {
    let path = request.uri().path().to_owned();
    let segments = tidemill_page::segments(&path)?;
    let [runs, run, resume] = segments.as_slice() else { return Err(no_such_path(&path)) };
    if (runs.as_str(), resume.as_str()) != ("runs", "resume") {
        return Err(no_such_path(&path));
    }
    let run = RunId::new(run)?;
    let body = to_bytes(request.into_body(), FORM_BYTES_MAX).await.map_err(|_| {
        Error::new(ErrorKind::Invalid, format!("a form has at most {FORM_BYTES_MAX} bytes"))
    })?;
    let sent = Params::read(&String::from_utf8_lossy(&body), &["form_token"])?;
    // The middleware has refused other origins; this refuses what our own page did not make.
    let is_ours = |given| is_same_secret(given, &api.form_token);
    if !sent.text("form_token").is_some_and(is_ours) {
        let message = "the form was not made by this process: open its page again";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    api.node.resume(&run).await?;
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain", String::new());
    if let Ok(location) = HeaderValue::from_str(&site(api).run(run.as_str())) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

fn site(api: &Api) -> Site {
    let node = api.environment.node.as_ref().map(ToString::to_string);
    Site {
        base: String::new(),
        name: node.unwrap_or_else(|| api.app.name.clone()),
        shown: Shown::Live,
        observer: None,
        viewer: Viewer { session: None, may_act: Some(api.form_token.clone()) },
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

fn refused(error: Error, wants_page: bool) -> Response {
    let status = super::error::status(ApiErrorKind::from(error.kind()));
    if !wants_page || status == StatusCode::INTERNAL_SERVER_ERROR {
        return ApiError::from(error).into_response();
    }
    let page = error_page("Not shown", &error.to_string(), &Viewer::default());
    answer(status, "text/html; charset=utf-8", page.into_string())
}

fn download(file: FileContent) -> Response {
    let FileContent { name, media_type, content } = file;
    let mut response = answer(StatusCode::OK, media_type, content);
    if let Ok(disposition) = HeaderValue::from_str(&assets::attachment(&name)) {
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

fn answer(status: StatusCode, media_type: &'static str, content: String) -> Response {
    let mut response = Response::new(Body::from(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in assets::HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
