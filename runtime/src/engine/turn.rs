//! What a turn collects: events to append in one commit, and what is released after it.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use tidemill_model::{
    BlockReason, BlockReasonKind, Event, Failure, FailureKind, Json, OpId, OpName, Parent,
    RunCreated, RunId, RunStatus, Seq, Timestamp,
};

use super::Engine;
use super::bodies::StepBody;
use super::cell::Asked;
use super::handle::RunResult;
use super::journal::{Journal, OpenKind};
use super::life::Life;
use super::replay::unknown_child;
use crate::gate::Gate;
use crate::writer::NewRun;

/// Something that happens outside, once the turn is durable.
pub(super) enum Effect {
    StartBody {
        op: OpId,
        body: StepBody,
    },
    SetTimer {
        op: OpId,
        fire_at: Timestamp,
    },
    /// The operation has ended: what served it goes.
    Ended {
        op: OpId,
    },
    /// The operation was dropped: what serves it is told.
    Dropped {
        op: OpId,
        child: Option<RunId>,
    },
}

/// A turn that is not durable yet.
#[derive(Default)]
pub(super) struct Pending {
    /// How many of the inputs were looked at: a turn that blocks the run leaves the rest.
    pub(super) taken: usize,
    pub(super) events: Vec<Event>,
    pub(super) effects: Vec<Effect>,
    pub(super) children: Vec<NewRun>,
    /// Steps that end with this turn.
    pub(super) closes: Vec<OpId>,
    pub(super) status: Option<RunStatus>,
    pub(super) ended: Option<RunResult>,
    pub(super) blocked: Option<BlockReason>,
}

/// How much a turn has collected.
#[derive(Clone, Copy)]
struct Extent {
    events: usize,
    effects: usize,
    children: usize,
    closes: usize,
}

/// A run with a living future.
pub(super) struct Live {
    pub(super) life: Life,
    pub(super) journal: Journal,
    /// The newest input or act that is durable.
    pub(super) last: Seq,
    /// The status as the file has it.
    pub(super) status: RunStatus,
    pub(super) created: Arc<RunCreated>,
    /// What bodies have to pass.
    pub(super) gate: Gate,
    pub(super) engine: Arc<Engine>,
}

impl Live {
    /// Delivers the inputs one after another. What concerns an operation that is not open came too
    /// late and is left out.
    pub(super) fn turn(&mut self, run: &RunId, inputs: &[Event], now: Timestamp) -> Pending {
        let mut pending = Pending::default();
        self.life.stands_at(self.last);
        for input in inputs {
            pending.taken += 1;
            if self.journal.apply(Seq::ZERO, now, input).is_err() {
                continue;
            }
            pending.ended_op(input);
            pending.events.push(input.clone());
            let asked = self.life.deliver(input);
            if let Err(reason) = asked.and_then(|asked| self.add(&mut pending, run, asked, now)) {
                pending.block(reason);
                break;
            }
            if pending.ended.is_some() {
                break;
            }
        }
        self.settle(&mut pending);
        pending
    }

    /// Adds what the code did anew; nothing of it if it does not fit what the run did before.
    pub(super) fn add(
        &mut self,
        pending: &mut Pending,
        run: &RunId,
        asked: Vec<Asked>,
        now: Timestamp,
    ) -> Result<(), BlockReason> {
        let before = pending.extent();
        let added = self.add_each(pending, run, asked, now);
        added.inspect_err(|_| pending.cut_back(before))
    }

    fn add_each(
        &mut self,
        pending: &mut Pending,
        run: &RunId,
        asked: Vec<Asked>,
        now: Timestamp,
    ) -> Result<(), BlockReason> {
        pending.events.reserve(asked.len());
        for Asked { mut event, body } in asked {
            match &mut event {
                Event::StepStarted { op, queued, .. } => {
                    *queued = *queued || !self.gate.is_open();
                    let body = body.expect("a step is asked for with its body");
                    pending.effects.push(Effect::StartBody { op: *op, body });
                }
                Event::TimerStarted { op, fire_at, .. } => {
                    pending.effects.push(Effect::SetTimer { op: *op, fire_at: *fire_at });
                }
                Event::ChildStarted { op, name, child, input } => {
                    if !self.engine.app.workflows.contains_key(name) {
                        return Err(unknown_child(&self.engine.app, *op, name));
                    }
                    let parent = Parent { run: run.clone(), op: *op };
                    let created = self.child_created(parent, name, input);
                    pending.children.push(NewRun::new(child.clone(), created));
                }
                Event::OpDropped { op } => pending.dropped_op(*op, &self.journal),
                Event::RunCompleted { output } => {
                    pending.ended = Some(RunResult::Completed(output.clone()));
                }
                Event::RunFailed { error } => {
                    pending.ended = Some(RunResult::Failed(error.clone()));
                }
                _ => {}
            }
            self.apply(now, &event)?;
            pending.events.push(event);
        }
        Ok(())
    }

    /// Ends the run as cancelled: a turn without an input, which its code did not ask for.
    pub(super) fn cancel(journal: &mut Journal, now: Timestamp) -> Pending {
        let mut pending = Pending::default();
        let mut open: Vec<OpId> = journal.open.keys().copied().collect();
        open.sort_unstable();
        for op in open {
            pending.dropped_op(op, journal);
            let event = Event::OpDropped { op };
            let dropped = journal.apply(Seq::ZERO, now, &event);
            dropped.expect("an open operation can be dropped");
            pending.events.push(event);
        }
        let message = "nobody waits for it any more: its parent dropped it or has ended";
        let failure = Failure {
            kind: FailureKind::Cancelled,
            message: message.to_owned(),
            chain: Vec::new(),
        };
        pending.events.push(Event::RunFailed { error: failure.clone() });
        pending.status = Some(RunStatus::Cancelled);
        pending.ended = Some(RunResult::Failed(failure));
        pending
    }

    /// Decides the status that the file has after this turn.
    pub(super) fn settle(&mut self, pending: &mut Pending) {
        let status = match (&pending.ended, &pending.blocked) {
            (Some(RunResult::Completed(_)), _) => RunStatus::Completed,
            (Some(RunResult::Failed(failure)), _) if failure.kind == FailureKind::Cancelled => {
                RunStatus::Cancelled
            }
            (Some(RunResult::Failed(_)), _) => RunStatus::Failed,
            (_, Some(_)) => RunStatus::Blocked,
            (_, None) => self.journal.status(),
        };
        if status != self.status || status == RunStatus::Blocked {
            self.status = status;
            pending.status = Some(status);
        }
    }

    /// Takes an event into the journal; what does not fit there must not be written either,
    /// because no version could read the log that has it.
    pub(super) fn apply(&mut self, now: Timestamp, event: &Event) -> Result<(), BlockReason> {
        self.journal.apply(Seq::ZERO, now, event).map_err(|why| BlockReason {
            kind: BlockReasonKind::Refused,
            op: event.op(),
            logged: None,
            asked: Some(format!("{why}: that was not written")),
            advice: "this is a fault of tidemill: keep the file and report it; nothing that was \
                     recorded is lost, and the run is tried again when it is resumed"
                .to_owned(),
        })
    }

    fn child_created(&self, parent: Parent, name: &OpName, input: &Json) -> Box<RunCreated> {
        Box::new(RunCreated {
            workflow: name.clone(),
            input: input.clone(),
            labels: std::collections::BTreeMap::new(),
            seed: super::children::seed_of(&self.created.seed, parent.op),
            parent: Some(parent),
            app_version: self.engine.app.version.clone(),
            durability: self.created.durability,
        })
    }
}

impl Pending {
    /// The children that the turn drops.
    pub(super) fn dropped_children(&self) -> FxHashSet<&RunId> {
        let effects = self.effects.iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Dropped { child, .. } => child.as_ref(),
                Effect::StartBody { .. } | Effect::SetTimer { .. } | Effect::Ended { .. } => None,
            })
            .collect()
    }

    /// Records that the run cannot go on. What was collected so far stays: the inputs are kept,
    /// and what the code did after the last of them is asked for again by a replay.
    pub(super) fn block(&mut self, reason: BlockReason) {
        self.events.push(Event::RunBlocked { reason: reason.clone() });
        self.blocked = Some(reason);
    }

    /// Takes back that the run cannot go on, which was the last that was collected.
    pub(super) fn unblock(&mut self) -> Option<BlockReason> {
        let reason = self.blocked.take()?;
        self.events.pop();
        Some(reason)
    }

    fn extent(&self) -> Extent {
        Extent {
            events: self.events.len(),
            effects: self.effects.len(),
            children: self.children.len(),
            closes: self.closes.len(),
        }
    }

    /// Forgets what was added after `to`.
    fn cut_back(&mut self, to: Extent) {
        self.events.truncate(to.events);
        self.effects.truncate(to.effects);
        self.children.truncate(to.children);
        self.closes.truncate(to.closes);
    }

    fn ended_op(&mut self, end: &Event) {
        let Some(op) = end.op() else { return };
        if matches!(end, Event::StepCompleted { .. } | Event::StepFailed { .. }) {
            self.closes.push(op);
        }
        self.effects.push(Effect::Ended { op });
    }

    fn dropped_op(&mut self, op: OpId, journal: &Journal) {
        let child = match journal.open.get(&op).map(|open| &open.kind) {
            Some(OpenKind::Child { child }) => Some(child.clone()),
            Some(OpenKind::Step(_)) => {
                self.closes.push(op);
                None
            }
            Some(OpenKind::Timer { .. }) | None => None,
        };
        self.effects.push(Effect::Dropped { op, child });
    }
}
