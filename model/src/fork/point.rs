//! The place at which a person forks a run.

use std::fmt;
use std::str::FromStr;

use super::trace::{ForkLog, Trace};
use super::{Cut, OpSet};
use crate::error::Error;
use crate::error_kind::ErrorKind;
use crate::event::Event;
use crate::position::OpId;

/// How many operations of one name an error lists.
const LISTED_MAX: usize = 10;

/// Where a run is forked, as a person says it: `STEP`, `STEP:start`, or `0` for its beginning. A step
/// is named by its name or by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkPoint(String);

impl ForkPoint {
    /// The beginning of the run, before anything that its code did.
    pub fn beginning() -> ForkPoint {
        ForkPoint("0".to_owned())
    }
}

impl FromStr for ForkPoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<ForkPoint, Error> {
        if text.trim().is_empty() {
            return Err(Error::invalid(
                "the place of a fork is empty: name a step, a step with `:start`, or 0 for the \
                 beginning",
            ));
        }
        Ok(ForkPoint(text.to_owned()))
    }
}

impl fmt::Display for ForkPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ForkLog<'_> {
    /// The cut that a person names.
    ///
    /// # Errors
    /// `NotFound` if there is no such operation; `Invalid` if several have the name; `Conflict` if it
    /// has not ended. Each says what to name instead.
    pub fn cut_at(&self, point: &ForkPoint) -> Result<Cut, Error> {
        let text = point.0.as_str();
        if text == "0" {
            return Ok(Cut::BEGINNING);
        }
        match text.strip_suffix(":start") {
            Some(step) if !self.has_name(text) => Ok(self.before_start(self.find(step)?)),
            Some(_) | None => self.before_end(self.find(text)?),
        }
    }

    /// The operation of this number, or the only one of this name.
    ///
    /// # Errors
    /// As [`ForkLog::cut_at`].
    pub fn find(&self, text: &str) -> Result<OpId, Error> {
        if let Ok(op) = text.parse::<OpId>()
            && self.ops.contains_key(&op)
        {
            return Ok(op);
        }
        let named = self.ops.iter().filter(|(_, trace)| trace.name.as_str() == text);
        let named: OpSet = named.map(|(op, _)| *op).collect();
        match (named.first(), named.len()) {
            (Some(op), 1) => Ok(*op),
            (None, _) => Err(Error::new(
                ErrorKind::NotFound,
                format!("the run has no operation `{text}`: `show` lists its operations"),
            )),
            (Some(_), count) => {
                let listed: Vec<String> =
                    named.iter().take(LISTED_MAX).map(OpId::to_string).collect();
                let more = if count > LISTED_MAX { ", …" } else { "" };
                Err(Error::invalid(format!(
                    "{count} operations have the name `{text}`: name one of them by its number: {}{more}",
                    listed.join(", ")
                )))
            }
        }
    }

    fn has_name(&self, text: &str) -> bool {
        self.ops.values().any(|trace| trace.name.as_str() == text)
    }

    /// Before the input with which it ended: it begins again.
    fn before_end(&self, op: OpId) -> Result<Cut, Error> {
        let Some(Trace { ended: Some(ended), .. }) = self.ops.get(&op) else {
            let name = self.ops.get(&op).map_or("", |trace| trace.name.as_str());
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "operation {op} `{name}` has not ended in this run: fork at `{op}:start`, before \
                     the code started it, or at an operation that has ended"
                ),
            ));
        };
        let keep = self.input_at(*ended);
        Ok(Cut { again: Some(op), ..Cut::before(keep) })
    }

    /// Before the input after which the code started it.
    pub(super) fn before_start(&self, op: OpId) -> Cut {
        let started = self.ops.get(&op).map_or(0, |trace| trace.started);
        let keep = self.input_at(started);
        Cut { observed: self.event(keep).and_then(Event::op), ..Cut::before(keep) }
    }
}
