//! The bearer token, with which programs call the API of a node that has one.
//!
//! A session of the pages opens nothing here: no browser sends a token by itself, so a foreign page
//! cannot make one start a run, and what the API does needs no token of a form.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
pub(crate) use tidemill_page::guard::Token;
use tidemill_page::guard::{Role, Sender};

use super::Api;
use super::error::ApiError;
use super::promises;

/// Passes a request on only if it has the token.
pub(crate) async fn check(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let sender = Sender::of(request.uri(), request.headers());
    let role = sender.bearer().and_then(|given| api.guard.tokens().role_of(given));
    let has_own_token = role.is_none() && promises::carries_token(&request);
    if role != Some(Role::Full) && !has_own_token {
        return unauthorized(&sender).into_response();
    }
    next.run(request).await
}

/// The refusal of a program without the right token.
pub(super) fn unauthorized(sender: &Sender<'_>) -> ApiError {
    ApiError::unauthorized(match sender.bearer() {
        Some(_) => "the bearer token is wrong",
        None => "this node wants a bearer token: send `Authorization: Bearer TOKEN`",
    })
}
