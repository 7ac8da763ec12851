//! Who may ask for a page: the bearer token, and which web pages a request may come from. Pure.
//!
//! A browser runs foreign code. A foreign page can reach a program on loopback from another origin,
//! or under a name of its own that its DNS lets point there.

use http::uri::Authority;
use tidemill_model::{Error, ErrorKind};

/// The shortest token: a shorter one could be guessed over a network.
const TOKEN_BYTES_MIN: usize = 16;

/// A secret that callers send. `Debug` does not print it.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Checks the token that a variable has: at least 16 visible ASCII characters.
    ///
    /// # Errors
    /// `Invalid` for a weaker one; the message names the variable.
    pub fn new(variable: &str, text: &str) -> Result<Token, Error> {
        if text.len() < TOKEN_BYTES_MIN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let message =
                format!("{variable} is too weak: use at least 16 visible ASCII characters");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Token(text.to_owned()))
    }

    /// The token's text, to be sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether this is it.
    pub fn is(&self, given: &str) -> bool {
        is_same_secret(&self.0, given)
    }
}

/// Whether two secrets are the same, in a time that does not tell how much of a guess was right.
pub fn is_same_secret(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let differing = one.iter().zip(other).fold(0, |acc, (a, b)| acc | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differing) == 0
}

/// Whether a host, with or without a port, is an IP address or `localhost`, which no foreign DNS
/// can let point here.
pub fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
}

/// Whether an `Origin`, which browsers send with every POST, is a page of the host that was asked;
/// a proxy may have taken TLS off.
pub fn is_own_origin(origin: &str, host: &str) -> bool {
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    from.is_some_and(|from| from == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_whole_and_never_shown() {
        let token = Token::new("TOKEN", "0123456789abcdef").unwrap();
        assert!(token.is("0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0"] {
            assert!(!token.is(wrong), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
        for weak in ["short", "0123456789abcde\n", "0123456789 abcdef"] {
            let error = Token::new("TOKEN", weak).unwrap_err().to_string();
            assert!(error.starts_with("TOKEN is too weak"), "{error}");
        }
    }

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
