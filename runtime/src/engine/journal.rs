//! The journal: a run's state from its log, and the comparison of the log with the code's acts.
//! Pure.
//!
//! A run's log alternates inputs and acts; replay skips the asides between them. The journal folds
//! the log, as the views do, but keeps only the operations that are open.
//!
//! Two acts are equal if they have the same kind, operation and name, and equal JSON in recorded
//! inputs and final results. The moment of a timer and the answer of `ctx.now()` come from the log.
//! In a log that an earlier version wrote, floats need only be close: that version read them up to
//! 2 units in the last place wrong and recorded what it had read.

use std::fmt::Write as _;

use rustc_hash::{FxHashMap, FxHashSet};
use tidemill_model::log_order::Standing;
use tidemill_model::{
    AttemptState, BlockReason, BlockReasonKind, Event, FailureKind, Floats, Json, Op, OpId, OpKind,
    OpName, Operations, Parent, RunHead, RunId, Seed, Seq, Timestamp,
};

use super::cell::Asked;
use super::life::shown;
use super::polls::RunMark;
use crate::ops::timer::is_same_name;
use crate::store::Record;

/// What the log says about a step, for the body of its next attempt.
#[derive(Debug, Clone)]
pub(crate) struct StepFacts {
    pub(crate) input: Json,
    pub(crate) started_at: Timestamp,
    /// The newest attempt: it runs, is queued, or waits for `next_at`.
    pub(crate) attempt: u32,
    /// Whether the log says that its body began.
    pub(crate) begun: bool,
    pub(crate) failures: u32,
    pub(crate) next_at: Option<Timestamp>,
    /// Whether it follows an attempt that was cut off.
    pub(crate) follows_cut_off: bool,
    pub(crate) last_checkpoint: Option<Json>,
}

impl StepFacts {
    /// `None` for a timer or a child.
    pub(crate) fn of(op: &Op) -> Option<StepFacts> {
        let OpKind::Step { input } = &op.kind else { return None };
        let newest = op.attempts.last()?;
        Some(StepFacts {
            input: input.clone(),
            started_at: op.started_at,
            attempt: newest.number,
            begun: newest.state == AttemptState::Running,
            failures: tidemill_model::failures(&op.attempts),
            next_at: newest.state.until(),
            follows_cut_off: newest.after.is_some(),
            last_checkpoint: op.checkpoints.last().map(|last| last.value.clone()),
        })
    }
}

/// The open operations. A run may have had millions of operations, and a driver needs only these.
#[derive(Debug, Default)]
struct OpenOps {
    open: FxHashMap<OpId, Op>,
    /// The children that the log does not know to have ended.
    live_children: FxHashSet<OpId>,
    started: StartedOps,
}

impl Operations for OpenOps {
    fn standing(&self, id: OpId) -> Standing {
        match self.open.get(&id) {
            Some(op) => op.standing(),
            None if self.started.has(id) => Standing::Ended,
            None => Standing::Unknown,
        }
    }

    fn start(&mut self, id: OpId, op: Op) {
        self.started.add(id);
        if let OpKind::Child { .. } = op.kind {
            self.live_children.insert(id);
        }
        self.open.insert(id, op);
    }

    fn open(&mut self, id: OpId) -> Option<&mut Op> {
        self.open.get_mut(&id)
    }

    fn changed(&mut self, id: OpId) {
        let Some(op) = self.open.get_mut(&id) else { return };
        if !op.is_open() || op.held.is_some() {
            self.live_children.remove(&id);
        }
        if op.is_open() {
            // A body reads the newest only.
            let older = op.checkpoints.len().saturating_sub(1);
            op.checkpoints.drain(..older);
        } else {
            self.open.remove(&id);
        }
    }
}

/// A set of operations, 64 to a word: a run may have had millions.
#[derive(Debug, Default)]
struct StartedOps(FxHashMap<u32, u64>);

impl StartedOps {
    fn place(op: OpId) -> (u32, u64) {
        (op.get() / 64, 1 << (op.get() % 64))
    }

    fn add(&mut self, op: OpId) {
        let (word, bit) = StartedOps::place(op);
        *self.0.entry(word).or_default() |= bit;
    }

    fn has(&self, op: OpId) -> bool {
        let (word, bit) = StartedOps::place(op);
        self.0.get(&word).is_some_and(|bits| bits & bit != 0)
    }
}

/// The folded log of one run.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) head: RunHead,
    ops: OpenOps,
    seed: Option<Seed>,
    /// The parent that started the run as a child; `None` if it is no child.
    pub(crate) parent: Option<Parent>,
}

impl Journal {
    /// The journal of a log, which begins with `run_created`.
    pub(crate) fn of(log: &[Record]) -> Result<Journal, BlockReason> {
        let mut journal = Journal::default();
        for record in log {
            journal
                .apply(record.seq, record.ts, &record.event)
                .map_err(|why| BlockReason::unreadable(&format!("event {}: {why}", record.seq)))?;
        }
        Ok(journal)
    }

    pub(crate) fn apply(&mut self, seq: Seq, ts: Timestamp, event: &Event) -> Result<(), String> {
        self.head.apply(&mut self.ops, event, (seq, ts))?;
        if let Event::RunCreated(created) = event {
            self.seed = Some(created.seed);
            self.parent.clone_from(&created.parent);
        }
        Ok(())
    }

    /// An open operation; `None` if no operation of this id is open.
    pub(crate) fn open(&self, op: OpId) -> Option<&Op> {
        self.ops.open.get(&op)
    }

    /// The operations that are open, in the order of their ids.
    pub(crate) fn open_ops(&self) -> Vec<OpId> {
        let mut ops: Vec<OpId> = self.ops.open.keys().copied().collect();
        ops.sort_unstable();
        ops
    }

    /// The input that gives a signal to a wait, if there are both: the oldest signal that a wait of
    /// its name can have, to the oldest such wait.
    pub(crate) fn deliverable(&self) -> Option<Event> {
        if !self.head.signals.has_kept() {
            return None;
        }
        let mut waits = FxHashMap::<&OpName, OpId>::default();
        for (op, open) in &self.ops.open {
            if matches!(open.kind, OpKind::Signal { given: None }) {
                let oldest = waits.entry(&open.name).or_insert(*op);
                *oldest = (*oldest).min(*op);
            }
        }
        self.head.signals.kept().find_map(|kept| {
            let (name, number) = (&kept.signal.name, kept.signal.number);
            let op = *waits.get(name)?;
            Some(Event::SignalDelivered { op, name: name.clone(), number })
        })
    }

    /// Whether `run` is the parent of this journal's run.
    pub(crate) fn is_child_of(&self, run: &RunId) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.run == *run)
    }

    /// How many children it waits for that the log does not know to have ended.
    pub(crate) fn live_children(&self) -> usize {
        self.ops.live_children.len()
    }

    /// Whether the operation is one of them.
    pub(crate) fn is_live_child(&self, op: OpId) -> bool {
        self.ops.live_children.contains(&op)
    }

    /// Whether anything is open.
    pub(crate) fn has_open(&self) -> bool {
        !self.ops.open.is_empty()
    }

    /// When the next open timer is due; `None` if none is open.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        let timers = self.ops.open.values().filter_map(|op| match &op.kind {
            OpKind::Timer { fire_at } => Some(*fire_at),
            OpKind::Promise { terms, .. } if op.held.is_none() => terms.deadline,
            OpKind::Step { .. }
            | OpKind::Child { .. }
            | OpKind::Spawn { .. }
            | OpKind::Signal { .. }
            | OpKind::Promise { .. } => None,
        });
        timers.min()
    }

    /// The ends that are held, in the order in which they were recorded.
    pub(crate) fn held(&self) -> Vec<Event> {
        let mut held: Vec<_> = self.ops.open.values().filter_map(|op| op.held.as_ref()).collect();
        held.sort_unstable_by_key(|held| (held.seq, held.end.op()));
        held.into_iter().map(|held| held.end.clone()).collect()
    }

    /// The run's mark in the note of polls.
    pub(crate) fn mark(&self, run: &RunId) -> Option<RunMark> {
        self.seed.map(|seed| RunMark::of(&seed, run))
    }
}

/// The first place where the code's acts after an input are not the log's.
#[derive(Debug)]
pub(crate) struct Parting {
    /// How many acts after the input both have.
    pub(crate) known: usize,
    pub(crate) reason: BlockReason,
}

/// How acts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alike {
    pub(crate) floats: Floats,
    /// Whether they are history that was copied from another run: a run that it started and that began
    /// anew has another id there.
    pub(crate) copied: bool,
}

/// Where acts stand in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogPlace {
    /// More inputs follow.
    Amid,
    /// The log ends after them. `told`: the code was told that the run is cancelled.
    Last { told: bool },
}

/// Compares the code's acts after one input with the acts that the log has there. Where the log
/// ends it may have fewer acts, or an end that was imposed on the run. Returns how many of `asked`
/// the log has.
pub(crate) fn compare(
    recorded: &[&Event],
    asked: &[Asked],
    how: Alike,
    place: LogPlace,
) -> Result<usize, Parting> {
    let both = recorded.iter().zip(asked);
    let known = both.take_while(|(logged, asked)| is_same(&asked.event, logged, how)).count();
    match (recorded.get(known), asked.get(known)) {
        (None, None) => Ok(known),
        (None, Some(_)) if place != LogPlace::Amid => Ok(known),
        (Some(_), _) if is_imposed_end(&recorded[known..], place) => Ok(known),
        (logged, asked) => {
            let reason = nondeterminism(logged.copied(), asked.map(|asked| &asked.event));
            Err(Parting { known, reason })
        }
    }
}

fn is_same(asked: &Event, logged: &Event, how: Alike) -> bool {
    match (asked, logged) {
        (
            Event::ChildStarted { op, name, input, .. },
            Event::ChildStarted { op: its_op, name: its_name, input: its_input, .. },
        )
        | (
            Event::SpawnStarted { op, name, input, .. },
            Event::SpawnStarted { op: its_op, name: its_name, input: its_input, .. },
        ) if how.copied => {
            (op, name) == (its_op, its_name) && input.same_with(its_input, how.floats)
        }
        (
            Event::TimerStarted { op, name, .. },
            Event::TimerStarted { op: logged_op, name: logged_name, .. },
        ) => op == logged_op && is_same_name(name, logged_name),
        _ => asked.is_same_act(logged, how.floats),
    }
}

/// Whether these acts end the run without a request of its code: the engine drops the open operations
/// and ends the run. A run that was told of its cancel ends so only when it is terminated.
fn is_imposed_end(acts: &[&Event], place: LogPlace) -> bool {
    let LogPlace::Last { told } = place else { return false };
    let Some((Event::RunFailed { error, terminated }, before)) = acts.split_last() else {
        return false;
    };
    (*terminated || !told && error.kind == FailureKind::Cancelled)
        && before.iter().all(|act| matches!(act, Event::OpDropped { .. }))
}

fn nondeterminism(recorded: Option<&Event>, asked: Option<&Event>) -> BlockReason {
    let nothing = "nothing more before the next event";
    BlockReason {
        kind: BlockReasonKind::Nondeterminism,
        op: recorded.and_then(Event::op).or_else(|| asked.and_then(Event::op)),
        logged: Some(recorded.map_or_else(|| nothing.to_owned(), describe)),
        asked: Some(asked.map_or_else(|| nothing.to_owned(), describe)),
        advice: "deploy the code that wrote this log, or code that does the same up to here; take \
                 time, randomness and order only from ctx; then resume the run"
            .to_owned(),
    }
}

fn describe(act: &Event) -> String {
    let mut text = match act.op() {
        Some(op) => format!("{} {op}", act.kind()),
        None => act.kind().to_string(),
    };
    if let Some(name) = act.name() {
        write!(text, " `{name}`").expect("writing to a string cannot fail");
    }
    match act {
        Event::ChildStarted { child, input, .. }
        | Event::SpawnStarted { run: child, input, .. } => {
            write!(text, " as `{child}` with {}", shown(input))
                .expect("writing to a string cannot fail");
        }
        Event::StepStarted { input: json, .. } | Event::RunCompleted { output: json } => {
            write!(text, " with {}", shown(json)).expect("writing to a string cannot fail");
        }
        Event::RunFailed { error, .. } => {
            write!(text, ": {}", error.message).expect("writing to a string cannot fail");
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests;
