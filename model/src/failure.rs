//! The recorded failure of an operation or a run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::PAYLOAD_HEAD_CHARS_MAX;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FailureKind {
    /// The body returned an error, or panicked, in its last attempt.
    Failed,
    /// The last attempt took longer than its timeout.
    TimedOut,
    /// An at-most-once body was started and its end is not known.
    Interrupted,
    /// It was cancelled.
    Cancelled,
    /// Somebody rejected the promise.
    Rejected,
}

impl FailureKind {
    /// What became of a run that ended so, for a sentence about it.
    pub fn ending(self) -> &'static str {
        match self {
            FailureKind::Cancelled => "was cancelled",
            FailureKind::Failed
            | FailureKind::TimedOut
            | FailureKind::Interrupted
            | FailureKind::Rejected => "failed",
        }
    }
}

/// An error as it is recorded: its kind, its message, and the messages of its sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failure {
    /// What kind of failure it was.
    pub kind: FailureKind,
    /// The error's own message.
    pub message: String,
    /// The messages of its sources, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
}

impl Failure {
    /// The failure as a list shows it: of a long message the beginning, of long sources nothing.
    #[must_use]
    pub fn listed(mut self) -> Failure {
        if self.message.len() > PAYLOAD_HEAD_CHARS_MAX {
            self.message = head(&self.message);
        }
        if self.chain.iter().map(String::len).sum::<usize>() > PAYLOAD_HEAD_CHARS_MAX {
            self.chain.clear();
        }
        self
    }
}

/// The beginning of a text that is too long for a list.
pub(crate) fn head(text: &str) -> String {
    text.chars().take(PAYLOAD_HEAD_CHARS_MAX).collect()
}

/// The message, then those of the sources that say something which is not said yet.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut said = self.message.clone();
        for cause in &self.chain {
            if !said.contains(cause.as_str()) {
                write!(f, ": {cause}")?;
                said.clone_from(cause);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_on_one_line_says_each_thing_once() {
        let failure = |message: &str, chain: &[&str]| {
            let chain = chain.iter().map(ToString::to_string).collect();
            Failure { kind: FailureKind::Failed, message: message.to_owned(), chain }.to_string()
        };
        assert_eq!(failure("no luck", &[]), "no luck");
        assert_eq!(failure("read a: gone", &["gone", "os error 2"]), "read a: gone: os error 2");
        assert_eq!(failure("`a` failed", &["no luck", "no luck"]), "`a` failed: no luck");
    }
}
