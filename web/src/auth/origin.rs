//! Which web pages a request may come from. Pure.
//!
//! A browser runs foreign code. A foreign page can reach a service on loopback from another origin,
//! or under a name of its own that its DNS lets point there.

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

/// Whether a browser says that a request comes from a page of ours: its origin, which browsers send
/// with every POST, names the host that was asked. What is no browser sends none.
pub(crate) fn is_ours(uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = host(uri, headers);
    let Ok(origin) = origin.to_str() else { return false };
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    from.is_some_and(|from| from == host)
}

/// Whether the request names this machine by an address or as `localhost`, which no foreign DNS can
/// let point here.
pub(crate) fn names_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let Ok(authority) = host(uri, headers).parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
}

fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let header = || headers.get(HOST).and_then(|value| value.to_str().ok());
    uri.authority().map(Authority::as_str).or_else(header).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(host: &str, origin: Option<&str>) -> (Uri, HeaderMap) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        ("/".parse().unwrap(), headers)
    }

    #[test]
    fn a_page_of_ours_has_the_host_that_was_asked() {
        let ours = |host, origin| {
            let (uri, headers) = sent(host, origin);
            is_ours(&uri, &headers)
        };
        assert!(
            ours("a:1", None) && ours("a:1", Some("http://a:1")) && ours("a", Some("https://a"))
        );
        for foreign in ["http://b:1", "http://a:2", "null", "file://", "http://a:1.evil.example"] {
            assert!(!ours("a:1", Some(foreign)), "{foreign}");
        }
    }

    #[test]
    fn a_foreign_name_for_this_machine_is_seen() {
        let named = |host| {
            let (uri, headers) = sent(host, None);
            names_this_machine(&uri, &headers)
        };
        for host in ["127.0.0.1:7421", "localhost:7421", "LocalHost", "[::1]:7421", "10.0.0.3"] {
            assert!(named(host), "{host}");
        }
        for host in ["evil.example:7421", "127.0.0.1.evil.example", "localhost.evil", "", "a b"] {
            assert!(!named(host), "{host}");
        }
    }
}
