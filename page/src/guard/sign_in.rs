//! Signing in and out: a person sends a token once, and the browser then carries a session.

use std::time::Duration;

use maud::{Markup, html};
use tidemill_model::{BootTime, Error};

use super::who::NOT_OUR_FORM;
use super::{Guard, LASTS, Random, Sender, is_same_secret};
use crate::params::Params;
use crate::shell::plain;
use crate::site::Viewer;

/// Where the sign-in form is sent.
pub const SIGN_IN: &str = "/sign-in";

/// Where the button that ends a session leads.
pub const SIGN_OUT: &str = "/sign-out";

/// How long the refusal of a wrong token takes, so that guessing takes too long to be worth it.
pub const REFUSAL_TAKES: Duration = Duration::from_millis(500);

/// The largest form: a token, and the address to open next, which may contain an SQL statement.
pub const FORM_BYTES_MAX: usize = 64 * 1024;

/// The answer to someone who signs in or out.
#[derive(Debug)]
pub enum SignedIn {
    /// Send the browser to this address of ours with 303, and give it this cookie.
    Onward {
        /// The address, a path.
        location: String,
        /// The text of `Set-Cookie`.
        cookie: String,
    },
    /// Show this form again with 401, after [`REFUSAL_TAKES`].
    WrongToken(Markup),
    /// Refuse the request with 403, for this reason.
    Refused(&'static str),
}

impl Guard {
    /// The page with the form. `next` is where the reader wanted to go.
    pub fn sign_in_page(&self, next: &str, problem: Option<&str>) -> Markup {
        let content = html! {
            h1 { "Sign in" }
            @if let Some(problem) = problem { p.error role="alert" { (problem) } }
            form.card method="post" action=(SIGN_IN) {
                p { (self.wants) }
                p { label { "Token " input type="password" name="token" autocomplete="current-password" required autofocus size="40"; } }
                input type="hidden" name="next" value=(next);
                p { button.main { "Sign in" } }
            }
        };
        plain("Sign in", &Viewer::default(), &content)
    }

    /// Begins a session for the sender of a form with a valid token. `fresh` is the session's id
    /// and the token of its forms.
    ///
    /// # Errors
    /// `Invalid` if the body is not one of our forms.
    pub fn sign_in(
        &self,
        sender: &Sender<'_>,
        form: &str,
        (id, form_token): (Random, Random),
        now: BootTime,
    ) -> Result<SignedIn, Error> {
        if !sender.is_from_our_page() {
            return Ok(SignedIn::Refused("the form was sent by a page of another origin"));
        }
        let sent = Params::read(form, &["token", "next"])?;
        let next = local(sent.text("next").unwrap_or_default());
        let Some(role) = self.tokens().role_of(sent.text("token").unwrap_or_default()) else {
            let page = self.sign_in_page(next, Some("The token is wrong."));
            return Ok(SignedIn::WrongToken(page));
        };
        self.sessions(|all| all.begin(role, &id, form_token, now));
        let cookie = set_cookie(sender, id.as_str(), LASTS);
        Ok(SignedIn::Onward { location: next.to_owned(), cookie })
    }

    /// Ends the session of the form's sender.
    ///
    /// # Errors
    /// `Invalid` if the body is not one of our forms.
    pub fn sign_out(
        &self,
        sender: &Sender<'_>,
        form: &str,
        now: BootTime,
    ) -> Result<SignedIn, Error> {
        let sent = Params::read(form, &["form_token"])?;
        let given = sent.text("form_token").unwrap_or_default();
        let id = sender.session_id();
        let session = id.and_then(|id| Some((id, self.sessions(|all| all.find(id, now))?)));
        if let Some((id, session)) = session {
            // A foreign page must not be able to sign a person out.
            let is_ours = is_same_secret(given, session.form_token.as_str());
            if !sender.is_from_our_page() || !is_ours {
                return Ok(SignedIn::Refused(NOT_OUR_FORM));
            }
            self.sessions(|all| all.end(id));
        }
        let cookie = set_cookie(sender, "", Duration::ZERO);
        Ok(SignedIn::Onward { location: "/".to_owned(), cookie })
    }
}

fn set_cookie(sender: &Sender<'_>, id: &str, lasts: Duration) -> String {
    let (name, seconds) = (sender.cookie_name(), lasts.as_secs());
    let secure = if sender.is_behind_tls { "; Secure" } else { "" };
    // Lax: a shared link opens with the session; a form of another origin is sent without it.
    format!("{name}={id}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}")
}

/// A path of ours to open next. Anything else could lead to another site, and the addresses of the
/// forms show nothing.
fn local(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    let is_page = next != SIGN_IN && next != SIGN_OUT;
    if is_path && is_page && next.chars().all(|c| !c.is_control()) { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};

    use super::*;
    use crate::guard::Who;
    use crate::guard::testing::{FULL, at, guard, headers, random, signed_in};

    fn sign_in(guard: &Guard, sent: &HeaderMap, form: &str) -> SignedIn {
        let uri = Uri::from_static(SIGN_IN);
        let fresh = (random(1), random(2));
        guard.sign_in(&Sender::of(&uri, sent), form, fresh, at(0)).unwrap()
    }

    fn browser() -> HeaderMap {
        headers(&[("host", "a.example:1"), ("origin", "http://a.example:1")])
    }

    #[test]
    fn the_way_on_is_ours() {
        for ours in ["/s3/b/f/n1@latest/runs?status=failed", "/sql?q=SELECT+'//'"] {
            assert_eq!(local(ours), ours);
        }
        let elsewhere = ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\nb"];
        for elsewhere in elsewhere.into_iter().chain([SIGN_IN, SIGN_OUT]) {
            assert_eq!(local(elsewhere), "/", "{elsewhere:?}");
        }
    }

    #[test]
    fn the_right_token_begins_a_session_of_the_browser_alone() {
        let guard = guard();
        let form = format!("token={FULL}&next=%2Fruns%3Fpage%3D2");
        let SignedIn::Onward { location, cookie } = sign_in(&guard, &browser(), &form) else {
            panic!("signed in")
        };
        assert_eq!(location, "/runs?page=2");
        let id = random(1);
        let expected = format!(
            "tidemill_session_1={}; Path=/; HttpOnly; SameSite=Lax; Max-Age=43200",
            id.as_str()
        );
        assert_eq!(cookie, expected);
        let mut tls = browser();
        tls.insert("x-forwarded-proto", "https".parse().unwrap());
        let SignedIn::Onward { cookie, .. } = sign_in(&guard, &tls, &form) else {
            panic!("signed in")
        };
        assert_eq!(cookie, format!("{expected}; Secure"));
    }

    #[test]
    fn a_wrong_token_and_a_foreign_form_begin_none() {
        let guard = guard();
        let form = "token=0123456789abcdef&next=/runs";
        let SignedIn::WrongToken(page) = sign_in(&guard, &browser(), form) else {
            panic!("refused")
        };
        let page = page.into_string();
        assert!(page.contains("The token is wrong") && page.contains("value=\"/runs\""), "{page}");
        assert!(!page.contains("0123456789abcdef"), "what was typed is not told: {page}");
        let foreign = headers(&[("host", "a.example:1"), ("origin", "http://b.example")]);
        let form = format!("token={FULL}");
        assert!(matches!(sign_in(&guard, &foreign, &form), SignedIn::Refused(_)));
        let id = format!("tidemill_session_1={}", random(1).as_str());
        let sent = headers(&[("host", "a.example:1"), ("cookie", &id)]);
        let uri = Uri::from_static("/");
        assert!(matches!(guard.who(&Sender::of(&uri, &sent), at(0)), Who::Nobody));
    }

    #[test]
    fn only_the_form_of_its_own_page_ends_a_session() {
        let (guard, uri) = (guard(), Uri::from_static("/sign-out"));
        let sent = signed_in(&guard, FULL);
        let who = || guard.who(&Sender::of(&uri, &sent), at(0));
        let token = guard.viewer(&who()).session.unwrap();
        let sign_out =
            |sent: &HeaderMap, form: &str| guard.sign_out(&Sender::of(&uri, sent), form, at(0));
        assert!(matches!(sign_out(&sent, "").unwrap(), SignedIn::Refused(NOT_OUR_FORM)));
        let mut foreign = sent.clone();
        foreign.insert("origin", "http://evil.example".parse().unwrap());
        let form = format!("form_token={token}");
        assert!(matches!(sign_out(&foreign, &form).unwrap(), SignedIn::Refused(_)));
        assert!(matches!(who(), Who::Person(_)));
        let SignedIn::Onward { location, cookie } = sign_out(&sent, &form).unwrap() else {
            panic!("signed out")
        };
        assert_eq!(location, "/");
        assert!(cookie.contains("=; ") && cookie.contains("Max-Age=0"), "{cookie}");
        assert!(matches!(who(), Who::Nobody));
    }
}
