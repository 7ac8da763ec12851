//! The core of a run: its state, and the decisions of its turns. Pure.
//!
//! The core takes inputs and the acts of the author's code, and builds a [`Pending`]: the events to
//! commit, and the effects to release after the commit. The shell (`live.rs`) polls the code in
//! between; the driver hands the turn to the writer and tells the core what is durable.

use std::sync::Arc;

use tidemill_model::{
    BlockReason, BlockReasonKind, Event, Failure, FailureKind, Requester, RunCreated, RunId,
    RunStatus, Seq, Timestamp,
};

use super::cell::Asked;
use super::handle::RunResult;
use super::journal::Journal;
use super::turn::Pending;
use crate::author::App;
use crate::ops;

/// What a turn knows about the world outside its run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    /// The wall clock.
    pub(crate) now: Timestamp,
    /// Whether the gate would let bodies begin now.
    pub(crate) gate_is_open: bool,
}

/// The state of a run between its turns.
pub(crate) struct RunCore {
    pub(crate) run: RunId,
    pub(crate) journal: Journal,
    pub(crate) created: Arc<RunCreated>,
    /// The program, with its workflows and its version.
    pub(crate) app: Arc<App>,
    /// The newest input or act that is durable.
    last: Seq,
    /// The status as the file has it.
    status: RunStatus,
}

impl RunCore {
    /// The core of a run whose log is this journal.
    pub(crate) fn new(
        run: RunId,
        journal: Journal,
        created: Arc<RunCreated>,
        app: Arc<App>,
    ) -> RunCore {
        let (last, status) = (journal.head.last, journal.head.status());
        RunCore { run, journal, created, app, last, status }
    }

    /// The newest input or act that is durable.
    pub(crate) fn last(&self) -> Seq {
        self.last
    }

    /// Notes that the turn is durable, up to this input or act.
    pub(crate) fn committed(&mut self, last: Seq) {
        self.last = last;
    }

    /// Adds an input. Returns `false` if its operation is not open: the input came too late, and
    /// must not be delivered.
    pub(crate) fn observe(
        &mut self,
        pending: &mut Pending,
        input: &Event,
        around: Surroundings,
    ) -> bool {
        pending.taken += 1;
        if self.journal.apply(Seq::ZERO, around.now, input).is_err() {
            return false;
        }
        ops::end(pending, input);
        pending.push(input.clone());
        true
    }

    /// Adds the acts of the code after the input. Returns `false` when the turn takes no more
    /// inputs.
    pub(crate) fn react(
        &mut self,
        pending: &mut Pending,
        asked: Result<Vec<Asked>, BlockReason>,
        around: Surroundings,
    ) -> bool {
        if let Err(reason) = asked.and_then(|asked| self.add(pending, asked, around)) {
            pending.block(reason);
            return false;
        }
        pending.ended.is_none() && !pending.is_full()
    }

    /// Adds the code's new acts; adds none if they do not fit what the run did before.
    ///
    /// # Errors
    /// The reason that blocks the run.
    pub(crate) fn add(
        &mut self,
        pending: &mut Pending,
        asked: Vec<Asked>,
        around: Surroundings,
    ) -> Result<(), BlockReason> {
        ops::child::check_live(self, &asked)?;
        let before = pending.extent();
        let added = self.add_each(pending, asked, around);
        added.inspect_err(|_| pending.cut_back(before))
    }

    fn add_each(
        &mut self,
        pending: &mut Pending,
        asked: Vec<Asked>,
        around: Surroundings,
    ) -> Result<(), BlockReason> {
        for asked in asked {
            if pending.is_long() {
                // A process that dies between two parts leaves a run that has something to do.
                self.apply(around.now, &Event::TurnParted {})?;
                pending.part(self.journal.head.status());
            }
            let event = ops::ask(self, pending, asked, around.gate_is_open)?;
            match &event {
                Event::RunCompleted { output } => {
                    pending.ended = Some(RunResult::Completed(output.clone()));
                }
                Event::RunFailed { error, .. } => {
                    pending.ended = Some(RunResult::Failed(error.clone()));
                }
                _ => {}
            }
            self.apply(around.now, &event)?;
            pending.push(event);
        }
        Ok(())
    }

    /// Ends the run as cancelled: a turn without an input, which its code did not ask for.
    pub(crate) fn impose_end(
        journal: &mut Journal,
        now: Timestamp,
        requester: &Requester,
        terminated: bool,
    ) -> Pending {
        let mut pending = Pending::default();
        pending.push(Event::CancelHeld { requester: requester.clone() });
        for op in journal.open_ops() {
            ops::drop_op(&mut pending, journal, op);
            let event = Event::OpDropped { op };
            let dropped = journal.apply(Seq::ZERO, now, &event);
            dropped.expect("an open operation can be dropped");
            pending.push(event);
        }
        let how = if terminated { "it was terminated" } else { "it was cancelled before it began" };
        let failure = Failure {
            kind: FailureKind::Cancelled,
            message: format!("{how}{requester}"),
            chain: Vec::new(),
        };
        pending.push(Event::RunFailed { error: failure.clone(), terminated });
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
        let is_written = status == self.status && !pending.is_cut();
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
            advice:
                "keep the file and report this fault of tidemill; nothing that was recorded is \
                     lost, and the run is tried again when it is resumed"
                    .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::{Json, OpId, OpName};

    use super::*;
    use crate::engine::bodies::StepBody;
    use crate::engine::call_site::CallSite;
    use crate::samples::created;
    use crate::store::Record;

    fn around(gate_is_open: bool) -> Surroundings {
        Surroundings { now: Timestamp::from_micros(0).unwrap(), gate_is_open }
    }

    fn name(text: &str) -> OpName {
        OpName::new(text).unwrap()
    }

    fn core() -> RunCore {
        let created = created();
        let seq = Seq::ZERO.next();
        let event = Event::RunCreated(Box::new(created.clone()));
        let journal = Journal::of(&[Record { seq, ts: around(true).now, event }]).unwrap();
        let app = Arc::new(App::new("t"));
        RunCore::new("r".parse().unwrap(), journal, Arc::new(created), app)
    }

    fn step(op: u32) -> Asked {
        let body = Some(StepBody::of_closure(
            async || Ok::<_, crate::BoxError>(()),
            CallSite::of_caller(),
        ));
        let (op, input) = (OpId::new(op).unwrap(), Json::null());
        let event = Event::StepStarted { op, name: name("a"), queued: false, input };
        Asked { body, ..event.into() }
    }

    fn completed(op: u32) -> Event {
        let op = OpId::new(op).unwrap();
        Event::StepCompleted { op, name: name("a"), output: Json::null() }
    }

    fn kinds(pending: &mut Pending) -> Vec<String> {
        let events = pending.take_events();
        events.iter().map(|event| event.event().kind().to_string()).collect()
    }

    #[test]
    fn an_input_of_an_operation_that_is_not_open_adds_nothing_and_is_not_delivered() {
        let (mut core, mut pending) = (core(), Pending::default());
        assert!(!core.observe(&mut pending, &completed(1), around(true)));
        assert!(pending.is_empty() && pending.effects.is_empty());
        assert!(core.react(&mut pending, Ok(vec![step(1)]), around(true)));
        assert!(core.observe(&mut pending, &completed(1), around(true)));
        assert!(!core.observe(&mut pending, &completed(1), around(true)), "it has ended");
        assert_eq!(kinds(&mut pending), ["step_started", "step_completed"]);
        assert_eq!((pending.taken, pending.effects.len()), (3, 2));
    }

    #[test]
    fn what_the_code_did_in_a_reaction_that_cannot_be_recorded_is_left_out_whole() {
        let (mut core, mut pending) = (core(), Pending::default());
        let child = Event::ChildStarted {
            op: OpId::new(2).unwrap(),
            name: name("nobody"),
            child: "r.2".parse().unwrap(),
            input: Json::null(),
            outlives_parent: false,
        };
        assert!(!core.react(&mut pending, Ok(vec![step(1), child.into()]), around(true)));
        core.settle(&mut pending);
        assert_eq!(kinds(&mut pending), ["run_blocked"]);
        assert!(pending.effects.is_empty() && pending.children.is_empty());
        assert_eq!(pending.status, Some(RunStatus::Blocked));
    }

    #[test]
    fn a_step_that_starts_while_the_gate_is_closed_is_recorded_as_queued() {
        for gate_is_open in [true, false] {
            let (mut core, mut pending) = (core(), Pending::default());
            core.react(&mut pending, Ok(vec![step(1)]), around(gate_is_open));
            let events = pending.take_events();
            let Event::StepStarted { queued, .. } = events[0].event() else { panic!() };
            assert_eq!(*queued, !gate_is_open);
        }
    }
}
