//! From which web pages a request may come.
//!
//! A browser runs foreign code. A foreign page can reach a program on loopback: by a request to
//! another origin, or under a name of its own that its DNS points to this machine.

use http::uri::Authority;

/// Whether a host, with or without a port, is an IP address or `localhost`, neither of which a
/// foreign DNS can point here.
pub fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<core::net::IpAddr>().is_ok()
}

/// Whether an `Origin`, which browsers send with every POST, is the host that the request
/// addresses. The scheme may differ: a proxy may have removed TLS.
pub fn is_own_origin(origin: &str, host: &str) -> bool {
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    from.is_some_and(|from| from == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_or_localhost_names_this_machine() {
        for host in ["127.0.0.1:7421", "localhost:7421", "LocalHost", "[::1]:7421", "10.0.0.3"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in ["evil.example:7421", "127.0.0.1.evil.example", "localhost.evil", "", "a b"] {
            assert!(!names_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_ours_has_the_host_that_was_asked() {
        assert!(is_own_origin("http://a:1", "a:1") && is_own_origin("https://a", "a"));
        for foreign in ["http://b:1", "http://a:2", "null", "file://", "http://a:1.evil.example"] {
            assert!(!is_own_origin(foreign, "a:1"), "{foreign}");
        }
    }
}
