//! Tokens: texts that are compared and never computed with.

use std::fmt;
use std::str::FromStr;

use crate::name::{Invalid, text_type};

fn check_hex(what: &'static str, text: &str) -> Result<(), Invalid> {
    if text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(Invalid::new(what, text, "use 32 hexadecimal digits in lower case"))
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// Declares a token of 128 random bits, written as 32 hexadecimal digits.
macro_rules! random_token {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks a text of 32 hexadecimal digits.
            ///
            /// # Errors
            /// [`Invalid`] if it is not that.
            pub fn new(text: &str) -> Result<$name, Invalid> {
                check_hex($what, text)?;
                Ok($name(text.to_owned()))
            }

            /// The token of 16 random bytes, which the caller takes from the kernel.
            pub fn from_random(bytes: [u8; 16]) -> $name {
                $name(hex(bytes))
            }
        }
        text_type!($name);
    };
}

random_token! {
    /// Fresh in each logical write of a lease; a retry of the same write keeps it. Reading it back
    /// shows whether an ambiguous write was ours.
    Nonce, "nonce"
}
random_token! {
    /// One disk's identity: made with a node's state file, survives processes and reboots.
    InstanceId, "instance"
}
random_token! {
    /// One attachment of an app to its sidecar.
    SessionId, "session"
}

/// The entity tag that S3 gives a version of an object, quotes included as S3 sends it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// Takes an entity tag as S3 sent it.
    ///
    /// # Errors
    /// [`Invalid`] if it is empty or has control characters.
    pub fn new(text: &str) -> Result<ETag, Invalid> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Invalid::new("etag", text, "an etag has visible characters only"));
        }
        Ok(ETag(text.to_owned()))
    }
}
text_type!(ETag);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_32_digits_and_comes_back() {
        let nonce = Nonce::from_random([0xab; 16]);
        assert_eq!(nonce.as_str(), "ab".repeat(16));
        assert_eq!(nonce.as_str().parse::<Nonce>().unwrap(), nonce);
        assert!(Nonce::new("ab").is_err());
        assert!(Nonce::new(&"AB".repeat(16)).is_err());
    }
}
