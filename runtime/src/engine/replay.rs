//! Replays a workflow from its log.
//!
//! The replay uses the same code as live execution: it delivers the recorded inputs to a new life
//! one after another, and the acts after each input must equal those of the log. At the end of the
//! log the life may do more, because the process may have died before that was recorded.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tidemill_model::{
    BlockReason, BlockReasonKind, Event, EventClass, EventKind, Floats, OpId, OpName, RunCreated,
    RunId, Seq,
};

use super::bodies::StepBody;
use super::call_site::CallSite;
use super::cell::{Asked, LoggedValues, RunCell};
use super::clock::Clock;
use super::identity::Identity;
use super::inbox::Inbox;
use super::journal::{Alike, LogPlace, compare};
use super::life::{Life, Noting};
use super::polls::{Polls, RunMark};
use crate::author::near::did_you_mean;
use crate::author::result::Wording;
use crate::author::{App, Workflow};
use crate::store::{self, Record};

/// A run that has been replayed to the end of its log.
pub(crate) struct Replayed {
    pub(crate) life: Life,
    /// The bodies of the steps that the log leaves open.
    pub(crate) bodies: FxHashMap<OpId, StepBody>,
    /// The acts after the last input that the log does not have.
    pub(crate) asked: Vec<Asked>,
}

/// Why a replay cannot go on.
#[derive(Debug)]
pub(crate) struct Divergence {
    /// The reason that blocks the run.
    pub(crate) reason: BlockReason,
    /// The first event that the code does not do, or else the input after which it does something
    /// that the log does not have; `None` if nothing was replayed.
    pub(crate) seq: Option<Seq>,
    /// The author's call that it concerns; `None` if none is known.
    pub(crate) call: Option<PartedAt>,
}

/// A call of the author's code at which a replay stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PartedAt {
    /// It asked for what the log does not have.
    Asks(CallSite),
    /// The code asked for nothing more: this is the oldest call that it waits for.
    Waits(CallSite),
}

impl From<BlockReason> for Divergence {
    fn from(reason: BlockReason) -> Divergence {
        Divergence { reason, seq: None, call: None }
    }
}

/// What a replay needs besides the log.
pub(crate) struct ReplayContext<'a> {
    pub(crate) app: &'a App,
    pub(crate) run: &'a RunId,
    pub(crate) clock: &'a Clock,
    pub(crate) inbox: &'a Arc<Inbox>,
    /// The position from which only versions that read floats exactly, and whose errors of steps
    /// say their reason, have written the log; `None` if no such position is known.
    pub(crate) floats_exact_from: Option<Seq>,
    /// The note of polls; `None` if nothing is executed after the replay.
    pub(crate) polls: Option<&'a Arc<Polls>>,
}

impl ReplayContext<'_> {
    /// Replays a whole log.
    pub(crate) fn replay(&self, log: &[Record]) -> Result<Replayed, Divergence> {
        let mut replay = self.begin(log)?;
        loop {
            if let Some(replayed) = replay.deliver(usize::MAX)? {
                return Ok(replayed);
            }
        }
    }

    /// A replay that has yet to deliver its first input.
    pub(crate) fn begin<'a>(&'a self, log: &'a [Record]) -> Result<Replay<'a>, BlockReason> {
        let created = store::created(log)?;
        let workflow = self.app.workflows.get(&created.workflow);
        let workflow = workflow.ok_or_else(|| unknown_workflow(self.app, &created.workflow))?;
        let identity = Identity::of(self.run.clone(), created, log);
        let inbox = Arc::clone(self.inbox);
        let names = (Arc::clone(&self.app.names), Arc::clone(&workflow.outside));
        let cell = RunCell::new(identity, self.clock.clone(), inbox, names, logged(log));
        let life = Some(Life::new(cell, self.noting(created, log)));
        let bodies = FxHashMap::default();
        Ok(Replay { stage: self, workflow, log, rest: log, life, bodies, told: false })
    }
}

/// The values that the log holds beside its inputs.
fn logged(log: &[Record]) -> LoggedValues {
    let mut logged = LoggedValues::default();
    for record in log {
        match &record.event {
            Event::Now { op, at } => drop(logged.times.insert(*op, *at)),
            Event::SignalReceived(signal) => {
                logged.signals.insert(signal.number, signal.value.clone());
            }
            _ => {}
        }
    }
    logged
}

/// A replay in progress.
pub(crate) struct Replay<'a> {
    stage: &'a ReplayContext<'a>,
    workflow: &'a Workflow,
    log: &'a [Record],
    rest: &'a [Record],
    /// `None` once it is done.
    life: Option<Life>,
    bodies: FxHashMap<OpId, StepBody>,
    /// Whether the code was told that the run is cancelled.
    told: bool,
}

impl Replay<'_> {
    /// Delivers a number of inputs. `None` if there are more, so that the caller can yield its
    /// thread during a long log.
    pub(crate) fn deliver(&mut self, inputs: usize) -> Result<Option<Replayed>, Divergence> {
        for _ in 0..inputs {
            if let Some(asked) = self.next()? {
                let bodies = std::mem::take(&mut self.bodies);
                return Ok(self.life.take().map(|life| {
                    life.set_wording(Wording::WithReason);
                    Replayed { life, bodies, asked }
                }));
            }
        }
        Ok(None)
    }

    /// Delivers one input; at the end of the log, returns the acts that the log does not have.
    fn next(&mut self) -> Result<Option<Vec<Asked>>, Divergence> {
        let Some((input, after)) = self.rest.split_first() else {
            return Err(BlockReason::unreadable("it has no input").into());
        };
        let Some(life) = &mut self.life else { return Ok(None) };
        life.set_wording(self.stage.wording(input));
        let asked = match &input.event {
            Event::RunCreated(created) => life.begin(self.workflow, &created.input),
            input => {
                forget_bodies(input, &mut self.bodies);
                life.deliver(input)
            }
        };
        let segment = segment(after);
        self.rest = &after[segment..];
        let mut asked = match asked {
            Ok(asked) => asked,
            // Its code was blocked there, and never went on.
            Err(_) if is_terminated(&after[..segment]) => return Ok(Some(Vec::new())),
            Err(reason) => {
                let call = life.trouble_at().map(PartedAt::Asks);
                return Err(Divergence { reason, seq: Some(input.seq), call });
            }
        };
        let is_act = |record: &&Record| record.event.class() == EventClass::Act;
        let acts: Vec<&Record> = after[..segment].iter().filter(is_act).collect();
        let recorded: Vec<&Event> = acts.iter().map(|record| &record.event).collect();
        let how =
            Alike { floats: self.stage.floats(input), copied: life.identity().is_in_history() };
        self.told = self.told || matches!(input.event, Event::CancelRequested { .. });
        let place = match self.rest.is_empty() {
            true => LogPlace::Last { told: self.told },
            false => LogPlace::Amid,
        };
        let known = compare(&recorded, &asked, how, place).map_err(|parting| {
            let call = match asked.get(parting.known) {
                Some(asked) => asked.at.map(PartedAt::Asks),
                None => life.waits_at().map(PartedAt::Waits),
            };
            let seq = acts.get(parting.known).map_or(input.seq, |act| act.seq);
            let reason = self.stage.explained(parting.reason, input, self.log);
            Divergence { reason, seq: Some(seq), call }
        })?;
        let forks = after[..segment].iter();
        forks
            .filter(|it| it.event.kind() == EventKind::RunForked)
            .for_each(|_| life.identity().pass_history());
        let imposed_end = recorded.len() > known;
        keep_bodies(asked.drain(..known), &mut self.bodies);
        if !self.rest.is_empty() {
            return Ok(None);
        }
        if imposed_end {
            // The code's further acts are not needed.
            asked.clear();
        }
        Ok(Some(asked))
    }
}

impl ReplayContext<'_> {
    fn noting(&self, created: &RunCreated, log: &[Record]) -> Option<Noting> {
        let observed = |record: &&Record| record.event.class() != EventClass::Aside;
        Some(Noting {
            polls: Arc::clone(self.polls?),
            run: RunMark::of(&created.seed, self.run),
            position: log.iter().rev().find(observed).map_or(Seq::ZERO, |record| record.seq),
        })
    }

    /// How to compare floats in the acts after an input.
    fn floats(&self, input: &Record) -> Floats {
        match self.floats_exact_from {
            Some(from) if input.seq >= from => Floats::Exact,
            Some(_) | None => Floats::Near,
        }
    }

    /// The words that the error of a step had when this input was delivered first: 0.1 told no
    /// reasons, and read floats without care.
    fn wording(&self, input: &Record) -> Wording {
        match self.floats(input) {
            Floats::Exact | Floats::Any => Wording::WithReason,
            Floats::Near => Wording::Bare,
        }
    }

    /// Adds another possible cause to the reason if a version that read floats wrong gave the code
    /// floats: the code may have computed with them instead of only passing them on.
    fn explained(&self, reason: BlockReason, at: &Record, log: &[Record]) -> BlockReason {
        let given = log.iter().take_while(|record| record.seq <= at.seq);
        if self.floats(at) == Floats::Exact || !given.into_iter().any(gives_float) {
            return reason;
        }
        let advice = format!(
            "{}; or: an earlier version of tidemill wrote this part of the log, and read numbers \
             with a fraction up to 2 units in the last place wrong: if the code computes with \
             such numbers, let that version bring this run to its end, or start the run anew",
            reason.advice
        );
        BlockReason { advice, ..reason }
    }
}

/// Whether an input, or a signal, has a number with a fraction in it.
fn gives_float(record: &Record) -> bool {
    match &record.event {
        Event::RunCreated(created) => created.input.has_float(),
        Event::StepCompleted { output, .. }
        | Event::ChildCompleted { output, .. }
        | Event::PromiseResolved { output, .. } => output.has_float(),
        Event::SignalReceived(signal) => signal.value.has_float(),
        _ => false,
    }
}

/// Whether the log ends here because the run was terminated.
fn is_terminated(log: &[Record]) -> bool {
    let last = log.last().map(|record| &record.event);
    matches!(last, Some(Event::RunFailed { terminated: true, .. }))
}

/// How many records come before the next input.
fn segment(log: &[Record]) -> usize {
    let is_input = |record: &Record| record.event.class() == EventClass::Input;
    log.iter().position(is_input).unwrap_or(log.len())
}

/// Forgets the bodies of the steps that an input ends.
fn forget_bodies(input: &Event, bodies: &mut FxHashMap<OpId, StepBody>) {
    if let Event::CancelRequested { resolves, .. } = input {
        bodies.retain(|op, _| !resolves.contains_key(op));
    }
    input.op().and_then(|op| bodies.remove(&op));
}

/// Keeps the bodies of the steps that the log shows as started and not as dropped.
fn keep_bodies(known: impl Iterator<Item = Asked>, bodies: &mut FxHashMap<OpId, StepBody>) {
    for Asked { event, body, .. } in known {
        match (event, body) {
            (Event::StepStarted { op, .. }, Some(body)) => drop(bodies.insert(op, body)),
            (Event::OpDropped { op }, _) => drop(bodies.remove(&op)),
            _ => {}
        }
    }
}

fn unknown_workflow(app: &App, name: &OpName) -> BlockReason {
    let meant = did_you_mean(name.as_str(), app.workflows.keys().map(OpName::as_str));
    BlockReason {
        kind: BlockReasonKind::UnknownWorkflow,
        op: None,
        logged: Some(format!("workflow `{name}`")),
        asked: Some(format!("one of {}", app.workflow_names().join(", "))),
        advice: format!(
            "{meant}deploy a program that registers this workflow; it is then tried again"
        ),
    }
}
