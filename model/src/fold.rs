//! The one function that folds a run's log into the state of the run.
//!
//! The engine, the views, the past and `fsck` all fold with it. They differ in which operations
//! they keep: a driver those that are open, a view all of them, with their ends.

use crate::event::{Event, EventClass};
use crate::event_data::{BlockReason, BlockReasonKind, Requester};
use crate::json::Json;
use crate::log_order::{self, Phase, Standing};
use crate::name::OpName;
use crate::operation::{Op, OpKind};
use crate::position::{Epoch, OpId, Seq};
use crate::run_status::RunStatus;
use crate::signal::{KeptSignal, Signals};
use crate::time::Timestamp;

/// Where a fold keeps its operations.
pub trait Operations {
    /// The state of an operation, even if it has ended.
    fn standing(&self, id: OpId) -> Standing;

    /// Takes an operation that has just started.
    fn start(&mut self, id: OpId, op: Op);

    /// An operation that is open.
    fn open(&mut self, id: OpId) -> Option<&mut Op>;

    /// An event was applied to this operation, which may have ended it.
    fn changed(&mut self, id: OpId);
}

/// A cancel that the run was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelAsked {
    /// Who asked, and why.
    pub requester: Requester,
    /// When.
    pub at: Timestamp,
    /// Whether the run's code has been told.
    pub observed: bool,
}

/// The state of a run, without its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunHead {
    /// How far its log has come.
    pub phase: Phase,
    /// How many processes have taken it up.
    pub attempt: u32,
    /// The epoch of the last process that took it up.
    pub epoch: Option<Epoch>,
    /// Why it is blocked, while it is.
    pub blocked: Option<BlockReason>,
    /// Who paused it, while it is paused.
    pub paused: Option<Requester>,
    /// The cancel that it was asked for.
    pub cancel: Option<CancelAsked>,
    /// Whether it was ended without its code.
    pub terminated: bool,
    /// Where a process last took it up; 0 if none did.
    pub taken_up: Seq,
    /// What its code last said that it is doing.
    pub custom_status: Option<Json>,
    /// Whether its newest turn was written in parts, of which the last is missing: a process died in
    /// between, and there is something to do.
    pub parted: bool,
    /// What it was sent and its code has not taken.
    pub signals: Signals,
    /// Where one of its promises was last answered; 0 if none was.
    pub answered: Seq,
    /// Whether it began with the history of another run.
    pub forked: bool,
    /// Where it was last resumed; 0 if never.
    pub resumed: Seq,
    /// The newest input or act; 0 before the first.
    pub last: Seq,
    /// How many operations are open that end by themselves, and how many others: counted, because looking for them
    /// after each event would make a long history take the square of its length.
    steps_open: usize,
    waits_open: usize,
}

impl Default for RunHead {
    fn default() -> RunHead {
        RunHead {
            phase: Phase::Empty,
            attempt: 0,
            epoch: None,
            blocked: None,
            paused: None,
            cancel: None,
            terminated: false,
            taken_up: Seq::ZERO,
            custom_status: None,
            parted: false,
            signals: Signals::default(),
            answered: Seq::ZERO,
            forked: false,
            resumed: Seq::ZERO,
            last: Seq::ZERO,
            steps_open: 0,
            waits_open: 0,
        }
    }
}

/// Whether the code can take a signal: its wait was given one.
fn check_given(ops: &mut impl Operations, op: OpId) -> Result<(), String> {
    match ops.open(op).is_some_and(|open| open.given().is_some()) {
        true => Ok(()),
        false => Err(format!("operation {op} takes a signal that it was not given")),
    }
}

impl RunHead {
    /// The state of the run after one more event.
    ///
    /// # Errors
    /// What does not fit; then nothing has changed.
    pub fn apply(
        &mut self,
        ops: &mut impl Operations,
        event: &Event,
        (seq, at): (Seq, Timestamp),
    ) -> Result<(), String> {
        log_order::check(event, self.phase, |op| ops.standing(op))?;
        match event {
            Event::RunCreated(_) => self.phase = Phase::Going,
            Event::NodeStarted(_) | Event::Now { .. } => {}
            Event::TurnParted {} => self.parted = true,
            Event::RunForked { .. } => self.forked = true,
            Event::RunStarted { epoch, attempt } => self.take_up(seq, *epoch, *attempt),
            Event::RunResumed {} => self.resume(seq),
            Event::StatusSet { value, .. } => self.custom_status = Some(value.clone()),
            Event::RunBlocked { reason } => self.block(reason),
            Event::RunPaused { requester } => self.paused = Some(requester.clone()),
            Event::CancelHeld { requester } => self.hold_cancel(requester, at),
            Event::CancelRequested { requester, resolves } => {
                self.observe_cancel(requester, at)?;
                for op in resolves.keys() {
                    self.change(ops, *op, event, (seq, at))?;
                }
            }
            Event::RunCompleted { .. } => self.phase = Phase::Ended,
            Event::RunFailed { terminated, .. } => {
                self.phase = Phase::Ended;
                self.terminated = *terminated;
            }
            Event::SignalReceived(_)
            | Event::SignalDelivered { .. }
            | Event::SignalTaken { .. }
            | Event::PromiseToken { .. }
            | Event::PromiseAnswered { .. } => self.apply_outside(ops, event, (seq, at))?,
            Event::StepStarted { .. }
            | Event::TimerStarted { .. }
            | Event::ChildStarted { .. }
            | Event::SpawnStarted { .. }
            | Event::SignalStarted { .. }
            | Event::PromiseStarted { .. } => {
                if let Some((id, op)) = Op::start(event, seq, at) {
                    *self.count(&op) += 1;
                    ops.start(id, op);
                }
            }
            Event::StepAttemptStarted { op, .. }
            | Event::StepAttemptFailed { op, .. }
            | Event::StepRestarted { op, .. }
            | Event::Checkpoint { op, .. }
            | Event::StepCompleted { op, .. }
            | Event::StepFailed { op, .. }
            | Event::TimerFired { op, .. }
            | Event::ChildCompleted { op, .. }
            | Event::ChildFailed { op, .. }
            | Event::SpawnCompleted { op, .. }
            | Event::SpawnFailed { op, .. }
            | Event::PromiseResolved { op, .. }
            | Event::PromiseRejected { op, .. }
            | Event::OpHeld { op, .. }
            | Event::OpDropped { op } => self.change(ops, *op, event, (seq, at))?,
        }
        if event.class() != EventClass::Aside {
            self.parted = false;
            self.last = seq;
        }
        Ok(())
    }

    /// A process takes it up.
    fn take_up(&mut self, seq: Seq, epoch: Option<Epoch>, attempt: u32) {
        self.epoch = epoch;
        self.attempt = attempt;
        self.taken_up = seq;
        self.blocked = None;
    }

    /// It is blocked. What blocks a parked run besides does not let it go on.
    fn block(&mut self, reason: &BlockReason) {
        if !self.is_parked() || reason.kind == BlockReasonKind::Parked {
            self.blocked = Some(reason.clone());
        }
    }

    /// Applies what came from outside, and what became of a signal.
    fn apply_outside(
        &mut self,
        ops: &mut impl Operations,
        event: &Event,
        (seq, at): (Seq, Timestamp),
    ) -> Result<(), String> {
        match event {
            Event::SignalReceived(signal) => {
                let signal = (**signal).clone();
                self.signals.receive(KeptSignal { signal, seq, at })
            }
            Event::SignalDelivered { op, name, number } => self.give(ops, (*op, name), *number),
            Event::SignalTaken { op, .. } => {
                check_given(ops, *op)?;
                self.change(ops, *op, event, (seq, at))
            }
            Event::PromiseAnswered { op, .. } => {
                self.change(ops, *op, event, (seq, at))?;
                self.answered = seq;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Applies an event to one of its open operations.
    fn change(
        &mut self,
        ops: &mut impl Operations,
        op: OpId,
        event: &Event,
        (seq, at): (Seq, Timestamp),
    ) -> Result<(), String> {
        let open = ops.open(op);
        let open = open.ok_or_else(|| format!("{} of operation {op}", event.kind()))?;
        open.apply(event, seq, at);
        if !open.is_open() {
            *self.count(open) -= 1;
            // It was given a signal, and ended before its code took that.
            if let Some(given) = open.take_given() {
                self.signals.give_back(given);
            }
        }
        ops.changed(op);
        Ok(())
    }

    /// Gives a wait the signal of this number.
    fn give(
        &mut self,
        ops: &mut impl Operations,
        (op, name): (OpId, &OpName),
        number: u32,
    ) -> Result<(), String> {
        let open = ops.open(op).filter(|open| open.given().is_none());
        let open = open.ok_or_else(|| format!("operation {op} is given a second signal"))?;
        if open.name != *name {
            return Err(format!("operation {op} waits for `{}` and not for `{name}`", open.name));
        }
        open.give(self.signals.take(number, name)?);
        Ok(())
    }

    /// It goes on after a block or a pause.
    fn resume(&mut self, seq: Seq) {
        self.blocked = None;
        self.paused = None;
        self.resumed = seq;
    }

    /// Takes note of a cancel that the code cannot be told now. It ends a block or a pause, so that
    /// the run is taken up to be told; a parked run stays as it is. The first who asked counts.
    fn hold_cancel(&mut self, requester: &Requester, at: Timestamp) {
        if !self.is_parked() {
            self.blocked = None;
            self.paused = None;
        }
        let asked = CancelAsked { requester: requester.clone(), at, observed: false };
        self.cancel.get_or_insert(asked);
    }

    fn observe_cancel(&mut self, requester: &Requester, at: Timestamp) -> Result<(), String> {
        match &mut self.cancel {
            Some(cancel) if cancel.observed => Err("a second cancel_requested".to_owned()),
            Some(cancel) => {
                cancel.observed = true;
                Ok(())
            }
            None => {
                self.cancel =
                    Some(CancelAsked { requester: requester.clone(), at, observed: true });
                Ok(())
            }
        }
    }

    /// Whether its code has run, in a process or as another run whose history it has.
    pub fn has_begun(&self) -> bool {
        self.attempt > 0 || self.forked
    }

    /// Whether its code was told to end.
    pub fn is_cancelling(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.observed)
    }

    /// Whether it takes nothing in: it is blocked or paused.
    pub fn is_halted(&self) -> bool {
        self.blocked.is_some() || self.paused.is_some()
    }

    /// Whether it stays as it is until a person resumes it.
    pub fn is_parked(&self) -> bool {
        self.blocked.as_ref().is_some_and(|reason| reason.kind == BlockReasonKind::Parked)
    }

    /// Whether the run has ended.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The status of an unfinished run.
    pub fn status(&self) -> RunStatus {
        if self.blocked.is_some() {
            RunStatus::Blocked
        } else if self.paused.is_some() {
            RunStatus::Paused
        } else if self.cancel.is_some() {
            RunStatus::Cancelling
        } else if self.attempt == 0 {
            RunStatus::Pending
        } else {
            self.active()
        }
    }

    /// The status of a run that was started, has not ended, and is neither blocked nor paused.
    pub fn active(&self) -> RunStatus {
        if self.cancel.is_some() {
            return RunStatus::Cancelling;
        }
        if self.parted {
            return RunStatus::Running;
        }
        RunStatus::active(self.steps_open, self.waits_open)
    }

    fn count(&mut self, op: &Op) -> &mut usize {
        match &op.kind {
            // A process that takes the file up learns at once whether the other run was created.
            OpKind::Step { .. } | OpKind::Spawn { .. } => &mut self.steps_open,
            OpKind::Timer { .. }
            | OpKind::Child { .. }
            | OpKind::Signal { .. }
            | OpKind::Promise { .. } => &mut self.waits_open,
        }
    }
}
