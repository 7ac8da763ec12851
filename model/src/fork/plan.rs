//! Which events a fork begins with.
//!
//! Invariants, held by the tests of this folder and, with running code, of the engine:
//! - the events fold, and end with `run_forked` unless nothing is history;
//! - the inputs and acts before the cut are those of the other run, in their order;
//! - nothing whose output is carried begins again.

use std::collections::BTreeMap;

use super::outlook::ForkOutlook;
use super::trace::{ForkLog, Outcome, Trace};
use super::{Cut, Ops};
use crate::error::Error;
use crate::error_kind::ErrorKind;
use crate::event::Event;
use crate::event_data::{ForkSignals, Forked, Requester, RunCreated, Seed};
use crate::json::Json;
use crate::log_order::OpClass;
use crate::name::{OpName, RunId};
use crate::position::{OpId, Seq};
use crate::promise::Verdict;
use crate::signal::Signal;

/// Whose history the fork has, and as what it goes on.
#[derive(Debug, Clone)]
pub struct ForkAs {
    /// The run that is forked.
    pub from: RunId,
    /// The fork.
    pub id: RunId,
    /// What its own random numbers come from.
    pub seed: Seed,
    /// The version of the author's program that makes it.
    pub app_version: String,
    /// Who asks for it, and why.
    pub requester: Option<Requester>,
}

/// What a person chooses besides the cut.
#[derive(Debug, Clone, Default)]
pub struct ForkChoices {
    /// Another input; only at the beginning.
    pub input: Option<Json>,
    /// Which signals come with it.
    pub signals: ForkSignals,
    /// The outputs of operations that a person did by hand, by the operation's name or number.
    pub set: BTreeMap<String, Json>,
}

/// A run that is to be created with a history.
#[derive(Debug, Clone)]
pub struct Fork {
    /// Its `run_created`.
    pub created: RunCreated,
    /// What follows it in the log.
    pub events: Vec<Event>,
    /// The children that begin anew.
    pub children: Vec<ForkChild>,
    /// What a person is told of it.
    pub outlook: ForkOutlook,
}

/// A run that begins anew with the fork of the one that started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkChild {
    /// Its operation in the fork.
    pub op: OpId,
    /// Its id.
    pub id: RunId,
    /// The run that the other run started, whose labels it has.
    pub from: RunId,
    /// Its workflow.
    pub workflow: OpName,
    /// Its input.
    pub input: Json,
    /// What it is to the fork.
    pub tie: ForkTie,
}

/// What a run that begins anew is to the fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForkTie {
    /// Its child, and whether that goes on by itself when the fork no longer waits for it.
    Child {
        /// As the other run's child did.
        outlives_parent: bool,
    },
    /// A run of its own.
    Spawned,
}

/// What becomes of an operation that is open at the cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate<'a> {
    /// Its end came later, and is held.
    Carried(Outcome<'a>),
    /// A person gave its output, which is held.
    Given(&'a Json),
    /// Its answers, the later ones among them, come with it: they settle a promise.
    Answered,
    /// It begins again; a promise is asked again.
    Again,
    /// It goes on as it is: a timer keeps its time, a wait waits.
    Stays,
}

/// The one place that decides what becomes of each class of operation.
fn fate<'a>(op: OpId, trace: &Trace<'a>, cut: &Cut, given: Option<&'a Json>) -> Fate<'a> {
    match trace.class {
        OpClass::Step | OpClass::Child => match (given, trace.outcome) {
            (Some(output), _) => Fate::Given(output),
            (None, Some(outcome)) if is_carried(op, &outcome, cut) => Fate::Carried(outcome),
            (None, Some(_) | None) => Fate::Again,
        },
        // What was started before the cut is there, also if the run was not told of that any more.
        OpClass::Spawn => match trace.outcome {
            _ if cut.again == Some(op) => Fate::Again,
            Some(outcome) if is_carried(op, &outcome, cut) => Fate::Carried(outcome),
            Some(_) => Fate::Again,
            None => Fate::Stays,
        },
        OpClass::Promise => match trace.settled {
            _ if cut.again == Some(op) => Fate::Again,
            Some(verdict) if is_decided(op, trace, verdict, cut) => Fate::Answered,
            Some(_) => Fate::Again,
            None => Fate::Stays,
        },
        OpClass::Timer | OpClass::Signal => Fate::Stays,
    }
}

/// Whether what settled a promise is what people decided: a value, or the end of an approval. That
/// nobody answered in time is no decision.
fn is_decided(op: OpId, trace: &Trace<'_>, verdict: Verdict, cut: &Cut) -> bool {
    match verdict {
        _ if cut.observed == Some(op) => true,
        Verdict::Resolved => true,
        Verdict::Rejected => trace.is_approval,
        Verdict::Expired => false,
    }
}

/// Whether the end of a step or a child that came after the cut is held.
fn is_carried(op: OpId, outcome: &Outcome<'_>, cut: &Cut) -> bool {
    cut.again != Some(op) && (outcome.is_output() || cut.observed == Some(op))
}

impl ForkLog<'_> {
    /// The run that a fork at this cut creates.
    ///
    /// # Errors
    /// `Invalid`, `NotFound` or `Conflict` for a choice that does not fit the cut.
    pub fn fork(&self, cut: &Cut, who: &ForkAs, choices: &ForkChoices) -> Result<Fork, Error> {
        let set = self.set(cut, choices)?;
        let input = match &choices.input {
            Some(_) if !cut.is_beginning() => {
                return Err(Error::invalid(
                    "another input needs a fork at the beginning of the run, `--at 0`: the history \
                     before any other place follows from the input that it has",
                ));
            }
            Some(input) => input.clone(),
            None => self.created.input.clone(),
        };
        let open = self.ops.iter().filter(|(_, trace)| trace.is_open_at(cut.keep));
        let fates: Ops<Fate<'_>> =
            open.map(|(op, trace)| (*op, fate(*op, trace, cut, set.get(op)))).collect();
        let outlook = self.outlook(cut, &fates);
        let mut writer = Writer::of(self, cut, who, choices.signals, &fates);
        writer.history()?;
        writer.carry();
        writer.signals_after();
        let Writer { mut events, children, .. } = writer;
        let mut seed = who.seed;
        if !cut.is_beginning() {
            events.push(Event::RunForked { from: self.was(cut.keep, who), seed });
            seed = self.created.seed;
        }
        let created = RunCreated {
            input,
            seed,
            // Who gives it another input is who starts it.
            by: match (&choices.input, &who.requester) {
                (Some(_), Some(Requester { by: Some(by), .. })) => Some(by.clone()),
                (Some(_) | None, _) => self.created.by.clone(),
            },
            // Its parent waits for the child that it started.
            parent: None,
            outlives_parent: false,
            // A person started the fork.
            spawned_by: None,
            app_version: who.app_version.clone(),
            forked: Some(Forked {
                from: who.from.clone(),
                seq: self.seq_after(cut.keep),
                seed: who.seed,
                signals: choices.signals,
                set: set.clone(),
                requester: who.requester.clone(),
                origin: None,
            }),
            ..self.created.clone()
        };
        Ok(Fork { created, events, children, outlook })
    }

    /// Who the code was before the cut: the other run, or one whose history that has.
    fn was(&self, keep: usize, who: &ForkAs) -> RunId {
        let mut after = self.log[keep.min(self.log.len())..].iter();
        let copied = after.find_map(|(_, event)| match event {
            Event::RunForked { from, .. } => Some(from.clone()),
            _ => None,
        });
        copied.unwrap_or_else(|| who.from.clone())
    }

    /// The outputs that a person gives, by their operations.
    fn set(&self, cut: &Cut, choices: &ForkChoices) -> Result<Ops<Json>, Error> {
        let mut set = BTreeMap::new();
        for (text, value) in &choices.set {
            let op = self.find(text)?;
            let Some(trace) = self.ops.get(&op) else { continue };
            let refused = |why: &str| {
                let message =
                    format!("the output of operation {op} `{}` cannot be set: {why}", trace.name);
                Err(Error::new(ErrorKind::Conflict, message))
            };
            match trace.class {
                OpClass::Step | OpClass::Child => {}
                OpClass::Promise => {
                    return refused(
                        "a promise is answered: answer the fork's, which is asked again",
                    );
                }
                OpClass::Timer | OpClass::Signal | OpClass::Spawn => {
                    return refused("only a step or a child has one; send the fork a signal");
                }
            }
            if trace.started >= cut.keep {
                return refused("it starts after the cut: fork at its end");
            }
            if !trace.is_open_at(cut.keep) {
                return refused("it ended before the cut: fork at that end");
            }
            if set.insert(op, value.clone()).is_some() {
                return refused("it is given twice, by its name and by its number");
            }
        }
        Ok(set)
    }
}

/// Writes the fork's events.
struct Writer<'a> {
    log: &'a ForkLog<'a>,
    cut: &'a Cut,
    who: &'a ForkAs,
    signals: ForkSignals,
    fates: &'a Ops<Fate<'a>>,
    /// The numbers that the signals have which come with the fork, by those that they had.
    numbers: BTreeMap<u32, u32>,
    events: Vec<Event>,
    children: Vec<ForkChild>,
}

impl<'a> Writer<'a> {
    fn of(
        log: &'a ForkLog<'a>,
        cut: &'a Cut,
        who: &'a ForkAs,
        signals: ForkSignals,
        fates: &'a Ops<Fate<'a>>,
    ) -> Writer<'a> {
        let (events, children) = (Vec::new(), Vec::new());
        let numbers = log.numbers(cut.keep, signals);
        Writer { log, cut, who, signals, fates, numbers, events, children }
    }

    /// The events before the cut.
    fn history(&mut self) -> Result<(), Error> {
        let before = &self.log.log[1..self.cut.keep];
        for (_, event) in before {
            if let Some(copied) = self.copied(event)? {
                self.events.push(copied);
            }
        }
        Ok(())
    }

    /// What the fork has of an event before the cut; `None` if nothing.
    fn copied(&mut self, event: &Event) -> Result<Option<Event>, Error> {
        let fate = event.op().and_then(|op| self.fates.get(&op));
        let begins_again = matches!(fate, Some(Fate::Again | Fate::Given(_)));
        Ok(match event {
            // What became of the other run in its processes.
            Event::NodeStarted(_)
            | Event::RunCreated(_)
            | Event::RunStarted { .. }
            | Event::CancelHeld { .. }
            | Event::TurnParted {}
            | Event::RunBlocked { .. }
            | Event::RunResumed {}
            | Event::RunPaused { .. } => None,
            Event::StepStarted { .. } | Event::ChildStarted { .. } | Event::SpawnStarted { .. }
                if begins_again =>
            {
                self.started_again(event, fate)?
            }
            Event::StepAttemptStarted { .. }
            | Event::StepAttemptFailed { .. }
            | Event::StepRestarted { .. }
            | Event::Checkpoint { .. }
                if begins_again =>
            {
                None
            }
            // A token is for the other run's promise.
            Event::PromiseToken { .. } => None,
            Event::PromiseAnswered { .. } if begins_again => None,
            // `carry` writes it, in the order in which the ends came.
            Event::OpHeld { .. } if fate.is_some() => None,
            Event::SignalReceived(signal) => self.numbered(signal),
            Event::SignalDelivered { op, name, number } => {
                let number = self.numbers.get(number).copied().unwrap_or(*number);
                Some(Event::SignalDelivered { op: *op, name: name.clone(), number })
            }
            Event::StepStarted { .. }
            | Event::StepAttemptStarted { .. }
            | Event::StepAttemptFailed { .. }
            | Event::StepRestarted { .. }
            | Event::StepCompleted { .. }
            | Event::StepFailed { .. }
            | Event::Checkpoint { .. }
            | Event::TimerStarted { .. }
            | Event::TimerFired { .. }
            | Event::ChildStarted { .. }
            | Event::ChildCompleted { .. }
            | Event::ChildFailed { .. }
            | Event::SpawnStarted { .. }
            | Event::SpawnCompleted { .. }
            | Event::SpawnFailed { .. }
            | Event::SignalStarted { .. }
            | Event::SignalTaken { .. }
            | Event::PromiseStarted { .. }
            | Event::PromiseAnswered { .. }
            | Event::PromiseResolved { .. }
            | Event::PromiseRejected { .. }
            | Event::Now { .. }
            | Event::StatusSet { .. }
            | Event::OpDropped { .. }
            | Event::OpHeld { .. }
            | Event::CancelRequested { .. }
            | Event::RunForked { .. }
            | Event::RunCompleted { .. }
            | Event::RunFailed { .. } => Some(event.clone()),
        })
    }

    /// The start of an operation that begins again.
    fn started_again(
        &mut self,
        event: &Event,
        fate: Option<&Fate<'_>>,
    ) -> Result<Option<Event>, Error> {
        Ok(match event {
            Event::StepStarted { op, name, input, .. } => {
                let (name, input) = (name.clone(), input.clone());
                Some(Event::StepStarted { op: *op, name, queued: true, input })
            }
            Event::ChildStarted { op, name, child, input, outlives_parent } => {
                let (name, input) = (name.clone(), input.clone());
                let outlives_parent = *outlives_parent;
                // Nothing begins of which a person gave the output.
                let child = match fate {
                    Some(Fate::Given(_)) => child.clone(),
                    _ => {
                        let tie = ForkTie::Child { outlives_parent };
                        self.anew((*op, &name), child, &input, tie)?
                    }
                };
                Some(Event::ChildStarted { op: *op, name, child, input, outlives_parent })
            }
            Event::SpawnStarted { op, name, run, input } => {
                let run = self.anew((*op, name), run, input, ForkTie::Spawned)?;
                let (name, input) = (name.clone(), input.clone());
                Some(Event::SpawnStarted { op: *op, name, run, input })
            }
            _ => None,
        })
    }

    /// Lets a run begin anew that the other run started, under the fork's id.
    fn anew(
        &mut self,
        (op, name): (OpId, &OpName),
        from: &RunId,
        input: &Json,
        tie: ForkTie,
    ) -> Result<RunId, Error> {
        let id = self.who.id.child(op).map_err(|e| Error::invalid(e.to_string()))?;
        let (workflow, from, input) = (name.clone(), from.clone(), input.clone());
        self.children.push(ForkChild { op, id: id.clone(), from, workflow, input, tie });
        Ok(id)
    }

    fn numbered(&self, signal: &Signal) -> Option<Event> {
        let number = *self.numbers.get(&signal.number)?;
        Some(Event::SignalReceived(Box::new(Signal { number, ..signal.clone() })))
    }

    /// The ends that are held, in the order in which they came; those that a person gave for
    /// operations that have not ended come last.
    fn carry(&mut self) {
        let mut left = self.fates.clone();
        for (place, (_, event)) in self.log.log.iter().enumerate() {
            let Some(op) = event.op() else { continue };
            let Some(fate) = left.get(&op).copied() else { continue };
            let ends_here = self.log.ops.get(&op).and_then(|trace| trace.outcome);
            let ends_here = ends_here.is_some_and(|outcome| outcome.place == place);
            match fate {
                Fate::Carried(Outcome { end, attempt, .. }) if ends_here => {
                    self.hold(op, attempt, end.clone());
                    left.remove(&op);
                }
                // How the attempt went whose end is carried.
                Fate::Carried(_) if place >= self.cut.keep => self.events.push((*event).clone()),
                Fate::Given(output) if ends_here => {
                    self.give(op, output);
                    left.remove(&op);
                }
                Fate::Answered if place >= self.cut.keep => {
                    if let Event::PromiseAnswered { .. } = event {
                        self.events.push((*event).clone());
                    }
                }
                Fate::Carried(_) | Fate::Given(_) | Fate::Answered | Fate::Again | Fate::Stays => {}
            }
        }
        for (op, fate) in left {
            if let Fate::Given(output) = fate {
                self.give(op, output);
            }
        }
    }

    fn give(&mut self, op: OpId, output: &Json) {
        let Some(trace) = self.log.ops.get(&op) else { return };
        let (name, output) = (trace.name.clone(), output.clone());
        let end = match trace.class {
            OpClass::Child => Event::ChildCompleted { op, name, output },
            OpClass::Step
            | OpClass::Timer
            | OpClass::Spawn
            | OpClass::Signal
            | OpClass::Promise => Event::StepCompleted { op, name, output },
        };
        // As if its only attempt had returned it.
        self.hold(op, Some(1).filter(|_| trace.class == OpClass::Step), end);
    }

    fn hold(&mut self, op: OpId, attempt: Option<u32>, end: Event) {
        let Some(trace) = self.log.ops.get(&op) else { return };
        let (name, end) = (trace.name.clone(), Box::new(end));
        self.events.push(Event::OpHeld { op, name, attempt, end });
    }

    /// The signals that the other run was sent later, as unread.
    fn signals_after(&mut self) {
        if self.signals != ForkSignals::All {
            return;
        }
        let after: Vec<Event> = self.log.log[self.cut.keep.min(self.log.log.len())..]
            .iter()
            .filter_map(|(_, event)| match event {
                Event::SignalReceived(signal) => self.numbered(signal),
                _ => None,
            })
            .collect();
        self.events.extend(after);
    }
}

impl ForkLog<'_> {
    /// The numbers of the signals that come with the fork, without a gap, by those that they had.
    fn numbers(&self, keep: usize, which: ForkSignals) -> BTreeMap<u32, u32> {
        let before = &self.log[..keep.min(self.log.len())];
        let of = |events: &[(Seq, &Event)], is: fn(&Event) -> Option<u32>| {
            events.iter().filter_map(|(_, event)| is(event)).collect::<Vec<u32>>()
        };
        let received = |event: &Event| match event {
            Event::SignalReceived(signal) => Some(signal.number),
            _ => None,
        };
        let delivered = |event: &Event| match event {
            Event::SignalDelivered { number, .. } => Some(*number),
            _ => None,
        };
        let mut numbers = match which {
            ForkSignals::None => of(before, delivered),
            ForkSignals::Before => of(before, received),
            ForkSignals::All => of(self.log, received),
        };
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().zip(1..).collect()
    }
}
