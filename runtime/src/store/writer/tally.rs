//! What the writer has done, counted for the metrics.
//!
//! The writer's thread counts a transaction when it is on the disk, with a few atomic additions and
//! without a lock or an allocation.

use std::time::Duration;

use tidemill_model::{Event, RunStatus};
use tidemill_telemetry::metrics::{Counter, Histogram};

use super::apply::Done;
use super::message::{Creation, Message, Prune, PruneOutcome, Turn};

/// Counts since the start of the process.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) commits: Histogram,
    pub(crate) messages: Histogram,
    pub(crate) rows: Histogram,
    pub(crate) refused: Counter,
    pub(crate) runs_started: Counter,
    pub(crate) runs_completed: Counter,
    pub(crate) runs_failed: Counter,
    pub(crate) runs_cancelled: Counter,
    pub(crate) runs_blocked: Counter,
    pub(crate) runs_pruned: Counter,
    pub(crate) events_pruned: Counter,
    pub(crate) steps_completed: Counter,
    pub(crate) steps_failed: Counter,
    pub(crate) steps_retried: Counter,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            commits: Histogram::of_commits(),
            messages: Histogram::of_sizes(),
            rows: Histogram::of_sizes(),
            refused: Counter::default(),
            runs_started: Counter::default(),
            runs_completed: Counter::default(),
            runs_failed: Counter::default(),
            runs_cancelled: Counter::default(),
            runs_blocked: Counter::default(),
            runs_pruned: Counter::default(),
            events_pruned: Counter::default(),
            steps_completed: Counter::default(),
            steps_failed: Counter::default(),
            steps_retried: Counter::default(),
        }
    }
}

impl Tally {
    /// Counts a transaction whose `COMMIT` took so long. What was not written of it has no part.
    pub(super) fn committed(&self, batch: &[Message], done: &[Done], took: Duration) {
        let mut rows = 0;
        for (message, done) in batch.iter().zip(done) {
            let written = match (message, done) {
                (Message::Turn(turn), Done::Turn { reply: Ok(appended), .. }) => {
                    let children = appended.children_created();
                    self.runs_started.add(count(children));
                    self.turn(turn);
                    turn.events.len() + children
                }
                (Message::Create(create), Done::Create(Ok(Creation::Created(_)))) => {
                    let children = create.new.history().map_or(0, |it| it.children.len());
                    self.runs_started.add(count(1 + children));
                    create.new.rows() + usize::from(create.signal.is_some())
                }
                (Message::Create(_), Done::Create(Ok(Creation::Existing(_, true)))) => 1,
                (Message::Signal(_), Done::Signal(Ok(sent))) => usize::from(!sent.existing),
                (Message::Promise(_), Done::Promise(Ok(done))) => usize::from(!done.existing),
                (Message::Aside(aside), Done::Aside(Ok(()))) => {
                    if let Event::StepAttemptFailed { .. } = aside.event.event() {
                        self.steps_retried.add_one();
                    }
                    1
                }
                (Message::Prune(prune), Done::Prune(left)) => {
                    self.pruned(prune, left);
                    0
                }
                (
                    Message::Turn(_)
                    | Message::Create(_)
                    | Message::Aside(_)
                    | Message::Signal(_)
                    | Message::Promise(_)
                    | Message::Prune(_),
                    _,
                ) => 0,
            };
            rows += written;
        }
        self.commits.took(took);
        self.messages.observe(count(batch.len()));
        self.rows.observe(count(rows));
    }

    /// Counts the runs that left.
    fn pruned(&self, prune: &Prune, left: &[PruneOutcome]) {
        let gone = prune.ended_runs.iter().zip(left).filter(|(_, left)| left.is_ok());
        let (runs, events) =
            gone.fold((0, 0), |(runs, events), (ended, _)| (runs + 1, events + ended.events));
        self.runs_pruned.add(runs);
        self.events_pruned.add(events);
    }

    fn turn(&self, turn: &Turn) {
        for event in &turn.events {
            match event.event() {
                Event::StepCompleted { .. } => self.steps_completed.add_one(),
                Event::StepFailed { .. } => self.steps_failed.add_one(),
                _ => {}
            }
        }
        match turn.status {
            Some(RunStatus::Completed) => self.runs_completed.add_one(),
            Some(RunStatus::Failed) => self.runs_failed.add_one(),
            Some(RunStatus::Cancelled) => self.runs_cancelled.add_one(),
            Some(RunStatus::Blocked) => self.runs_blocked.add_one(),
            Some(
                RunStatus::Pending
                | RunStatus::Running
                | RunStatus::Suspended
                | RunStatus::Paused
                | RunStatus::Cancelling,
            )
            | None => {}
        }
    }
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidemill_model::{Json, OpId, OpName, RunId, Seq};
    use tokio::sync::oneshot;

    use super::super::apply::{Appending, Stale};
    use super::super::message::{Aside, Create, NewRun};
    use super::*;
    use crate::engine::inbox::Inbox;
    use crate::samples::created;

    fn turn(status: RunStatus) -> Message {
        let (op, name) = (OpId::FIRST, OpName::new("s").unwrap());
        let output = Json::of(&1).unwrap();
        Message::Turn(Box::new(Turn {
            run: RunId::new("r").unwrap(),
            inbox: Arc::new(Inbox::default()),
            expect: Seq::ZERO,
            events: vec![
                Event::StepCompleted { op, name, output: output.clone() }.into(),
                Event::RunCompleted { output }.into(),
            ],
            status: Some(status),
            children: Vec::new(),
        }))
    }

    #[test]
    fn what_was_written_is_counted_and_what_was_refused_is_not() {
        let tally = Tally::default();
        let id = RunId::new("r2").unwrap();
        let new = NewRun::new(id.clone(), Box::new(created()));
        let create = Message::Create(Create { new, signal: None, reply: oneshot::channel().0 });
        let (op, attempt, event) = (OpId::FIRST, 1, Event::RunResumed {}.into());
        let aside =
            Message::Aside(Aside { run: id, op, attempt, event, reply: oneshot::channel().0 });
        let batch = [turn(RunStatus::Completed), turn(RunStatus::Blocked), create, aside];
        let appended = Appending::of(Seq::ZERO, vec![Some(Seq::ZERO), None]);
        let done = [
            Done::Turn { reply: Ok(appended), taken: Vec::new() },
            Done::Turn { reply: Err(Stale), taken: Vec::new() },
            Done::Create(Ok(Creation::Existing(Seq::ZERO, false))),
            Done::Aside(Ok(())),
        ];
        tally.committed(&batch, &done, Duration::from_millis(2));
        let counts = [
            &tally.runs_started,
            &tally.runs_completed,
            &tally.runs_blocked,
            &tally.steps_completed,
            &tally.steps_retried,
        ];
        assert_eq!(counts.map(Counter::get), [1, 1, 0, 1, 0], "the child, the turn's own");
        assert_eq!((tally.rows.sum(), tally.messages.sum()), (2 + 1 + 1, 4));
        assert_eq!(tally.commits.sum(), 2_000_000);
    }
}
