//! The readers' tokens, and what each allows.

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
    /// Checks the token in a variable: at least 16 visible ASCII characters.
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

    /// The token's text, for a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this token.
    pub fn is(&self, given: &str) -> bool {
        is_same_secret(&self.0, given)
    }
}

/// Whether two secrets are equal. The time that it takes does not tell how much of a guess was
/// right.
pub fn is_same_secret(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let differing = one.iter().zip(other).fold(0, |acc, (a, b)| acc | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differing) == 0
}

/// What a reader may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look and act.
    Full,
    /// Look.
    ReadOnly,
}

/// The readers' tokens. Without any, everyone who reaches the address may look and act.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    full: Option<Token>,
    read_only: Option<Token>,
}

impl Tokens {
    /// The token of those who may look and act, and the token of those who may only look.
    ///
    /// # Errors
    /// `Invalid` if both are the same.
    pub fn new(full: Option<Token>, read_only: Option<Token>) -> Result<Tokens, Error> {
        if let (Some(full), Some(read_only)) = (&full, &read_only)
            && full.is(read_only.reveal())
        {
            let message = "both tokens are the same: one that may only look must differ";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Tokens { full, read_only })
    }

    /// One token, whose owner may look and act; `None` for no token at all.
    pub fn one(full: Option<Token>) -> Tokens {
        Tokens { full, read_only: None }
    }

    /// Whether readers need a token.
    pub fn are_set(&self) -> bool {
        self.full.is_some() || self.read_only.is_some()
    }

    /// What a token allows; `None` if it is not one of ours.
    pub fn role_of(&self, given: &str) -> Option<Role> {
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(given));
        // Compares both, so that the time does not tell which one was nearly right.
        let (full, read_only) = (is(&self.full), is(&self.read_only));
        if full { Some(Role::Full) } else { read_only.then_some(Role::ReadOnly) }
    }
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
    fn each_token_has_its_role_and_no_two_are_the_same() {
        let token = |text| Token::new("TOKEN", text).unwrap();
        let (full, look) = ("0123456789abcdef-full", "0123456789abcdef-look");
        let both = Tokens::new(Some(token(full)), Some(token(look))).unwrap();
        assert_eq!(both.role_of(full), Some(Role::Full));
        assert_eq!(both.role_of(look), Some(Role::ReadOnly));
        assert_eq!(both.role_of("0123456789abcdef"), None);
        assert!(Tokens::new(Some(token(full)), Some(token(full))).is_err());
        let none = Tokens::one(None);
        assert!(!none.are_set() && none.role_of("").is_none());
    }
}
