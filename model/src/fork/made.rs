//! A fork with all that its commit writes: its events, its children, and what parks it.
//!
//! Whoever makes a fork, a node or a command that writes a file, writes exactly this, in one
//! transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::plan::{Fork, ForkAs, ForkChild, ForkChoices, ForkTie};
use super::request::ForkRequest;
use super::trace::ForkLog;
use super::{Cut, ForkOutlook};
use crate::error::Error;
use crate::error_kind::ErrorKind;
use crate::event::{EncodedEvent, Event};
use crate::event_data::{BlockReason, BlockReasonKind, ForkOrigin, Parent, RunCreated, Seed};
use crate::fold::RunHead;
use crate::limits::{FORK_BYTES_MAX, FORK_EVENTS_MAX};
use crate::name::RunId;
use crate::operation::Op;
use crate::position::{LogSum, OpId, Seq};
use crate::run_status::RunStatus;
use crate::time::Timestamp;

/// A run with what its log begins with.
#[derive(Debug, Clone)]
pub struct MadeRun {
    /// Its id.
    pub id: RunId,
    /// Its `run_created`.
    pub created: RunCreated,
    /// What follows.
    pub events: Vec<EncodedEvent>,
    /// Its status after that.
    pub status: RunStatus,
}

/// A fork that is to be written, and the children that begin anew with it.
#[derive(Debug, Clone)]
pub struct MadeFork {
    /// The fork.
    pub run: MadeRun,
    /// Its children.
    pub children: Vec<MadeRun>,
    /// What a person is told of it.
    pub outlook: ForkOutlook,
}

/// What a run was given that no replay of its starter compares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunTerms {
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How long it may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

impl ForkLog<'_> {
    /// The fork that is asked for. `exact_from` is where the log's floats begin to be exact, `None` if
    /// nowhere; `terms_of` gives what a run was given that this operation started.
    ///
    /// # Errors
    /// `Invalid`, `NotFound` or `Conflict` for what does not fit the log; `Internal` if the fork does
    /// not fold, which nothing must write; and what `terms_of` returns.
    pub fn make(
        &self,
        request: &ForkRequest,
        who: &ForkAs,
        exact_from: Option<Seq>,
        mut terms_of: impl FnMut(&RunId, OpId) -> Result<RunTerms, Error>,
    ) -> Result<MadeFork, Error> {
        let cut = match &request.at {
            Some(at) => self.cut_at(&at.parse()?)?,
            None => self.cut_to_retry()?,
        };
        self.check_age(&cut, exact_from)?;
        let (input, signals) = (request.input.clone(), request.signals);
        let choices = ForkChoices { input, signals, set: request.set.clone() };
        let Fork { created, events, children, outlook } = self.fork(&cut, who, &choices)?;
        let status = status_after(&created, &events)?;
        let events = events.into_iter().map(EncodedEvent::from).collect();
        let mut made = Vec::with_capacity(children.len());
        for child in children {
            let terms = terms_of(&child.from, child.op)?;
            made.push(new_child(who, &created, child, terms));
        }
        let run = MadeRun { id: who.id.clone(), created, events, status };
        Ok(MadeFork { run, children: made, outlook })
    }

    /// Refuses a history that a version recorded which read floats, and told errors, in another way.
    fn check_age(&self, cut: &Cut, exact_from: Option<Seq>) -> Result<(), Error> {
        let first = self.log.first().map_or(Seq::ZERO, |(seq, _)| *seq);
        if cut.is_beginning() || exact_from.is_some_and(|exact_from| first >= exact_from) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "version 0.1 recorded the beginning of this run, and a copy of that could not be replayed: \
             fork it at its beginning, with `--at 0`",
        ))
    }
}

impl MadeFork {
    /// The same fork of a run that is elsewhere: `created` says where, and the fork and its children
    /// are parked unless they are to `start` at once.
    #[must_use]
    pub fn from_elsewhere(mut self, origin: ForkOrigin, start: bool) -> MadeFork {
        let origin = ForkOrigin { taken: Some(self.taken()), ..origin };
        if !start {
            let (from, fork) = (self.from(), self.run.id.clone());
            let what = format!("it is a fork of run {from} of {origin}");
            self.run.park(what);
            for child in &mut self.children {
                child.park(format!("it begins anew with {fork}, a fork of run {from} of {origin}"));
            }
        }
        if let Some(forked) = &mut self.run.created.forked {
            forked.origin = Some(origin);
        }
        self
    }

    fn from(&self) -> String {
        self.run.created.forked.as_ref().map_or_else(String::new, |it| it.from.to_string())
    }

    /// The sum of what is taken of the other run: all but what is random and who makes the fork.
    fn taken(&self) -> LogSum {
        let mut text = Vec::new();
        let mut sum = LogSum::ZERO;
        let mut add = |event: &EncodedEvent| {
            let columns = event.columns();
            text.clear();
            // Their order counts, too.
            text.extend_from_slice(&sum.get().to_be_bytes());
            text.extend_from_slice(columns.kind.as_bytes());
            text.extend_from_slice(&columns.op.map_or(0, OpId::get).to_be_bytes());
            for part in [columns.name, columns.data.as_deref()] {
                let part = part.unwrap_or_default();
                text.extend_from_slice(&part.len().to_be_bytes());
                text.extend_from_slice(part.as_bytes());
            }
            sum = sum.plus(xxh3_64(&text));
        };
        let is_mark = |event: &Event| matches!(event, Event::RunForked { .. });
        self.run.events.iter().filter(|it| !is_mark(it.event())).for_each(&mut add);
        for child in &self.children {
            let (seed, app_version) = (Seed::from_random([0; 16]), String::new());
            let created = RunCreated { seed, app_version, ..child.created.clone() };
            add(&EncodedEvent::from(Event::RunCreated(Box::new(created))));
        }
        sum
    }

    /// The same fork, if one commit takes it.
    ///
    /// # Errors
    /// `Invalid` with its size.
    pub fn checked(self) -> Result<MadeFork, Error> {
        let runs = || std::iter::once(&self.run).chain(&self.children);
        let rows: usize = runs().map(|run| 1 + run.events.len()).sum();
        let bytes: usize = runs().map(MadeRun::bytes).sum();
        if rows > FORK_EVENTS_MAX || bytes > FORK_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the fork would begin with {rows} events of {bytes} bytes, and one commit takes at most \
                 {FORK_EVENTS_MAX} events of {FORK_BYTES_MAX} bytes: fork at an earlier step"
            )));
        }
        Ok(self)
    }
}

impl MadeRun {
    /// Parks it: nothing but a person lets it go on. Its time would pass before that.
    fn park(&mut self, what: String) {
        self.created.within_ms = None;
        let advice = "look at it, then `resume` it, or `terminate` it: steps that had not ended run \
                      again under other idempotency keys, whatever became of them where it comes from";
        let reason = BlockReason {
            kind: BlockReasonKind::Parked,
            op: None,
            logged: Some(what),
            asked: None,
            advice: advice.to_owned(),
        };
        self.events.push(Event::RunBlocked { reason }.into());
        self.status = RunStatus::Blocked;
    }

    /// About how many bytes its rows have.
    fn bytes(&self) -> usize {
        let events: usize = self.events.iter().map(EncodedEvent::bytes).sum();
        events + EncodedEvent::from(Event::RunCreated(Box::new(self.created.clone()))).bytes()
    }
}

/// The status of a fork after its history.
fn status_after(created: &RunCreated, events: &[Event]) -> Result<RunStatus, Error> {
    let first = Event::RunCreated(Box::new(created.clone()));
    let all = std::iter::once(&first).chain(events).map(|event| (Seq::ZERO, event));
    let head = fold(all).map_err(|(_, why)| {
        let message = format!("the fork does not fit together, and was not made: {why}");
        Error::new(ErrorKind::Internal, message)
    })?;
    Ok(head.status())
}

/// The state of a run after these events; the error says which does not fit, and why.
pub(super) fn fold<'a>(
    events: impl Iterator<Item = (Seq, &'a Event)>,
) -> Result<RunHead, (Seq, String)> {
    let (mut head, mut ops) = (RunHead::default(), BTreeMap::<OpId, Op>::new());
    let at = Timestamp::from_micros(0).expect("1970 is a time");
    for (seq, event) in events {
        head.apply(&mut ops, event, (seq, at)).map_err(|why| (seq, why))?;
    }
    Ok(head)
}

/// A run that begins anew, with what the one was given that it takes the place of.
fn new_child(who: &ForkAs, parent: &RunCreated, child: ForkChild, terms: RunTerms) -> MadeRun {
    let ForkChild { op, id, workflow, input, tie, .. } = child;
    let RunTerms { labels, within_ms } = terms;
    let started_by = Some(Parent { run: who.id.clone(), op });
    let (parent_of_it, spawned_by, outlives_parent) = match tie {
        ForkTie::Child { outlives_parent } => (started_by, None, outlives_parent),
        ForkTie::Spawned => (None, started_by, false),
    };
    let created = RunCreated {
        workflow,
        input,
        labels,
        seed: parent.own_seed().of_child(op),
        parent: parent_of_it,
        spawned_by,
        outlives_parent,
        app_version: who.app_version.clone(),
        durability: parent.durability,
        by: parent.by.clone(),
        forked: None,
        within_ms,
    };
    MadeRun { id, created, events: Vec::new(), status: RunStatus::Pending }
}
