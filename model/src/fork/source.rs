//! The history of a run that is elsewhere, as it is sent to the node that makes a fork of it.
//!
//! Nothing of it is trusted: each event is decoded, all of them have to fold, and what a fork takes of
//! them folds again. Whether the workflow's code could have written them only its replay can tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::made::{MadeFork, RunTerms, fold};
use super::plan::ForkAs;
use super::request::ForkRequest;
use super::trace::ForkLog;
use crate::error::Error;
use crate::error_kind::ErrorKind;
use crate::event::{Columns, Event};
use crate::event_data::ForkOrigin;
use crate::failure::head;
use crate::limits::LABELS_MAX;
use crate::name::{OpName, RunId};
use crate::position::{OpId, Seq};
use crate::run_view::EventView;

/// A run as it was at a moment of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForkSource {
    /// Its id.
    pub run: RunId,
    /// Where it is from.
    pub origin: ForkOrigin,
    /// From which event on versions wrote the log whose histories can be forked: `floats_exact_from` of
    /// its file. `None`: none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_from: Option<Seq>,
    /// What the runs were given that it started, by their ids; those that were given nothing may be left
    /// out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: BTreeMap<RunId, RunTerms>,
    /// All of its events, as `GET /v1/runs/{id}/events` lists them.
    pub events: Vec<EventView>,
}

impl ForkSource {
    /// The fork of it that is asked for: parked, unless it is to `start` at once.
    ///
    /// # Errors
    /// `Conflict` if its log cannot be read; otherwise as [`ForkLog::make`] and [`MadeFork::checked`].
    pub fn make(
        &self,
        request: &ForkRequest,
        who: &ForkAs,
        start: bool,
    ) -> Result<MadeFork, Error> {
        self.check_texts()?;
        let log = self.log()?;
        let log: Vec<(Seq, &Event)> = log.iter().map(|(seq, event)| (*seq, event)).collect();
        fold(log.iter().copied())
            .map_err(|(seq, why)| self.cannot_read(&format!("event {seq}: {why}")))?;
        let log = ForkLog::of(&log).map_err(|e| self.cannot_read(e.message()))?;
        let terms_of = |run: &RunId, _| Ok(self.given.get(run).cloned().unwrap_or_default());
        let made = log.make(request, who, self.exact_from, terms_of);
        let made = made.map_err(|e| match e.kind() {
            // It comes from outside, so it is no fault of ours.
            ErrorKind::Internal => self.cannot_read(e.message()),
            _ => e,
        })?;
        made.from_elsewhere(self.origin.clone(), start).checked()
    }

    fn log(&self) -> Result<Vec<(Seq, Event)>, Error> {
        let mut log: Vec<(Seq, Event)> = Vec::with_capacity(self.events.len());
        for view in &self.events {
            let seq = view.seq;
            let wrong = |why: &str| self.cannot_read(&format!("event {seq}: {why}"));
            if view.run.as_ref() != Some(&self.run) {
                return Err(wrong("it is of another run"));
            }
            if log.last().is_some_and(|(last, _)| *last >= seq) {
                return Err(wrong("it does not come after the event before it"));
            }
            log.push((seq, event(view).map_err(|why| wrong(&why))?));
        }
        match log.first() {
            Some((_, Event::RunCreated(created))) => check_labels(&created.labels)?,
            Some(_) => return Err(self.cannot_read("it does not begin with run_created")),
            None => return Err(self.cannot_read("it has no events")),
        }
        Ok(log)
    }

    fn check_texts(&self) -> Result<(), Error> {
        let source = &self.origin.source;
        if source.is_empty() || source.len() > ForkOrigin::SOURCE_BYTES_MAX {
            let (bytes, max) = (source.len(), ForkOrigin::SOURCE_BYTES_MAX);
            let message = format!("`origin.source` has {bytes} bytes, and needs 1 to {max}");
            return Err(Error::invalid(message));
        }
        self.given.values().try_for_each(|terms| check_labels(&terms.labels))
    }

    fn cannot_read(&self, why: &str) -> Error {
        cannot_read(&self.run, why)
    }
}

/// The error for a run whose log cannot be forked.
pub fn cannot_read(run: &RunId, why: &str) -> Error {
    let message = format!("the log of run `{run}` cannot be read, so it cannot be forked: {why}");
    Error::new(ErrorKind::Conflict, message)
}

fn event(view: &EventView) -> Result<Event, String> {
    let data = view.data.as_ref().map(|data| data.as_str().into());
    let (kind, op): (&str, Option<OpId>) = (&view.kind, view.op);
    let columns = Columns { kind, op, name: view.name.as_deref(), data };
    Event::from_columns(&columns).map_err(|e| e.to_string())
}

/// Labels are under the rule of names, as those of a start.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    let is_fit = |text: &String| OpName::new(text).is_ok();
    if labels.len() > LABELS_MAX {
        let count = labels.len();
        let message = format!("a run of the source has {count} labels, and may have {LABELS_MAX}");
        return Err(Error::invalid(message));
    }
    match labels.iter().flat_map(|(name, value)| [name, value]).find(|text| !is_fit(text)) {
        Some(bad) => Err(Error::invalid(format!("a label of the source is `{}`", head(bad)))),
        None => Ok(()),
    }
}
