//! Signing in and out: a token once, then a session that the browser carries.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use tidemill_page::guard::is_same_secret;
use tidemill_page::{Viewer, plain};

use crate::answer;
use crate::auth::{COOKIE_NAME, Guard, LASTS, cookie, is_ours};

/// How long a wrong token takes to be refused: guessing many takes for ever.
const REFUSAL_TAKES: Duration = Duration::from_millis(500);

/// What the form sends.
#[derive(Deserialize)]
pub(crate) struct SignIn {
    token: String,
    #[serde(default)]
    next: String,
}

/// What the button of a page sends.
#[derive(Deserialize)]
pub(crate) struct SignOut {
    #[serde(default)]
    form_token: String,
}

/// The page with the form. `next` is where the reader wanted to go.
pub(crate) fn form(next: &str, problem: Option<&str>) -> Markup {
    let content = html! {
        h1 { "Sign in" }
        @if let Some(problem) = problem { p.error role="alert" { (problem) } }
        form.card method="post" action="/sign-in" {
            p { "This observer wants a token: the value of TIDEMILL_OBSERVE_TOKEN, or of TIDEMILL_OBSERVE_READ_TOKEN to look only." }
            p { label { "Token " input type="password" name="token" autocomplete="current-password" required autofocus size="40"; } }
            input type="hidden" name="next" value=(next);
            p { button.main { "Sign in" } }
        }
    };
    plain("Sign in", &Viewer::default(), &content)
}

/// Begins a session for who has a token.
pub(crate) async fn sign_in(
    guard: &Guard,
    uri: &Uri,
    headers: &HeaderMap,
    sent: SignIn,
) -> Response {
    let next = local(&sent.next);
    if !is_ours(uri, headers) {
        return answer::forbidden(
            "the form was sent by a page of another origin",
            true,
            &Viewer::default(),
        );
    }
    let Some(role) = guard.role_of(&sent.token) else {
        tokio::time::sleep(REFUSAL_TAKES).await;
        return answer::page(StatusCode::UNAUTHORIZED, form(next, Some("The token is wrong.")));
    };
    let (id, _) = guard.sessions.begin(role);
    answer::see(next, Some(&set_cookie(&id, LASTS.as_secs(), is_behind_tls(headers))))
}

/// Ends the session.
pub(crate) fn sign_out(guard: &Guard, uri: &Uri, headers: &HeaderMap, sent: &SignOut) -> Response {
    let session = cookie(headers).and_then(|id| Some((id, guard.sessions.find(id)?)));
    if let Some((id, session)) = session {
        // A foreign page must not be able to sign somebody out.
        if !is_ours(uri, headers) || !is_same_secret(&sent.form_token, &session.form_token) {
            let why = "the form was not made for this session: open its page again";
            return answer::forbidden(why, true, &Viewer::default());
        }
        guard.sessions.end(id);
    }
    answer::see("/", Some(&set_cookie("", 0, is_behind_tls(headers))))
}

fn set_cookie(id: &str, seconds: u64, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    // Lax: a link that somebody shared opens; a form of another origin is sent without it.
    format!("{COOKIE_NAME}={id}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}")
}

/// Whether the proxy before us says that the browser came by TLS.
fn is_behind_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https")
}

/// A path of ours to go on to; anything else could lead elsewhere.
fn local(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    if is_path && next.chars().all(|c| !c.is_control()) { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_is_ours() {
        assert_eq!(
            local("/s3/b/f/n1@latest/runs?status=failed"),
            "/s3/b/f/n1@latest/runs?status=failed"
        );
        for elsewhere in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\nb"]
        {
            assert_eq!(local(elsewhere), "/", "{elsewhere:?}");
        }
    }

    #[test]
    fn the_cookie_is_of_the_browser_alone() {
        let cookie = set_cookie("abc", 60, true);
        assert_eq!(
            cookie,
            "tidemill_session=abc; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
        );
        assert!(!set_cookie("abc", 60, false).contains("Secure"));
    }
}
