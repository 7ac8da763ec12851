//! Who may look, and who may act.
//!
//! A program sends its token with each request. A person signs in with it once, and the browser
//! then has a random session id that says nothing and ends by itself. Without tokens, on loopback,
//! everyone on the machine may look and act, but not a web page of another origin.

mod origin;
mod sessions;

pub(crate) use origin::{is_ours, names_this_machine};
pub(crate) use sessions::{LASTS, Role, Session, Sessions};

use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::{HeaderMap, Uri};
use tidemill_page::Viewer;
use tidemill_page::guard::{Token, is_same_secret};

use crate::settings::Tokens;

/// The name of the cookie that has the session's id.
pub(crate) const COOKIE_NAME: &str = "tidemill_session";

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// A program with a token, or anyone where no token is needed.
    Program(Role),
    /// A person who signed in.
    Person(Session),
    /// Nobody that is known.
    Nobody,
}

/// What is needed to tell who sent a request.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) tokens: Tokens,
    pub(crate) sessions: Sessions,
    /// What forms carry where there are no sessions: this process made the page.
    form_token: String,
}

impl Guard {
    pub(crate) fn new(tokens: Tokens) -> Guard {
        Guard { tokens, sessions: Sessions::default(), form_token: random() }
    }

    /// Who sent this request.
    pub(crate) fn who(&self, headers: &HeaderMap) -> Who {
        if !self.tokens.are_set() {
            return Who::Program(Role::Full);
        }
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(given) = header.and_then(|value| value.strip_prefix("Bearer ")) {
            return self.role_of(given).map_or(Who::Nobody, Who::Program);
        }
        match cookie(headers).and_then(|id| self.sessions.find(id)) {
            Some(session) => Who::Person(session),
            None => Who::Nobody,
        }
    }

    /// What a token lets its owner do; `None` if it is none of ours.
    pub(crate) fn role_of(&self, given: &str) -> Option<Role> {
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(given));
        // Both are compared, so that the time does not tell which one was nearly right.
        let (full, read_only) = (is(&self.tokens.full), is(&self.tokens.read_only));
        if full { Some(Role::Full) } else { read_only.then_some(Role::ReadOnly) }
    }

    /// What pages show to whoever looks.
    pub(crate) fn viewer(&self, who: &Who) -> Viewer {
        match who {
            Who::Person(session) => Viewer {
                session: Some(session.form_token.clone()),
                may_act: (session.role == Role::Full).then(|| session.form_token.clone()),
            },
            Who::Program(role) => Viewer {
                session: None,
                may_act: (*role == Role::Full && !self.tokens.are_set())
                    .then(|| self.form_token.clone()),
            },
            Who::Nobody => Viewer::default(),
        }
    }

    /// Why a request that changes something is refused; `None` if it is not. A program with a token
    /// in its header proves enough by that: no browser sends it by itself.
    pub(crate) fn refuses_change(
        &self,
        who: &Who,
        (uri, headers): (&Uri, &HeaderMap),
        form_token: Option<&str>,
    ) -> Option<String> {
        let expected = match who {
            Who::Nobody => return Some("sign in first".to_owned()),
            Who::Program(Role::ReadOnly) => return Some(may_only_look()),
            Who::Person(session) if session.role == Role::ReadOnly => return Some(may_only_look()),
            Who::Program(Role::Full) if self.tokens.are_set() => return None,
            Who::Program(Role::Full) => &self.form_token,
            Who::Person(session) => &session.form_token,
        };
        if !is_ours(uri, headers) {
            return Some("the request comes from a page of another origin".to_owned());
        }
        if !form_token.is_some_and(|given| is_same_secret(given, expected)) {
            return Some("the form was not made for this session: open its page again".to_owned());
        }
        None
    }
}

/// 32 random bytes as text.
///
/// # Panics
/// If the system has no randomness, without which no session is safe.
fn random() -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn may_only_look() -> String {
    "this token may only look: sign in with the other one to change something".to_owned()
}

/// The session id that a browser sent.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        all.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "0123456789abcdef-full";
    const LOOK: &str = "0123456789abcdef-look";

    fn guard() -> Guard {
        Guard::new(Tokens::new(Some(FULL), Some(LOOK)).unwrap())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn signed_in(guard: &Guard, token: &str) -> (HeaderMap, Who) {
        let (id, _) = guard.sessions.begin(guard.role_of(token).unwrap());
        let cookie = format!("other=1; {COOKIE_NAME}={id}");
        let sent = headers(&[
            ("cookie", &cookie),
            ("host", "observer.example:7421"),
            ("origin", "https://observer.example:7421"),
        ]);
        let who = guard.who(&sent);
        (sent, who)
    }

    #[test]
    fn a_token_or_a_session_says_who_it_is() {
        let guard = guard();
        let bearer =
            |token: &str| guard.who(&headers(&[("authorization", &format!("Bearer {token}"))]));
        assert!(matches!(bearer(FULL), Who::Program(Role::Full)));
        assert!(matches!(bearer(LOOK), Who::Program(Role::ReadOnly)));
        assert!(matches!(bearer("0123456789abcdef"), Who::Nobody));
        assert!(matches!(guard.who(&HeaderMap::new()), Who::Nobody));
        assert!(matches!(signed_in(&guard, LOOK).1, Who::Person(_)));
        let forged = headers(&[("cookie", &format!("{COOKIE_NAME}=0123"))]);
        assert!(matches!(guard.who(&forged), Who::Nobody));
    }

    #[test]
    fn a_change_needs_the_token_of_the_form_and_our_origin() {
        let guard = guard();
        let uri: Uri = "/live/x/runs/r/resume".parse().unwrap();
        let (sent, who) = signed_in(&guard, FULL);
        let token = guard.viewer(&who).may_act.unwrap();
        let refused = |sent: &HeaderMap, token| guard.refuses_change(&who, (&uri, sent), token);
        assert_eq!(refused(&sent, Some(&token)), None);
        assert!(refused(&sent, None).unwrap().contains("not made for this session"));
        assert!(refused(&sent, Some("x")).is_some());
        let mut foreign = sent.clone();
        foreign.insert("origin", "https://evil.example".parse().unwrap());
        assert!(refused(&foreign, Some(&token)).unwrap().contains("another origin"));

        let (sent, who) = signed_in(&guard, LOOK);
        let viewer = guard.viewer(&who);
        assert_eq!(viewer.may_act, None);
        let refused = guard.refuses_change(&who, (&uri, &sent), viewer.session.as_deref());
        assert!(refused.unwrap().contains("may only look"));
    }

    #[test]
    fn without_tokens_only_our_own_pages_change_something() {
        let guard = Guard::new(Tokens::default());
        let uri: Uri = "/live/x/runs/r/resume".parse().unwrap();
        let who = guard.who(&HeaderMap::new());
        let token = guard.viewer(&who).may_act.unwrap();
        let ours = headers(&[("host", "127.0.0.1:7421"), ("origin", "http://127.0.0.1:7421")]);
        assert_eq!(guard.refuses_change(&who, (&uri, &ours), Some(&token)), None);
        assert!(guard.refuses_change(&who, (&uri, &ours), None).is_some());
        let foreign = headers(&[("host", "127.0.0.1:7421"), ("origin", "http://evil.example")]);
        assert!(guard.refuses_change(&who, (&uri, &foreign), Some(&token)).is_some());
    }
}
