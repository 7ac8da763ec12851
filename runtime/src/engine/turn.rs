//! What a turn collects: the events of one commit, and the effects to release after it.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use tidemill_model::{
    BlockReason, BlockReasonKind, EncodedEvent, Event, Failure, FailureKind, RunCreated, RunId,
    RunStatus, Seq, Timestamp,
};

use super::cell::Asked;
use super::handle::RunResult;
use super::journal::Journal;
use super::life::Life;
use crate::author::App;
use crate::gate::Gate;
use crate::ops::{self, Effect};
use crate::store::writer::NewRun;

/// A turn of more rows than this takes several commits, some 5 ms of the writer's time each. The
/// bound is small in tests.
const PART_ROWS_MAX: usize = if cfg!(test) { 8 } else { 256 };

/// A turn of more bytes than this takes several commits, too: SQLite writes as many again into its
/// WAL.
const PART_BYTES_MAX: usize = if cfg!(test) { 4_096 } else { 1024 * 1024 };

/// How many inputs a turn takes at most, because inputs cannot be cut: the rest waits for the next
/// turn.
const TURN_INPUTS_MAX: usize = if cfg!(test) { 4 } else { 256 };

/// A turn that is not durable yet.
#[derive(Default)]
pub(crate) struct Pending {
    /// How many of the inputs the turn has taken: a turn that is full, or blocks the run, leaves
    /// the rest.
    pub(crate) taken: usize,
    events: Vec<EncodedEvent>,
    /// About how many bytes the events have.
    bytes: usize,
    pub(crate) effects: Vec<Effect>,
    pub(crate) children: Vec<NewRun>,
    pub(crate) status: Option<RunStatus>,
    pub(crate) ended: Option<RunResult>,
    pub(crate) blocked: Option<BlockReason>,
    /// Where the turn is cut into several commits, so that other runs need not wait for all of it.
    cuts: Vec<TurnCut>,
    /// Children that a later part of the turn drops: they never begin.
    dropped_later: FxHashSet<RunId>,
}

/// What to do with a child once its creation is durable.
pub(crate) enum Birth {
    Begins(Box<RunCreated>),
    /// Cancel it: the same commit drops it.
    Unwanted,
    /// Wait: a later commit of the turn drops it.
    Undecided,
}

/// A place in a turn between two of its commits.
#[derive(Clone, Copy)]
struct TurnCut {
    at: Extent,
    /// The run's status there.
    status: RunStatus,
}

/// How much a turn has collected.
#[derive(Clone, Copy, Default)]
struct Extent {
    events: usize,
    bytes: usize,
    effects: usize,
    children: usize,
}

/// A run with a life.
pub(crate) struct Live {
    pub(crate) life: Life,
    pub(crate) journal: Journal,
    /// The newest input or act that is durable.
    pub(crate) last: Seq,
    /// The status as the file has it.
    pub(crate) status: RunStatus,
    pub(crate) created: Arc<RunCreated>,
    /// The gate that releases bodies.
    pub(crate) gate: Gate,
    /// The program: which children it can run, and its version.
    pub(crate) app: Arc<App>,
}

impl Live {
    /// Delivers the inputs one after another. Ignores an input for an operation that is not open,
    /// because it came too late.
    pub(crate) fn turn(&mut self, run: &RunId, inputs: &[Event], now: Timestamp) -> Pending {
        let mut pending = Pending::default();
        self.life.stands_at(self.last);
        for input in inputs {
            pending.taken += 1;
            if self.journal.apply(Seq::ZERO, now, input).is_err() {
                continue;
            }
            ops::end(&mut pending, input);
            pending.push(input.clone());
            let asked = self.life.deliver(input);
            if let Err(reason) = asked.and_then(|asked| self.add(&mut pending, run, asked, now)) {
                pending.block(reason);
                break;
            }
            if pending.ended.is_some() || pending.is_full() {
                break;
            }
        }
        self.settle(&mut pending);
        pending
    }

    /// Adds the code's new acts; adds none if they do not fit what the run did before.
    pub(crate) fn add(
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
        for asked in asked {
            let event = ops::ask(self, pending, run, asked)?;
            match &event {
                Event::RunCompleted { output } => {
                    pending.ended = Some(RunResult::Completed(output.clone()));
                }
                Event::RunFailed { error } => {
                    pending.ended = Some(RunResult::Failed(error.clone()));
                }
                _ => {}
            }
            self.apply(now, &event)?;
            pending.push(event);
            pending.cut_if_long(|| self.journal.head.status());
        }
        Ok(())
    }

    /// Ends the run as cancelled: a turn without an input, which its code did not ask for.
    pub(crate) fn cancel(journal: &mut Journal, now: Timestamp) -> Pending {
        let mut pending = Pending::default();
        for op in journal.open_ops() {
            ops::drop_op(&mut pending, journal, op);
            let event = Event::OpDropped { op };
            let dropped = journal.apply(Seq::ZERO, now, &event);
            dropped.expect("an open operation can be dropped");
            pending.push(event);
        }
        let message = "its parent dropped it or has ended";
        let failure = Failure {
            kind: FailureKind::Cancelled,
            message: message.to_owned(),
            chain: Vec::new(),
        };
        pending.push(Event::RunFailed { error: failure.clone() });
        pending.status = Some(RunStatus::Cancelled);
        pending.ended = Some(RunResult::Failed(failure));
        pending
    }

    /// Decides the status that the file has after this turn.
    pub(crate) fn settle(&mut self, pending: &mut Pending) {
        let status = match (&pending.ended, &pending.blocked) {
            (Some(RunResult::Completed(_)), _) => RunStatus::Completed,
            (Some(RunResult::Failed(failure)), _) if failure.kind == FailureKind::Cancelled => {
                RunStatus::Cancelled
            }
            (Some(RunResult::Failed(_)), _) => RunStatus::Failed,
            (_, Some(_)) => RunStatus::Blocked,
            (_, None) => self.journal.head.active(),
        };
        let is_written = status == self.status && pending.cuts.is_empty();
        if !is_written || status == RunStatus::Blocked {
            self.status = status;
            pending.status = Some(status);
        }
    }

    /// Applies an event to the journal. An event that does not fit must not be written either,
    /// because no version could read a log with it.
    pub(crate) fn apply(&mut self, now: Timestamp, event: &Event) -> Result<(), BlockReason> {
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
}

impl Pending {
    /// Adds an event.
    pub(crate) fn push(&mut self, event: Event) {
        let event = EncodedEvent::from(event);
        self.bytes += event.bytes();
        self.events.push(event);
    }

    /// Whether there is nothing to record.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events, for the writer.
    pub(crate) fn take_events(&mut self) -> Vec<EncodedEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether it takes no more inputs.
    fn is_full(&self) -> bool {
        self.taken >= TURN_INPUTS_MAX || self.bytes >= PART_BYTES_MAX
    }

    /// What becomes of the children that this commit creates, in their order.
    pub(crate) fn births(&self) -> Vec<(RunId, Birth)> {
        let dropped = self.dropped_children();
        let birth = |new: &NewRun| {
            if dropped.contains(&new.id) {
                Birth::Unwanted
            } else if self.dropped_later.contains(&new.id) {
                Birth::Undecided
            } else {
                Birth::Begins(Box::new(new.created().clone()))
            }
        };
        self.children.iter().map(|new| (new.id.clone(), birth(new))).collect()
    }

    /// The children that the turn drops.
    fn dropped_children(&self) -> FxHashSet<&RunId> {
        let effects = self.effects.iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Dropped { child, .. } => child.as_ref(),
                Effect::Body { .. } | Effect::Timer { .. } | Effect::Ended { .. } => None,
            })
            .collect()
    }

    /// Records that the run is blocked. Keeps what was collected so far: the inputs are recorded,
    /// and a replay asks again for the acts after the last of them.
    pub(crate) fn block(&mut self, reason: BlockReason) {
        self.push(Event::RunBlocked { reason: reason.clone() });
        self.blocked = Some(reason);
    }

    /// Takes back the block, which was the last event that was collected.
    pub(crate) fn unblock(&mut self) -> Option<BlockReason> {
        let reason = self.blocked.take()?;
        self.events.pop();
        Some(reason)
    }

    /// Cuts the turn here, after an act, if its last part is long. A crash between two parts leaves
    /// a log that ends amid the acts after an input, from which a replay can continue.
    fn cut_if_long(&mut self, status: impl FnOnce() -> RunStatus) {
        let last = self.cuts.last().map_or(Extent::default(), |cut| cut.at);
        let now = self.extent();
        let long =
            now.rows() - last.rows() >= PART_ROWS_MAX || now.bytes - last.bytes >= PART_BYTES_MAX;
        if long && self.ended.is_none() {
            self.cuts.push(TurnCut { at: now, status: status() });
        }
    }

    /// The parts of the turn that are committed before its last one, which stays.
    pub(crate) fn take_parts(&mut self) -> Vec<Pending> {
        let mut cuts = std::mem::take(&mut self.cuts);
        // Nothing comes after a cut at the end: that part is the last one.
        cuts.pop_if(|cut| cut.at.events == self.events.len());
        if cuts.is_empty() {
            return Vec::new();
        }
        let dropped: FxHashSet<RunId> = self.dropped_children().into_iter().cloned().collect();
        let mut taken = Extent::default();
        let mut parts = Vec::with_capacity(cuts.len());
        for TurnCut { at, status } in cuts {
            parts.push(Pending {
                events: self.events.drain(..at.events - taken.events).collect(),
                effects: self.effects.drain(..at.effects - taken.effects).collect(),
                children: self.children.drain(..at.children - taken.children).collect(),
                status: Some(status),
                dropped_later: dropped.clone(),
                ..Pending::default()
            });
            taken = at;
        }
        parts
    }

    fn extent(&self) -> Extent {
        Extent {
            events: self.events.len(),
            bytes: self.bytes,
            effects: self.effects.len(),
            children: self.children.len(),
        }
    }

    /// Forgets what was added after `to`.
    fn cut_back(&mut self, to: Extent) {
        self.events.truncate(to.events);
        self.bytes = to.bytes;
        self.effects.truncate(to.effects);
        self.children.truncate(to.children);
        self.cuts.retain(|cut| cut.at.events <= to.events);
    }
}

impl Extent {
    /// The number of rows, including one for each child's creation.
    fn rows(self) -> usize {
        self.events + self.children
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::{Json, OpId, OpName};

    use super::*;

    fn step(op: u32, bytes: usize) -> Event {
        Event::StepStarted {
            op: OpId::new(op).unwrap(),
            name: OpName::new("a").unwrap(),
            queued: false,
            input: Json::of(&"x".repeat(bytes)).unwrap(),
        }
    }

    #[test]
    fn a_turn_of_few_rows_with_large_payloads_is_cut_and_takes_no_more_inputs() {
        let mut pending = Pending::default();
        for op in 1..=3 {
            pending.push(step(op, PART_BYTES_MAX));
            pending.cut_if_long(|| RunStatus::Running);
            assert!(pending.is_full());
        }
        pending.push(step(4, 1));
        pending.cut_if_long(|| RunStatus::Running);
        let parts: Vec<usize> = pending.take_parts().iter().map(|part| part.events.len()).collect();
        assert_eq!((parts, pending.events.len()), (vec![1, 1, 1], 1));
    }

    #[test]
    fn what_is_taken_back_of_a_turn_does_not_count() {
        let mut pending = Pending::default();
        let before = pending.extent();
        pending.push(step(1, PART_BYTES_MAX));
        pending.cut_back(before);
        assert!(pending.is_empty() && !pending.is_full());
    }
}
