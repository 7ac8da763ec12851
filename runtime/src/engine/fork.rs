//! Forks a run: reads its log, lets the model plan the new run, and creates that in one commit.
//!
//! The run that is forked is only read. A reader's thread reads and plans, because a long history takes
//! a while; the writer appends what the plan says, or nothing.
//!
//! Crash: after the commit the fork is pending in the file, and the next process loads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use serde::{Deserialize, Deserializer, Serialize};
use tidemill_eventlog::query;
use tidemill_model::limits::{FORK_BYTES_MAX, FORK_EVENTS_MAX, PAYLOAD_BYTES_MAX};
use tidemill_model::{
    EncodedEvent, Event, Fork, ForkAs, ForkChild, ForkChoices, ForkCut, ForkLog, ForkOutlook,
    ForkSignals, ForkTie, Json, Parent, Requester, RunCreated, RunId, RunStatus, Seed, Seq,
};

use super::Engine;
use super::journal::Journal;
use super::start;
use crate::error::{Error, ErrorKind};
use crate::ops::child::seed_of;
use crate::store::writer::{Creation, History, NewRun};
use crate::store::{Log, Record};

/// A fork to make of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    /// Where: `STEP`, before its end; `STEP:start`, before its start; `0`, at the beginning. A step is
    /// named by its name or its number. `None`: before the failure that ended the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Another input; only at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub input: Option<Json>,
    /// The outputs of steps and children that a person did by hand, by name or number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Json>,
    /// Which of the run's signals come with the fork.
    #[serde(default)]
    pub signals: ForkSignals,
    /// The fork's id; `None` for a new UUIDv7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `null` is an input; one that is left out is none.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}

impl ForkRequest {
    /// A fork at a place: `STEP`, `STEP:start`, or `0` for the beginning.
    pub fn at(place: &str) -> ForkRequest {
        ForkRequest { at: Some(place.to_owned()), ..ForkRequest::default() }
    }

    /// A fork before the failure that ended the run.
    pub fn retry() -> ForkRequest {
        ForkRequest::default()
    }

    /// Gives the fork another input; only at the beginning.
    ///
    /// # Errors
    /// `Invalid` if the input has no JSON.
    pub fn input(self, input: impl Serialize) -> Result<ForkRequest, Error> {
        let input =
            Json::of(&input).map_err(|e| Error::invalid(format!("the input has no JSON: {e}")))?;
        Ok(ForkRequest { input: Some(input), ..self })
    }

    /// Gives the output of a step or a child that a person did by hand.
    ///
    /// # Errors
    /// `Invalid` if the output has no JSON.
    pub fn set(mut self, step: &str, output: impl Serialize) -> Result<ForkRequest, Error> {
        let output = Json::of(&output)
            .map_err(|e| Error::invalid(format!("the output of step `{step}` has no JSON: {e}")))?;
        self.set.insert(step.to_owned(), output);
        Ok(self)
    }

    /// Chooses which of the run's signals come with the fork.
    #[must_use]
    pub fn signals(self, signals: ForkSignals) -> ForkRequest {
        ForkRequest { signals, ..self }
    }

    /// Chooses the fork's id, which makes forking idempotent.
    #[must_use]
    pub fn id(self, id: &str) -> ForkRequest {
        ForkRequest { id: Some(id.to_owned()), ..self }
    }

    /// Who asks, for people.
    #[must_use]
    pub fn by(self, by: &str) -> ForkRequest {
        ForkRequest { by: Some(by.to_owned()), ..self }
    }

    fn check(&self) -> Result<Requester, Error> {
        let (by, reason) = (self.by.clone(), self.reason.clone());
        let given = self.set.values().chain(&self.input);
        let bytes = given.map(|value| value.as_str().len()).sum::<usize>();
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the input and the outputs that are set have {bytes} bytes together, and may have \
                 {PAYLOAD_BYTES_MAX}: keep large data in your own storage and pass its key"
            )));
        }
        Ok(Requester { by, reason, ..Requester::default() }.checked()?)
    }
}

/// A fork that was made, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkedRun {
    /// Its id.
    pub id: RunId,
    /// Whether it existed before this request.
    pub existing: bool,
    /// The position of its `run_created` in the log.
    pub seq: Seq,
    /// What it has of the other run, and what it does again.
    pub outlook: ForkOutlook,
}

/// A fork that is planned and not made.
pub(super) struct Planned {
    new: NewRun,
    children: Vec<RunId>,
    outlook: ForkOutlook,
}

impl Engine {
    /// What a fork of a run would be.
    ///
    /// # Errors
    /// As [`Node::fork`](super::Node::fork).
    pub(super) async fn plan_fork(
        &self,
        run: &RunId,
        request: ForkRequest,
    ) -> Result<Planned, Error> {
        let requester = request.check()?;
        let id = match &request.id {
            Some(id) => RunId::chosen(id)?,
            None => start::generated_id(&self.clock)?,
        };
        let who = ForkAs {
            from: run.clone(),
            id,
            seed: Seed::from_random(self.clock.random()?),
            app_version: self.app.version.clone(),
            requester: Some(requester).filter(|requester| *requester != Requester::default()),
        };
        let exact_from = self.floats_exact_from;
        let job = move |file: &Connection, log: Log| plan(file, log, &who, request, exact_from);
        let planned = self.store.reads().with_log(run, job).await?;
        let created = planned.new.created();
        let workflow = start::known_workflow(&self.app, created.workflow.as_str())?;
        if planned.outlook.history <= 1 {
            start::check_input(workflow, &created.input)?;
        }
        Ok(planned)
    }

    /// Makes a planned fork, and loads it and the children that begin anew.
    pub(super) async fn fork(self: Arc<Self>, planned: Planned) -> Result<ForkedRun, Error> {
        let Planned { new, children, outlook } = planned;
        let id = new.id.clone();
        match self.store.create(new, None).await? {
            Creation::Created(seq) => {
                self.adopt_with_log(&id);
                children.iter().for_each(|child| self.adopt_with_log(child));
                Ok(ForkedRun { id, existing: false, seq, outlook })
            }
            Creation::Existing(seq, _) => Ok(ForkedRun { id, existing: true, seq, outlook }),
        }
    }
}

impl Planned {
    pub(super) fn into_outlook(self) -> ForkOutlook {
        self.outlook
    }
}

/// Plans a fork from the log of the run, without writing anything.
fn plan(
    file: &Connection,
    log: Log,
    who: &ForkAs,
    request: ForkRequest,
    exact_from: Seq,
) -> Result<Planned, Error> {
    let from = &who.from;
    let log = log.map_err(|unreadable| cannot_read(from, &unreadable.reason.to_string()))?;
    let Some(first) = log.first() else {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no run `{from}`")));
    };
    Journal::of(&log).map_err(|reason| cannot_read(from, &reason.to_string()))?;
    let events: Vec<(Seq, &Event)> = log.iter().map(|record| (record.seq, &record.event)).collect();
    let source = ForkLog::of(&events)?;
    let ForkRequest { at, input, set, signals, .. } = request;
    let cut = match at {
        Some(at) => source.cut_at(&at.parse()?)?,
        None => source.cut_to_retry()?,
    };
    check_age(&cut, first, exact_from)?;
    let choices = ForkChoices { input, signals, set };
    let fork = source.fork(&cut, who, &choices)?;
    created(file, who, fork)
}

/// Refuses a history that a version recorded which read floats, and told errors, in another way.
fn check_age(cut: &ForkCut, first: &Record, exact_from: Seq) -> Result<(), Error> {
    if cut.is_beginning() || first.seq >= exact_from {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "version 0.1 recorded the beginning of this run, and a copy of that could not be replayed: \
         fork it at its beginning, with `--at 0`",
    ))
}

fn cannot_read(run: &RunId, why: &str) -> Error {
    let message = format!("the log of run `{run}` cannot be read, so it cannot be forked: {why}");
    Error::new(ErrorKind::Conflict, message)
}

/// The run that a plan creates.
fn created(file: &Connection, who: &ForkAs, fork: Fork) -> Result<Planned, Error> {
    let Fork { created, events, children, outlook } = fork;
    let status = status_after(&created, &events)?;
    let ids = children.iter().map(|child| child.id.clone()).collect();
    let children = children.into_iter().map(|child| new_child(file, who, &created, child));
    let children = children.collect::<Result<Vec<NewRun>, Error>>()?;
    let rows = 1 + events.len() + children.len();
    let history =
        History { events: events.into_iter().map(EncodedEvent::from).collect(), status, children };
    let new = NewRun::forked(who.id.clone(), Box::new(created), history);
    let bytes = new.bytes();
    if rows > FORK_EVENTS_MAX || bytes > FORK_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the fork would begin with {rows} events of {bytes} bytes, and one commit takes at most \
             {FORK_EVENTS_MAX} events of {FORK_BYTES_MAX} bytes: fork at an earlier step"
        )));
    }
    Ok(Planned { new, children: ids, outlook })
}

/// The status of a fork after its history.
///
/// # Errors
/// `Internal` if the plan does not fold, which nothing must write.
fn status_after(created: &RunCreated, events: &[Event]) -> Result<RunStatus, Error> {
    let mut journal = Journal::default();
    let at = tidemill_eventlog::host::wall_now();
    let first = Event::RunCreated(Box::new(created.clone()));
    for event in std::iter::once(&first).chain(events) {
        journal.apply(Seq::ZERO, at, event).map_err(|why| {
            let message = format!("the fork does not fit together, and was not made: {why}");
            Error::new(ErrorKind::Internal, message)
        })?;
    }
    Ok(journal.head.status())
}

/// A run that begins anew, with the labels and the time of the one that it takes the place of.
fn new_child(
    file: &Connection,
    who: &ForkAs,
    parent: &RunCreated,
    child: ForkChild,
) -> Result<NewRun, Error> {
    let ForkChild { op, id, from, workflow, input, tie } = child;
    let before = query::events(file, Some(&from), Seq::ZERO, 1)?;
    let (labels, within_ms) = match before.first().map(tidemill_eventlog::Row::event) {
        // A run of that id which something else started has its own.
        Some(Ok(Event::RunCreated(before)))
            if before
                .parent
                .as_ref()
                .or(before.spawned_by.as_ref())
                .is_some_and(|by| by.op == op) =>
        {
            (before.labels, before.within_ms)
        }
        Some(Ok(_) | Err(_)) | None => (BTreeMap::new(), None),
    };
    let started_by = Some(Parent { run: who.id.clone(), op });
    let (parent_of_it, spawned_by, outlives_parent) = match tie {
        ForkTie::Child { outlives_parent } => (started_by, None, outlives_parent),
        ForkTie::Spawned => (None, started_by, false),
    };
    let created = RunCreated {
        workflow,
        input,
        labels,
        seed: seed_of(&parent.own_seed(), op),
        parent: parent_of_it,
        spawned_by,
        outlives_parent,
        app_version: who.app_version.clone(),
        durability: parent.durability,
        by: parent.by.clone(),
        forked: None,
        within_ms,
    };
    Ok(NewRun::new(id, Box::new(created)))
}

#[cfg(test)]
impl Planned {
    /// Writes the fork as a process does that dies before it loads it.
    pub(super) async fn write(self, engine: &Engine) {
        engine.store.create(self.new, None).await.unwrap();
    }
}
