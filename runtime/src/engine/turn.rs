//! What a turn collects: the events of one commit, and the effects to release after it.

use rustc_hash::FxHashSet;

use tidemill_model::{BlockReason, EncodedEvent, Event, RunCreated, RunId, RunStatus};

use super::handle::RunResult;
use crate::ops::{Effect, spawn};
use crate::store::writer::NewRun;

/// A turn of more rows than this takes several commits: some 5 ms of the writer's time each. Tests
/// have few rows.
const PART_ROWS_MAX: usize = if cfg!(test) { 8 } else { 1_024 };

/// A child costs the writer as much as so many events: its row has five indexes.
const CHILD_ROWS: usize = if cfg!(test) { 1 } else { 8 };

/// A turn of more bytes than this takes several commits, too: SQLite writes as many again into its
/// WAL.
const PART_BYTES_MAX: usize = if cfg!(test) { 4_096 } else { 1024 * 1024 };

/// How many inputs a turn takes at most, because inputs cannot be cut: the rest waits for the next
/// turn.
const TURN_INPUTS_MAX: usize = if cfg!(test) { 4 } else { 1_024 };

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
    /// The runs that it starts: children, and others.
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
pub(super) struct Extent {
    events: usize,
    bytes: usize,
    effects: usize,
    children: usize,
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

    /// Whether it takes several commits.
    pub(super) fn is_cut(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// Whether it takes no more inputs.
    pub(super) fn is_full(&self) -> bool {
        self.taken >= TURN_INPUTS_MAX || self.bytes >= PART_BYTES_MAX
    }

    /// What to do with the children that this commit creates, in their order.
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

    /// For each run that this commit creates, what its spawn ends with once that is durable; `None` for
    /// a child.
    pub(crate) fn spawns(&self) -> Vec<Option<Event>> {
        let end = |new: &NewRun| {
            let created = new.created();
            let op = created.spawned_by.as_ref()?.op;
            Some(spawn::succeeded(op, &created.workflow, &new.id))
        };
        self.children.iter().map(end).collect()
    }

    /// The children that the turn drops.
    fn dropped_children(&self) -> FxHashSet<&RunId> {
        let effects = self.effects.iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Dropped { child, .. } => child.as_ref(),
                Effect::Body { .. }
                | Effect::Timer { .. }
                | Effect::Await { .. }
                | Effect::Ended { .. }
                | Effect::AskToEnd { .. } => None,
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

    /// Whether its last part is so long that another one should begin.
    pub(super) fn is_long(&self) -> bool {
        let last = self.cuts.last().map_or(Extent::default(), |cut| cut.at);
        let now = self.extent();
        let long =
            now.rows() - last.rows() >= PART_ROWS_MAX || now.bytes - last.bytes >= PART_BYTES_MAX;
        long && self.ended.is_none()
    }

    /// Cuts the turn here, between two acts. A crash between two parts leaves a log that ends amid the
    /// acts after an input, and says so; a replay continues from it.
    pub(super) fn part(&mut self, status: RunStatus) {
        self.push(Event::TurnParted {});
        self.cuts.push(TurnCut { at: self.extent(), status });
    }

    /// The parts of the turn that are committed before its last one, which stays.
    pub(crate) fn take_parts(&mut self) -> Vec<Pending> {
        let cuts = std::mem::take(&mut self.cuts);
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

    pub(super) fn extent(&self) -> Extent {
        Extent {
            events: self.events.len(),
            bytes: self.bytes,
            effects: self.effects.len(),
            children: self.children.len(),
        }
    }

    /// Forgets what was added after `to`.
    pub(super) fn cut_back(&mut self, to: Extent) {
        self.events.truncate(to.events);
        self.bytes = to.bytes;
        self.effects.truncate(to.effects);
        self.children.truncate(to.children);
        self.cuts.retain(|cut| cut.at.events <= to.events);
    }
}

impl Extent {
    /// What the writer has to do for it, in rows of events.
    fn rows(self) -> usize {
        self.events + self.children * CHILD_ROWS
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
        for op in 1..=4 {
            assert_eq!(pending.is_long(), op > 1);
            if op > 1 {
                pending.part(RunStatus::Running);
            }
            pending.push(step(op, if op == 4 { 1 } else { PART_BYTES_MAX }));
            assert!(pending.is_full());
        }
        let parts: Vec<usize> = pending.take_parts().iter().map(|part| part.events.len()).collect();
        assert_eq!(
            (parts, pending.events.len()),
            (vec![2, 2, 2], 1),
            "each says that more follows"
        );
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
