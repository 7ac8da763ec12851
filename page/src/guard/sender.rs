//! What a request tells about its sender: the host that it addresses, the page that it comes from,
//! and its credentials.

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::{is_own_origin, names_this_machine};

/// The prefix of the session cookie's name.
const COOKIE_NAME: &str = "tidemill_session";

/// Stands in for a header that is not text: no host, origin or token of ours equals it.
const NO_TEXT: &str = "\u{fffd}";

/// The sender of a request, according to its headers.
#[derive(Debug, Clone)]
pub struct Sender<'a> {
    host: &'a str,
    origin: Option<&'a str>,
    bearer: Option<&'a str>,
    cookies: Vec<&'a str>,
    pub(super) is_behind_tls: bool,
}

impl<'a> Sender<'a> {
    /// Reads the sender from a request's address and headers.
    pub fn of(uri: &'a Uri, headers: &'a HeaderMap) -> Sender<'a> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(NO_TEXT));
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        Sender {
            host: uri.authority().map(Authority::as_str).or(text(HOST)).unwrap_or_default(),
            origin: text(ORIGIN),
            bearer: text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")),
            cookies: cookies.collect(),
            is_behind_tls: headers
                .get("x-forwarded-proto")
                .is_some_and(|proto| proto.as_bytes() == b"https"),
        }
    }

    /// The host that the request addresses, with its port unless that is the protocol's default;
    /// empty if the request names none.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The origin of the web page that sent the request; `None` if no browser sent it, and for a
    /// GET.
    pub fn origin(&self) -> Option<&'a str> {
        self.origin
    }

    /// The token in the request's `Authorization` header.
    pub fn bearer(&self) -> Option<&'a str> {
        self.bearer
    }

    /// Whether the request addresses this machine by a name that no foreign DNS can point here.
    pub fn names_this_machine(&self) -> bool {
        names_this_machine(self.host)
    }

    /// Whether the request comes from one of our pages. A program that is not a browser sends no
    /// origin, which is accepted.
    pub fn is_from_our_page(&self) -> bool {
        self.origin.is_none_or(|origin| is_own_origin(origin, self.host))
    }

    /// The name of the cookie that holds the session's id. It contains the port: browsers share
    /// cookies between the ports of a host, and one host may serve an observer and several nodes.
    pub(super) fn cookie_name(&self) -> String {
        match self.host.parse::<Authority>().ok().and_then(|host| host.port_u16()) {
            Some(port) => format!("{COOKIE_NAME}_{port}"),
            None => COOKIE_NAME.to_owned(),
        }
    }

    /// The session id that the browser sent.
    pub(super) fn session_id(&self) -> Option<&'a str> {
        let wanted = self.cookie_name();
        let pairs = self.cookies.iter().flat_map(|all| all.split(';'));
        pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == wanted)
            .map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::testing::headers;

    #[test]
    fn a_session_is_of_one_port() {
        let uri: Uri = "/".parse().unwrap();
        let id = |host: &str| {
            let cookies = "other=1; tidemill_session_1=one; tidemill_session=none";
            let sent = headers(&[("host", host), ("cookie", cookies)]);
            Sender::of(&uri, &sent).session_id().map(str::to_owned)
        };
        assert_eq!(id("a:1").as_deref(), Some("one"));
        assert_eq!(id("[::1]:1").as_deref(), Some("one"));
        assert_eq!(id("a").as_deref(), Some("none"), "behind a proxy");
        assert_eq!(id("a:2"), None);
    }

    #[test]
    fn an_origin_that_is_no_text_is_none_of_ours() {
        let uri: Uri = "/".parse().unwrap();
        let mut sent = headers(&[("host", "a:1")]);
        assert!(Sender::of(&uri, &sent).is_from_our_page(), "no browser sends it");
        sent.insert(ORIGIN, http::HeaderValue::from_bytes(b"http://a:1\xff").unwrap());
        assert!(!Sender::of(&uri, &sent).is_from_our_page());
        sent.insert(ORIGIN, "http://a:1".parse().unwrap());
        assert!(Sender::of(&uri, &sent).is_from_our_page());
    }

    #[test]
    fn only_a_bearer_is_a_token() {
        let uri: Uri = "/".parse().unwrap();
        let bearer = |value: &str| {
            let sent = headers(&[("authorization", value)]);
            Sender::of(&uri, &sent).bearer().map(str::to_owned)
        };
        assert_eq!(bearer("Bearer x").as_deref(), Some("x"));
        assert_eq!(bearer("Basic x"), None, "a proxy's own");
    }
}
