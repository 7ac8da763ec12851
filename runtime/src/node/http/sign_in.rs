//! Signing in to the pages of a node that has a token: what [`tidemill_page::guard`] decides, over
//! HTTP.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tidemill_eventlog::host::{boot_now, random};
use tidemill_page::Viewer;
use tidemill_page::guard::{Guard, REFUSAL_TAKES, Random, Sender, SignedIn, Token, Tokens};

use super::auth;
use super::pages::{form, html, not_done, see};
use crate::error::Error;

/// What the sign-in asks for.
const WANTS: &str = "This node wants its token: the value of TIDEMILL_TOKEN.";

/// The guard of a node.
///
/// # Errors
/// `Internal` if the kernel gives no random bytes.
pub(crate) fn guard(token: Option<Token>) -> Result<Guard, Error> {
    Ok(Guard::new(Tokens::one(token), WANTS, Random::of(random()?)))
}

/// Answers who is not signed in: a browser with the form, a program with an error.
pub(super) fn first(guard: &Guard, request: &Request, wants_page: bool) -> Response {
    let uri = request.uri();
    if wants_page && request.method() == Method::GET {
        let next = uri.path_and_query().map_or("/", |it| it.as_str());
        return html(StatusCode::UNAUTHORIZED, guard.sign_in_page(next, None));
    }
    auth::unauthorized(&Sender::of(uri, request.headers())).into_response()
}

/// Begins a session for who has the token.
pub(super) async fn sign_in(guard: &Guard, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let form = form(body).await?;
    let fresh = (Random::of(random()?), Random::of(random()?));
    let sender = Sender::of(&parts.uri, &parts.headers);
    Ok(answer(guard.sign_in(&sender, &form, fresh, boot_now())?).await)
}

/// Ends the session.
pub(super) async fn sign_out(guard: &Guard, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let form = form(body).await?;
    let sender = Sender::of(&parts.uri, &parts.headers);
    Ok(answer(guard.sign_out(&sender, &form, boot_now())?).await)
}

async fn answer(signed_in: SignedIn) -> Response {
    match signed_in {
        SignedIn::Onward { location, cookie } => see(&location, Some(&cookie)),
        SignedIn::WrongToken(page) => {
            tokio::time::sleep(REFUSAL_TAKES).await;
            html(StatusCode::UNAUTHORIZED, page)
        }
        SignedIn::Refused(why) => not_done(why, true, &Viewer::default()),
    }
}
