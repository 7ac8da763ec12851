//! Where a run that ended is forked so that it goes on from what ended it.

use std::collections::BTreeMap;

use super::Cut;
use super::trace::ForkLog;
use crate::error::Error;
use crate::error_kind::ErrorKind;
use crate::event::{Event, EventClass};
use crate::failure::{Failure, FailureKind};
use crate::position::OpId;
use crate::promise::Verdict;

/// A failed end of an operation, and its place in the log.
struct Failed<'a> {
    place: usize,
    op: OpId,
    name: &'a str,
    error: &'a Failure,
}

impl ForkLog<'_> {
    /// The cut before what ended the run.
    ///
    /// # Errors
    /// `Conflict` if the run has not ended, or completed.
    pub fn cut_to_retry(&self) -> Result<Cut, Error> {
        let refused = |why: &str| Err(Error::new(ErrorKind::Conflict, why));
        match self.log.last().map(|(_, event)| *event) {
            Some(Event::RunFailed { error, terminated }) => {
                Ok(self.before_failure(error, *terminated))
            }
            Some(Event::RunCompleted { .. }) => refused(
                "the run completed, so there is no failure to retry: fork it at the step that shall \
                 be done again, with `fork RUN --at STEP`",
            ),
            Some(_) | None => refused(
                "the run has not ended: mend what blocks it and resume it, or fork it at a step, with \
                 `fork RUN --at STEP`",
            ),
        }
    }

    fn before_failure(&self, error: &Failure, terminated: bool) -> Cut {
        if terminated || error.kind == FailureKind::Cancelled {
            return self.before_the_request();
        }
        let failed = self.failed();
        match self.first_behind(&failed, error) {
            // Its time is over, and a fork that has that promise has its deadline, too.
            Some(first) if self.has_expired(first.op) => self.before_start(first.op),
            Some(first) => Cut::before(first.place),
            None => Cut::before(self.input_at(self.log.len() - 1)),
        }
    }

    /// Before the request with which a person, or the parent, ended the run.
    fn before_the_request(&self) -> Cut {
        let newest = |is: fn(&Event) -> bool| self.log.iter().rposition(|(_, event)| is(event));
        let told = newest(|event| matches!(event, Event::CancelRequested { .. }));
        // The acts of a run that was ended without its code follow `cancel_held`.
        let held = newest(|event| matches!(event, Event::CancelHeld { .. })).filter(|held| {
            let after = &self.log[*held..];
            after.iter().all(|(_, event)| event.class() != EventClass::Input)
        });
        match held.or(told) {
            Some(place) => Cut::before(place),
            None => Cut::before(self.input_at(self.log.len() - 1)),
        }
    }

    /// Whether it is a promise that nobody answered in time.
    fn has_expired(&self, op: OpId) -> bool {
        self.ops.get(&op).is_some_and(|trace| trace.settled == Some(Verdict::Expired))
    }

    /// The operations that failed for good, in the order of the log.
    fn failed(&self) -> Vec<Failed<'_>> {
        let events = self.log.iter().enumerate();
        let failed = events.filter_map(|(place, (_, event))| match event {
            Event::StepFailed { op, name, error, .. }
            | Event::ChildFailed { op, name, error }
            | Event::SpawnFailed { op, name, error }
            | Event::PromiseRejected { op, name, error }
                if error.kind != FailureKind::Cancelled =>
            {
                Some(Failed { place, op: *op, name: name.as_str(), error })
            }
            _ => None,
        });
        failed.collect()
    }

    /// The first failure that the run's error is about.
    fn first_behind<'f, 'a>(
        &self,
        failed: &'f [Failed<'a>],
        error: &Failure,
    ) -> Option<&'f Failed<'a>> {
        let with_name = |failed: &&Failed<'_>| {
            tells(error, &[&format!("`{}` ", failed.name), &failed.error.message])
        };
        let mut named: Vec<&Failed<'_>> = failed.iter().filter(with_name).collect();
        if named.is_empty() {
            let by_message = |failed: &&Failed<'_>| tells(error, &[&failed.error.message]);
            named = failed.iter().filter(by_message).collect();
        }
        if named.is_empty() {
            named.extend(failed.last());
        }
        // Of equal words only the last: the code went on after those before.
        let last: BTreeMap<_, _> =
            named.iter().map(|failed| ((failed.name, &failed.error.message), *failed)).collect();
        let beside = |one: &&Failed<'_>| {
            last.values().any(|named| {
                let started = self.ops.get(&named.op).map_or(0, |trace| trace.started);
                started < one.place && one.place <= named.place
            })
        };
        failed.iter().find(beside)
    }
}

/// Whether an error says all of this, in itself or in one of its sources.
fn tells(error: &Failure, words: &[&str]) -> bool {
    let mut texts = std::iter::once(&error.message).chain(&error.chain);
    texts.any(|text| words.iter().all(|word| !word.is_empty() && text.contains(word)))
}
