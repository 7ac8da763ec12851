//! Secrets: compared in constant time, never printed. And random ones.

use tidemill_model::{Error, ErrorKind};

/// The shortest token: a shorter one could be guessed over a network.
const BYTES_MIN: usize = 16;

/// A token of a reader. `Debug` does not print it.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A secret of at least 16 visible ASCII characters.
    pub(crate) fn new(text: &str) -> Result<Secret, Error> {
        if text.len() < BYTES_MIN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let message = "a token is too weak: use at least 16 visible ASCII characters";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Secret(text.to_owned()))
    }

    /// Whether this is it.
    pub(crate) fn is(&self, given: &str) -> bool {
        same(&self.0, given)
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
pub(crate) fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let differing = one.iter().zip(other).fold(0, |acc, (a, b)| acc | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differing) == 0
}

/// 32 random bytes as text.
///
/// # Panics
/// If the system has no randomness, without which no session is safe.
pub(crate) fn random() -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_whole_and_never_shown() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        assert!(secret.is("0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0"] {
            assert!(!secret.is(wrong), "{wrong}");
        }
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(Secret::new("short").is_err() && Secret::new("0123456789 abcdef").is_err());
        assert_ne!(random(), random());
    }
}
