//! What a person does on the page of a promise: looks at it with its own token, and answers it.
//!
//! A form is accepted from who may act on this node, as those of runs are, or with a token of the
//! promise, which is right enough: whoever holds it needs no sign-in, and sees this promise alone.
//! A wrong token is told nothing about the promise.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tidemill_eventlog::host::wall_now;
use tidemill_model::{ApiErrorKind, PromiseId, Verdict};
use tidemill_page::guard::{Sender, Who};
use tidemill_page::promises::{ANSWER_BYTES_MAX, Attempt, Given, Holder, Posted, PromiseShown};
use tidemill_page::{Page, Viewer, with_query};

use super::error::{ApiError, status};
use super::pages::{answer as plain_answer, html, not_done, see, site};
use super::{Api, auth};
use crate::engine::AnswerRequest;
use crate::error::{Error, ErrorKind};

/// What a request asks of a promise's page.
pub(super) enum Asked {
    /// To show it to who holds this token.
    Look(PromiseId, String),
    /// To answer it.
    Answer(PromiseId, Verdict),
}

/// Who answers, and how the page is shown to them.
struct Answering<'a> {
    api: &'a Api,
    id: PromiseId,
    viewer: &'a Viewer,
    /// The promise's own token with its holder, of who has one.
    held: Option<(String, Option<String>)>,
    wants_page: bool,
}

/// What a request asks of a promise's page that is not like other pages; `None` for every other.
pub(super) fn asked(method: &Method, uri: &Uri) -> Option<Asked> {
    let segments = tidemill_page::segments(uri.path()).ok()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method, segments.as_slice()) {
        (&Method::GET | &Method::HEAD, ["promises", id]) => {
            let query = uri.query().unwrap_or_default();
            let params = tidemill_page::Params::read(query, &["token"]).ok()?;
            Some(Asked::Look(id.parse().ok()?, params.text("token")?.to_owned()))
        }
        (&Method::POST, ["promises", id, "resolve"]) => {
            Some(Asked::Answer(id.parse().ok()?, Verdict::Resolved))
        }
        (&Method::POST, ["promises", id, "reject"]) => {
            Some(Asked::Answer(id.parse().ok()?, Verdict::Rejected))
        }
        _ => None,
    }
}

/// Shows a promise to who holds a token of it.
pub(super) async fn look(
    api: &Api,
    (id, token): (PromiseId, String),
    wants_page: bool,
) -> Result<Response, Error> {
    let holder = api.node.check_promise_token(&id, &token).await?;
    let (viewer, held) = (Viewer::default(), Some((token, holder)));
    let answering = Answering { api, id, viewer: &viewer, held, wants_page };
    answering.show(None).await
}

/// Takes the answer that a form gives.
pub(super) async fn answer(
    api: &Api,
    (who, viewer): (&Who, &Viewer),
    (id, verdict): (PromiseId, Verdict),
    request: Request,
    wants_page: bool,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(|_| {
        let message = format!(
            "a form has at most {ANSWER_BYTES_MAX} bytes: send a larger answer with `tidemill resolve`"
        );
        Error::new(ErrorKind::Invalid, message)
    })?;
    let posted = Posted::read(&String::from_utf8_lossy(&bytes))?;
    let sender = Sender::of(&parts.uri, &parts.headers);
    let held = match posted.text("token") {
        Some(token) => {
            let holder = api.node.check_promise_token(&id, token).await?;
            Some((token.to_owned(), holder))
        }
        None if matches!(who, Who::Nobody) => {
            return Ok(auth::unauthorized(&sender).into_response());
        }
        None => {
            if let Some(why) = api.guard.refuses_change(who, &sender, posted.text("form_token")) {
                return Ok(not_done(why, wants_page, viewer));
            }
            None
        }
    };
    Answering { api, id, viewer, held, wants_page }.answer(verdict, posted).await
}

impl Answering<'_> {
    fn holder(&self) -> Option<Holder<'_>> {
        let (token, name) = self.held.as_ref()?;
        Some(Holder { token, name: name.as_deref() })
    }

    async fn promise(&self) -> Result<PromiseShown, Error> {
        let id = self.id.clone();
        let read = move |file: &rusqlite::Connection| PromiseShown::read(file, &id);
        let found = self.api.reads.shown(read).await?;
        let missing =
            || Error::new(ErrorKind::NotFound, format!("there is no promise `{}`", self.id));
        let found = found.ok_or_else(missing)?;
        Ok(if self.held.is_some() { found.without_values() } else { found })
    }

    /// Records the answer, and leads back to the promise; or shows it with what was typed and why
    /// that was not taken.
    async fn answer(&self, verdict: Verdict, typed: Posted) -> Result<Response, Error> {
        let given = self.promise().await?.given(verdict, &typed, self.holder());
        let Given { value, by } = match given {
            Ok(given) => given,
            Err(problems) => {
                let attempt = Attempt { typed, problems };
                return self.show(Some((ApiErrorKind::Invalid, &attempt))).await;
            }
        };
        let mut request = AnswerRequest::new(verdict, value)?;
        if let Some(by) = by {
            request = request.by(&by);
        }
        if let Some((token, _)) = &self.held {
            request = request.token(token);
        }
        match self.api.node.answer(&self.id, request).await {
            Ok(_) => Ok(see(&self.address(), None)),
            Err(error) => {
                let kind = match error.kind() {
                    // What is well formed can only be unfit for the code that waits for it.
                    ErrorKind::Invalid => ApiErrorKind::Unfit,
                    kind @ (ErrorKind::Conflict | ErrorKind::Forbidden) => kind.into(),
                    _ => return Err(error),
                };
                let attempt = Attempt { typed, problems: vec![error.to_string()] };
                self.show(Some((kind, &attempt))).await
            }
        }
    }

    /// The page of the promise, where a token keeps its place.
    fn address(&self) -> String {
        let address = tidemill_page::path(&["promises", &self.id.to_string()]);
        let token = self.held.as_ref().map(|(token, _)| token.as_str());
        with_query(&address, &[("token", token)])
    }

    /// The page, after an answer that was not taken or before any.
    async fn show(&self, refused: Option<(ApiErrorKind, &Attempt)>) -> Result<Response, Error> {
        if let Some((kind, attempt)) = refused.filter(|_| !self.wants_page) {
            return Ok(ApiError::new(kind, attempt.problems.join("; ")).into_response());
        }
        let promise = self.promise().await?;
        if !self.wants_page {
            let json = Page::Promise(Box::new(promise)).json()?;
            return Ok(plain_answer(StatusCode::OK, "application/json", json));
        }
        let status = refused.map_or(StatusCode::OK, |(kind, _)| status(kind));
        let attempt = refused.map(|(_, attempt)| attempt);
        let now = wall_now();
        let mut response = match self.holder() {
            Some(holder) => html(status, promise.page_of_holder(holder, attempt, now)),
            None => {
                let site = site(self.api, self.viewer);
                html(status, promise.page_after(&site, attempt))
            }
        };
        if self.held.is_some() {
            // The address has the token: no other page is told it.
            let policy = HeaderName::from_static("referrer-policy");
            response.headers_mut().insert(policy, HeaderValue::from_static("no-referrer"));
        }
        Ok(response)
    }
}
