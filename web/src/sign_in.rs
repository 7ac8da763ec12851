//! Signing in and out: what [`tidemill_page::guard`] decides, over HTTP.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tidemill_eventlog::host::{boot_now, random};
use tidemill_model::{Error, ErrorKind};
use tidemill_page::Viewer;
use tidemill_page::guard::{
    FORM_BYTES_MAX, Guard, REFUSAL_TAKES, Random, Sender, SignedIn, Tokens,
};

use crate::answer;

/// What the sign-in asks for.
const WANTS: &str = "This observer wants a token: the value of TIDEMILL_OBSERVE_TOKEN, or of \
                     TIDEMILL_OBSERVE_READ_TOKEN to look only.";

/// The guard of the service.
///
/// # Errors
/// `Internal` if the kernel gives no random bytes.
pub(crate) fn guard(tokens: Tokens) -> Result<Guard, Error> {
    Ok(Guard::new(tokens, WANTS, Random::of(random()?)))
}

/// Begins a session for who has a token.
pub(crate) async fn sign_in(guard: &Guard, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let form = form(&parts.headers, body).await?;
    let fresh = (Random::of(random()?), Random::of(random()?));
    let sender = Sender::of(&parts.uri, &parts.headers);
    answer(guard.sign_in(&sender, &form, fresh, boot_now())?).await
}

/// Ends the session.
pub(crate) async fn sign_out(guard: &Guard, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let form = form(&parts.headers, body).await?;
    let sender = Sender::of(&parts.uri, &parts.headers);
    answer(guard.sign_out(&sender, &form, boot_now())?).await
}

async fn answer(signed_in: SignedIn) -> Result<Response, Error> {
    Ok(match signed_in {
        SignedIn::Onward { location, cookie } => answer::see(&location, Some(&cookie)),
        SignedIn::WrongToken(page) => {
            tokio::time::sleep(REFUSAL_TAKES).await;
            answer::page(StatusCode::UNAUTHORIZED, page)
        }
        SignedIn::Refused(why) => answer::forbidden(why, true, &Viewer::default()),
    })
}

/// The text of a form; a body of another kind has nothing of ours in it.
pub(crate) async fn form(headers: &HeaderMap, body: Body) -> Result<String, Error> {
    let is_form = headers
        .get(axum::http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let bytes = to_bytes(body, FORM_BYTES_MAX).await.map_err(|_| {
        Error::new(ErrorKind::Invalid, format!("a form has at most {FORM_BYTES_MAX} bytes"))
    })?;
    Ok(if is_form { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() })
}
