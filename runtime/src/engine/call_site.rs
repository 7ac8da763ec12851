//! Where the author's code called an operation, for the lines of the process's log and for what a
//! check finds.
//!
//! A call site never gets into the run's log, and no replay compares it: moving a line of code does
//! not change what the code does.

use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;

use tidemill_model::{Failure, FailureKind};

use crate::author::StepError;

/// The file and line of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallSite(&'static Location<'static>);

impl CallSite {
    /// The caller of the function that calls this, if that function has `#[track_caller]`, too.
    #[track_caller]
    pub(crate) fn of_caller() -> CallSite {
        CallSite(Location::caller())
    }

    /// With the column, which tells two calls of a line apart: `src/main.rs:42:9`.
    pub(crate) fn exact(self) -> String {
        let CallSite(at) = self;
        format!("{}:{}:{}", at.file(), at.line(), at.column())
    }
}

impl fmt::Display for CallSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.file(), self.0.line())
    }
}

/// How many failed operations a life remembers. A workflow returns the error of one of the last; one
/// that handles failures for ever must not collect them.
const FAILED_MAX: usize = 16;

/// How many cancelled operations a life remembers besides: all of them end at the same time, and the
/// workflow may return the error of any.
const CANCELLED_MAX: usize = 1_024;

/// The operations that failed last in a life: what their errors say, and where they were called.
#[derive(Default)]
pub(crate) struct FailedCalls {
    failed: VecDeque<(String, CallSite)>,
    /// What the errors of cancelled operations say.
    cancelled: VecDeque<String>,
}

impl FailedCalls {
    pub(crate) fn note(&mut self, error: &StepError, at: CallSite) {
        if error.kind() == FailureKind::Cancelled {
            if self.cancelled.len() == CANCELLED_MAX {
                self.cancelled.pop_front();
            }
            self.cancelled.push_back(error.to_string());
        }
        if self.failed.len() == FAILED_MAX {
            self.failed.pop_front();
        }
        self.failed.push_back((error.to_string(), at));
    }

    /// Whether the workflow returned the error of a cancelled operation, as it was or in an error of
    /// its own.
    pub(crate) fn tells_of_cancel(&self, failure: &Failure) -> bool {
        self.cancelled.iter().any(|text| tells(failure, text))
    }

    /// Where the operation was called whose error the workflow returned, as it was or in an error of
    /// its own; `None` if it returned none of them. Compares texts: an author's error may hold the
    /// operation's in any form.
    pub(crate) fn behind(&self, failure: &Failure) -> Option<CallSite> {
        self.failed.iter().rev().find(|(text, _)| tells(failure, text)).map(|(_, at)| *at)
    }
}

/// Whether an error says this, itself or through one of its sources.
fn tells(failure: &Failure, text: &str) -> bool {
    failure.message.contains(text) || failure.chain.iter().any(|cause| cause.contains(text))
}

#[cfg(test)]
mod tests {
    use tidemill_model::OpName;

    use super::*;
    use crate::author::result::{Wording, failed};

    fn error(message: &str) -> StepError {
        let failure =
            Failure { kind: FailureKind::Failed, message: message.to_owned(), chain: Vec::new() };
        StepError::new(OpName::new("charge").unwrap(), 1, failure, Wording::WithReason)
    }

    fn line(at: Option<CallSite>) -> Option<u32> {
        at.map(|at| at.0.line())
    }

    #[test]
    fn the_newest_call_whose_error_was_returned_is_found_and_no_other() {
        let mut calls = FailedCalls::default();
        let (first, second) = (CallSite::of_caller(), CallSite::of_caller());
        calls.note(&error("declined"), first);
        calls.note(&error("no answer"), second);
        let behind = |message: &str| line(calls.behind(&failed(message)));
        assert_eq!(behind("`charge` failed: declined"), line(Some(first)));
        assert_eq!(behind("order 7: `charge` failed: no answer"), line(Some(second)));
        assert_eq!(behind("the workflow's own error"), None);
        let chain = vec!["`charge` failed: declined".to_owned()];
        let wrapped = Failure { kind: FailureKind::Failed, message: "order 7".to_owned(), chain };
        assert_eq!(line(calls.behind(&wrapped)), line(Some(first)));
    }

    #[test]
    fn failures_that_the_workflow_handles_are_forgotten() {
        let mut calls = FailedCalls::default();
        for attempt in 0..=FAILED_MAX {
            calls.note(&error(&format!("attempt {attempt}.")), CallSite::of_caller());
        }
        assert_eq!(calls.failed.len(), FAILED_MAX);
        assert!(calls.behind(&failed("`charge` failed: attempt 0.")).is_none());
        assert!(calls.behind(&failed("`charge` failed: attempt 1.")).is_some());
    }

    #[test]
    fn a_call_site_is_a_file_and_a_line() {
        let at = CallSite::of_caller();
        assert_eq!(at.to_string(), format!("{}:{}", file!(), line!() - 1));
        assert_eq!(at.exact(), format!("{}:{}:18", file!(), line!() - 2));
    }
}
