//! Who sent a request, and why the change that it asks for is refused.

use std::sync::{Mutex, PoisonError};

use tidemill_model::BootTime;

use super::sessions::{Session, Sessions};
use super::{Random, Role, Sender, Tokens, is_same_secret};
use crate::site::Viewer;

/// Who sent a request.
#[derive(Debug, Clone)]
pub enum Who {
    /// A program with a token, or anyone where no token is needed.
    Program(Role),
    /// A person who signed in.
    Person(Session),
    /// Someone unknown.
    Nobody,
}

/// Tells who sent a request: the readers' tokens and the sessions.
#[derive(Debug)]
pub struct Guard {
    tokens: Tokens,
    sessions: Mutex<Sessions>,
    /// The token of forms where there are no sessions: it shows that this process made the page.
    form_token: Random,
    /// The sentence with which the sign-in page asks for a token.
    pub(super) wants: &'static str,
}

impl Guard {
    /// A guard with these tokens. `wants` is the sentence with which the sign-in page asks for a
    /// token; `form_token` is the token of forms where readers need none.
    pub fn new(tokens: Tokens, wants: &'static str, form_token: Random) -> Guard {
        Guard { tokens, sessions: Mutex::default(), form_token, wants }
    }

    /// The tokens of readers.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Who sent this request.
    pub fn who(&self, sender: &Sender<'_>, now: BootTime) -> Who {
        if !self.tokens.are_set() {
            return Who::Program(Role::Full);
        }
        if let Some(given) = sender.bearer() {
            return self.tokens.role_of(given).map_or(Who::Nobody, Who::Program);
        }
        let found = sender.session_id().and_then(|id| self.sessions(|all| all.find(id, now)));
        found.map_or(Who::Nobody, Who::Person)
    }

    /// What the pages show to this reader.
    pub fn viewer(&self, who: &Who) -> Viewer {
        match who {
            Who::Person(session) => {
                let form_token = session.form_token.as_str().to_owned();
                let may_act = (session.role == Role::Full).then(|| form_token.clone());
                Viewer { session: Some(form_token), may_act }
            }
            Who::Program(role) => {
                let may_act = *role == Role::Full && !self.tokens.are_set();
                let form_token = may_act.then(|| self.form_token.as_str().to_owned());
                Viewer { session: None, may_act: form_token }
            }
            Who::Nobody => Viewer::default(),
        }
    }

    /// Why a request that changes something is refused; `None` if it is not. A program with a token
    /// in its header needs no form.
    pub fn refuses_change(
        &self,
        who: &Who,
        sender: &Sender<'_>,
        form_token: Option<&str>,
    ) -> Option<&'static str> {
        let expected = match who {
            Who::Nobody => return Some("sign in first"),
            Who::Program(Role::ReadOnly) | Who::Person(Session { role: Role::ReadOnly, .. }) => {
                return Some(
                    "this token may only look: sign in with the other one to change something",
                );
            }
            Who::Program(Role::Full) if self.tokens.are_set() => None,
            Who::Program(Role::Full) => Some(&self.form_token),
            Who::Person(session) => Some(&session.form_token),
        };
        // This holds for a program, too: a proxy may add the token to a browser's request.
        if !sender.is_from_our_page() {
            return Some("the request comes from a page of another origin");
        }
        let expected = expected?;
        if !form_token.is_some_and(|given| is_same_secret(given, expected.as_str())) {
            return Some(NOT_OUR_FORM);
        }
        None
    }

    /// How many people are signed in.
    pub fn signed_in(&self, now: BootTime) -> usize {
        self.sessions(|all| all.count(now))
    }

    pub(super) fn sessions<T>(&self, of: impl FnOnce(&mut Sessions) -> T) -> T {
        of(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a form without the token of its page is refused.
pub(super) const NOT_OUR_FORM: &str = "the form was not made for this session: open its page again";

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};

    use super::*;
    use crate::guard::testing::{FULL, LOOK, at, guard, headers, random, signed_in};

    /// Why a guard refuses a form that is sent with these headers.
    fn refused(guard: &Guard, sent: &HeaderMap, form_token: Option<&str>) -> Option<&'static str> {
        let uri = Uri::from_static("/runs/r/resume");
        let sender = Sender::of(&uri, sent);
        guard.refuses_change(&guard.who(&sender, at(0)), &sender, form_token)
    }

    fn viewer(guard: &Guard, sent: &HeaderMap) -> Viewer {
        guard.viewer(&guard.who(&Sender::of(&Uri::from_static("/"), sent), at(0)))
    }

    #[test]
    fn a_token_or_a_session_says_who_it_is() {
        let (guard, uri) = (guard(), Uri::from_static("/"));
        let who =
            |pairs: &[(&'static str, &str)]| guard.who(&Sender::of(&uri, &headers(pairs)), at(0));
        let bearer = |token: &str| who(&[("authorization", &format!("Bearer {token}"))]);
        assert!(matches!(bearer(FULL), Who::Program(Role::Full)));
        assert!(matches!(bearer(LOOK), Who::Program(Role::ReadOnly)));
        assert!(matches!(bearer("0123456789abcdef"), Who::Nobody));
        assert!(matches!(who(&[]), Who::Nobody));
        let sent = signed_in(&guard, LOOK);
        assert!(matches!(guard.who(&Sender::of(&uri, &sent), at(0)), Who::Person(_)));
        let later = at(super::super::LASTS.as_secs());
        assert!(matches!(guard.who(&Sender::of(&uri, &sent), later), Who::Nobody));
        let forged = [("host", "a:1"), ("cookie", "tidemill_session_1=0123")];
        assert!(matches!(who(&forged), Who::Nobody));
    }

    #[test]
    fn a_change_needs_the_token_of_the_form_and_our_origin() {
        let guard = guard();
        let sent = signed_in(&guard, FULL);
        let token = viewer(&guard, &sent).may_act.unwrap();
        assert_eq!(refused(&guard, &sent, Some(&token)), None);
        assert_eq!(refused(&guard, &sent, None), Some(NOT_OUR_FORM));
        assert_eq!(refused(&guard, &sent, Some("x")), Some(NOT_OUR_FORM));
        let mut foreign = sent.clone();
        foreign.insert("origin", "https://evil.example".parse().unwrap());
        assert!(refused(&guard, &foreign, Some(&token)).unwrap().contains("another origin"));
        assert_eq!(refused(&guard, &HeaderMap::new(), Some(&token)), Some("sign in first"));
        let other = viewer(&guard, &signed_in(&guard, FULL)).may_act.unwrap();
        assert_eq!(refused(&guard, &sent, Some(&other)), Some(NOT_OUR_FORM), "another session's");

        let sent = signed_in(&guard, LOOK);
        let viewer = viewer(&guard, &sent);
        assert_eq!(viewer.may_act, None);
        let why = refused(&guard, &sent, viewer.session.as_deref()).unwrap();
        assert!(why.contains("may only look"), "{why}");
    }

    #[test]
    fn a_program_needs_no_form_and_a_browser_behind_a_proxy_that_adds_the_token_our_origin() {
        let guard = guard();
        let bearer = ("authorization", format!("Bearer {FULL}"));
        let program = headers(&[("host", "a:1"), (bearer.0, &bearer.1)]);
        assert_eq!(refused(&guard, &program, None), None);
        let mut page = program.clone();
        page.insert("origin", "http://evil.example".parse().unwrap());
        assert!(refused(&guard, &page, None).unwrap().contains("another origin"));
        let look = headers(&[("authorization", &format!("Bearer {LOOK}"))]);
        assert!(refused(&guard, &look, None).unwrap().contains("may only look"));
    }

    #[test]
    fn without_tokens_only_our_own_pages_change_something() {
        let guard = Guard::new(Tokens::default(), "", random(7));
        let ours = headers(&[("host", "127.0.0.1:7421"), ("origin", "http://127.0.0.1:7421")]);
        let token = viewer(&guard, &ours).may_act.unwrap();
        assert_eq!(refused(&guard, &ours, Some(&token)), None);
        assert!(refused(&guard, &ours, None).is_some());
        let foreign = headers(&[("host", "127.0.0.1:7421"), ("origin", "http://evil.example")]);
        assert!(refused(&guard, &foreign, Some(&token)).is_some());
    }
}
