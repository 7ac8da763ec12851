//! Refuses requests of foreign web pages to a node without a token.
//!
//! A node on loopback is open to every program on the machine, and a browser there runs foreign
//! code. A foreign page reaches the node under the page's own host name, which its DNS lets point
//! to 127.0.0.1, or from another origin. So without a token a request must name the node by an IP
//! address or as `localhost`, and an `Origin`, which only browsers send, must be the node's own. The
//! answer to a promise is the exception: who holds its token sends it from a page that hides where it
//! is, and so its origin is `null`. What takes it wants that token, or the origin.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tidemill_page::guard::Sender;

use super::error::ApiError;
use super::promise_pages::{Asked, asked};

/// Passes a request on unless a foreign web page may have sent it.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    let answers = matches!(asked(request.method(), request.uri()), Some(Asked::Answer(..)));
    match refusal(&Sender::of(request.uri(), request.headers()), answers) {
        None => next.run(request).await,
        Some(message) => ApiError::forbidden(message).into_response(),
    }
}

fn refusal(sender: &Sender<'_>, answers: bool) -> Option<String> {
    if !sender.names_this_machine() {
        return Some(format!(
            "without a token this node answers only to an address or to localhost, not to \
             `{}`: set TIDEMILL_TOKEN to serve it under a name",
            sender.host()
        ));
    }
    let foreign = sender.origin().filter(|_| !sender.is_from_our_page());
    let origin = foreign.filter(|origin| !answers || *origin != "null")?;
    Some(format!(
        "without a token this node takes nothing from a web page of `{origin}`: set \
         TIDEMILL_TOKEN and send it"
    ))
}

#[cfg(test)]
mod tests {
    use axum::http::header::{HOST, ORIGIN};
    use axum::http::{HeaderMap, Uri};

    use super::*;

    fn refused(host: &str, origin: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        refusal(&Sender::of(&Uri::from_static("/v1/runs"), &headers), false)
    }

    #[test]
    fn only_a_page_of_our_own_is_let_through_and_only_under_an_address() {
        for host in ["127.0.0.1:7420", "localhost:7420", "LocalHost", "[::1]:7420", "10.0.0.3"] {
            assert_eq!(refused(host, None), None, "{host}");
            assert_eq!(refused(host, Some(&format!("http://{host}"))), None, "{host}");
            for origin in ["http://evil.example", "https://evil.example", "null", "file://"] {
                let message = refused(host, Some(origin)).unwrap();
                assert!(message.contains(&format!("web page of `{origin}`")), "{message}");
            }
        }
        for host in ["evil.example:7420", "127.0.0.1.evil.example", "localhost.evil", "", "a b"] {
            let message = refused(host, None).unwrap();
            assert!(message.contains("answers only to an address"), "{message}");
        }
        let other_port = refused("127.0.0.1:7420", Some("http://127.0.0.1:8000"));
        assert!(other_port.is_some(), "another program's page on this machine");
    }
}
