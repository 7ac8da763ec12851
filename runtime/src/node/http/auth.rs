//! The bearer token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use crate::error::{Error, ErrorKind};

/// The shortest token: a shorter one could be guessed over a network.
const TOKEN_BYTES_MIN: usize = 16;

/// The secret that callers send. `Debug` does not print it.
#[derive(Clone)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Checks a token: at least 16 visible ASCII characters.
    pub(crate) fn new(text: &str) -> Result<Token, Error> {
        if text.len() < TOKEN_BYTES_MIN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "TIDEMILL_TOKEN is too weak: use at least 16 visible ASCII characters",
            ));
        }
        Ok(Token(text.to_owned()))
    }

    /// The token's text, to be sent.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in constant time, so that the duration does not reveal how much of a guess was
    /// right.
    fn is(&self, given: &str) -> bool {
        let (ours, given) = (self.0.as_bytes(), given.as_bytes());
        let differing = ours.iter().zip(given).fold(0, |acc, (a, b)| acc | (a ^ b));
        ours.len() == given.len() && std::hint::black_box(differing) == 0
    }
}

/// Passes a request on only if it has the token.
pub(crate) async fn check(
    State(token): State<Arc<Token>>,
    request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match header.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(given) if token.is(given) => next.run(request).await,
        Some(_) => ApiError::unauthorized("the bearer token is wrong").into_response(),
        None => ApiError::unauthorized(
            "this node wants a bearer token: send `Authorization: Bearer TOKEN`",
        )
        .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_whole_and_never_shown() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is("0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0"] {
            assert!(!token.is(wrong), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
        for weak in ["short", "0123456789abcde\n", "0123456789 abcdef"] {
            assert!(Token::new(weak).is_err(), "{weak:?}");
        }
    }
}
