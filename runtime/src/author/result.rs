//! Results and errors as authors see them: a step's end decoded from what the log recorded.

use std::error::Error as StdError;
use std::fmt;

use tidemill_model::{Failure, FailureKind, OpName};

/// Any error that a step or workflow may return.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The result of a step or workflow: `?` takes any error.
pub type Result<T, E = BoxError> = std::result::Result<T, E>;

/// Why an operation ended without an output, as the log recorded it.
///
/// It is a standard error, so `?` passes it on: it says which step failed and why, as in
/// "`charge` failed after 3 attempts: card declined", and its sources continue from there. To
/// handle it instead, match on [`StepError::kind`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    step: OpName,
    attempts: u32,
    failure: Failure,
    wording: Wording,
    cause: Option<Box<Cause>>,
}

/// Whether a step's error says its reason itself, or leaves it to its source.
///
/// Workflows record what an error says (as a step's input, or as their own error), and a replay
/// compares it, so an error that 0.1 gave to a workflow keeps the words that it had there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wording {
    /// "`charge` failed after 3 attempts: card declined".
    WithReason,
    /// As in 0.1: "`charge` failed after 3 attempts", whose source says "card declined".
    Bare,
}

impl StepError {
    pub(crate) fn new(
        step: OpName,
        attempts: u32,
        failure: Failure,
        wording: Wording,
    ) -> StepError {
        let outermost = failure.chain.iter().rev().fold(None, |source, message| {
            Some(Box::new(Cause { message: message.clone(), source }))
        });
        let cause = match wording {
            Wording::WithReason => outermost,
            Wording::Bare => {
                Some(Box::new(Cause { message: failure.message.clone(), source: outermost }))
            }
        };
        StepError { step, attempts, failure, wording, cause }
    }

    /// The name of the operation: a step, a timer or a child workflow.
    pub fn step(&self) -> &str {
        self.step.as_str()
    }

    /// How many attempts failed; attempts that a crash or a stop of the process cut off do not
    /// count. 0 for a timer or a child.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How the last attempt ended.
    pub fn kind(&self) -> FailureKind {
        self.failure.kind
    }

    /// The error message of the last attempt.
    pub fn message(&self) -> &str {
        &self.failure.message
    }

    /// The messages of that error's sources, outermost first.
    pub fn chain(&self) -> &[String] {
        &self.failure.chain
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.failure.kind {
            FailureKind::Failed => "failed",
            FailureKind::TimedOut => "timed out",
            FailureKind::Interrupted => "was interrupted",
            FailureKind::Rejected => "was rejected",
            FailureKind::Cancelled => "was cancelled",
        };
        write!(f, "`{}` {how}", self.step)?;
        if self.attempts > 1 {
            write!(f, " after {} attempts", self.attempts)?;
        }
        match self.wording {
            Wording::WithReason => write!(f, ": {}", self.failure.message),
            Wording::Bare => Ok(()),
        }
    }
}

impl StdError for StepError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause: &Cause = self.cause.as_deref()?;
        Some(cause)
    }
}

/// A recorded message that stands in for the error it came from, so that `source()` works.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cause {
    message: String,
    source: Option<Box<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause: &Cause = self.source.as_deref()?;
        Some(cause)
    }
}

/// What the log records of an error: its message and its sources' messages, cut to fit the payload
/// limit.
pub(crate) fn failure_of(error: &(dyn StdError + 'static)) -> Failure {
    let mut chain = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next
        && chain.len() < CHAIN_MAX
    {
        chain.push(cut(cause.to_string()));
        next = cause.source();
    }
    Failure { kind: FailureKind::Failed, message: cut(error.to_string()), chain }
}

pub(crate) fn failed(message: impl Into<String>) -> Failure {
    Failure { kind: FailureKind::Failed, message: cut(message.into()), chain: Vec::new() }
}

/// How many sources of an error the log records: a longer chain is a cycle or a mistake.
const CHAIN_MAX: usize = 16;

/// How much of a message the log records: 16 such messages stay far below the payload limit, and a
/// longer message is data.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

/// The longest failure that a line of the log shows: the run's record has it whole.
const SHOWN_CHARS_MAX: usize = 1_000;

/// A failure in one line of the log: its message, and each cause that the message does not name.
pub(crate) fn shown_failure(failure: &Failure) -> String {
    let mut text = failure.message.clone();
    for cause in &failure.chain {
        if !text.contains(cause.as_str()) {
            text.push_str(": ");
            text.push_str(cause);
        }
    }
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_error_carries_its_chain_as_sources() {
        let failure = Failure {
            kind: FailureKind::TimedOut,
            message: "no answer".into(),
            chain: vec!["tcp".into(), "route".into()],
        };
        let fetch = OpName::new("fetch").unwrap();
        let error = StepError::new(fetch.clone(), 3, failure.clone(), Wording::WithReason);
        assert_eq!(error.to_string(), "`fetch` timed out after 3 attempts: no answer");
        assert_eq!(failure_of(&error).chain, ["tcp", "route"], "the reason is told once");
        let of_0_1 = StepError::new(fetch, 3, failure, Wording::Bare);
        assert_eq!(of_0_1.to_string(), "`fetch` timed out after 3 attempts");
        assert_eq!(failure_of(&of_0_1).chain, ["no answer", "tcp", "route"]);
    }

    #[test]
    fn a_failure_in_the_log_names_each_cause_once() {
        let chain = vec!["card declined".to_owned(), "limit reached".to_owned()];
        let message = "charge failed: card declined".to_owned();
        let mut failure = Failure { kind: FailureKind::Failed, message, chain };
        let shown = shown_failure(&failure);
        assert_eq!(shown, "charge failed: card declined: limit reached");
        failure.message = "é".repeat(SHOWN_CHARS_MAX + 1);
        assert_eq!(shown_failure(&failure).chars().count(), SHOWN_CHARS_MAX + 1);
    }

    #[test]
    fn an_endless_message_is_cut_at_a_character() {
        let failure = failed("ä".repeat(20_000));
        assert!(failure.message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8());
    }
}
