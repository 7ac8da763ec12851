//! The future behind every operation. It starts the operation at its first poll, and resolves when
//! the operation's recorded end is delivered.
//!
//! An operation that was made outside its run's turn has no id and is dead: it never starts,
//! records nothing and never resolves. The cell has reported the call, which blocks the run.

use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;
use tidemill_model::{BlockReason, BlockReasonKind, Event, Failure, Invalid, Json, OpId, OpName};

use crate::author::result::StepError;
use crate::engine::call_site::CallSite;
use crate::engine::cell::{Asked, OpEnd, RunCell};

enum CallState {
    New(OpId, Asked),
    /// It cannot be recorded, in any replay.
    Unfit(Failure),
    Open(OpId),
    Done,
    /// It was made outside its run's turn.
    Dead,
}

/// The future of an operation. `T` is the type that its recorded output decodes to.
pub(crate) struct Operation<T> {
    cell: Arc<RunCell>,
    name: OpName,
    /// Where the author's code made it.
    at: CallSite,
    stage: CallState,
    output: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Operation<T> {
    /// `asked` is what the operation asks of the engine when it starts; an error if that cannot be
    /// recorded; `None` if the operation was made outside its run's turn.
    pub(crate) fn new(
        cell: &Arc<RunCell>,
        (name, at): (OpName, CallSite),
        asked: Option<Result<(OpId, Asked), Failure>>,
    ) -> Operation<T> {
        let stage = match asked {
            Some(Ok((op, asked))) => CallState::New(op, asked),
            Some(Err(failure)) => CallState::Unfit(failure),
            None => CallState::Dead,
        };
        Operation { cell: Arc::clone(cell), name, at, stage, output: PhantomData }
    }

    /// What it will ask of the engine when it starts; `None` if it never starts.
    ///
    /// # Panics
    /// If it has started.
    pub(crate) fn asked(&mut self) -> Option<&mut Asked> {
        match &mut self.stage {
            CallState::New(_, asked) => Some(asked),
            CallState::Unfit(_) | CallState::Dead => None,
            CallState::Open(_) | CallState::Done => {
                panic!("options of `{}` are set after it was started", self.name)
            }
        }
    }

    /// Gives it another name than it was made with; a name that cannot be one blocks the run.
    ///
    /// # Panics
    /// If it has started.
    pub(crate) fn rename(&mut self, what: &str, name: &str) {
        match OpName::new(name) {
            Ok(name) => {
                if let Some(Asked { event: Event::TimerStarted { name: its, .. }, .. }) =
                    self.asked()
                {
                    its.clone_from(&name);
                }
                self.name = name;
            }
            Err(invalid) => self.cell.refuse(bad_name(what, None, &invalid), self.at),
        }
    }

    /// Blocks the run, because the operation is asked for in a way that it cannot be.
    pub(crate) fn refuse(&self, reason: BlockReason) {
        self.cell.refuse(reason, self.at);
    }

    /// Lets it fail at its first poll, without a trace in the log.
    ///
    /// # Panics
    /// If it has started.
    pub(crate) fn fail(&mut self, failure: Failure) {
        if self.asked().is_some() {
            self.stage = CallState::Unfit(failure);
        }
    }

    /// Whether it has not started yet.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.stage, CallState::New(..))
    }

    pub(crate) fn cell(&self) -> &RunCell {
        &self.cell
    }

    pub(crate) fn start(&mut self, waker: &std::task::Waker) {
        match std::mem::replace(&mut self.stage, CallState::Done) {
            CallState::New(op, asked) => {
                let asked = Asked { at: Some(self.at), ..asked };
                self.stage = CallState::Open(op);
                self.cell.start(op, &self.name, asked, waker);
            }
            as_it_was @ (CallState::Unfit(_)
            | CallState::Open(_)
            | CallState::Done
            | CallState::Dead) => {
                self.stage = as_it_was;
            }
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, StepError>> {
        match &self.stage {
            CallState::New(..) => {
                self.start(cx.waker());
                match self.stage {
                    // What a cancelled run calls has ended already.
                    CallState::Open(op) if self.cell.is_cancelling() => self.poll_open(op, cx),
                    _ => Poll::Pending,
                }
            }
            CallState::Open(op) => self.poll_open(*op, cx),
            CallState::Unfit(failure) => {
                let error = self.failed(failure.clone(), 0);
                self.stage = CallState::Done;
                Poll::Ready(Err(error))
            }
            CallState::Done => panic!("`{}` was polled after it had given its result", self.name),
            CallState::Dead => Poll::Pending,
        }
    }

    fn poll_open(&mut self, op: OpId, cx: &Context<'_>) -> Poll<Result<T, StepError>> {
        let Poll::Ready(end) = self.cell.poll(op, &self.name, cx) else { return Poll::Pending };
        self.stage = CallState::Done;
        match end {
            OpEnd::Event(end) => self.resolve(op, end),
            OpEnd::Signal { value, .. } => self.read(op, &value),
            OpEnd::Cancelled { attempts, failure } => {
                Poll::Ready(Err(self.failed(failure, attempts)))
            }
        }
    }

    fn resolve(&self, op: OpId, end: Event) -> Poll<Result<T, StepError>> {
        let output = match end {
            Event::StepCompleted { output, .. }
            | Event::ChildCompleted { output, .. }
            | Event::PromiseResolved { output, .. } => output,
            Event::SpawnCompleted { run, .. } => Json::of(&run).expect("an id is a text"),
            Event::TimerFired { .. } => Json::null(),
            Event::StepFailed { error, attempts, .. } => {
                return Poll::Ready(Err(self.failed(error, attempts)));
            }
            Event::ChildFailed { error, .. }
            | Event::SpawnFailed { error, .. }
            | Event::PromiseRejected { error, .. } => {
                return Poll::Ready(Err(self.failed(error, 0)));
            }
            other => unreachable!("{} ends no operation", other.kind()),
        };
        self.read(op, &output)
    }

    fn read(&self, op: OpId, output: &Json) -> Poll<Result<T, StepError>> {
        match output.decode() {
            Ok(value) => Poll::Ready(Ok(value)),
            // The code has changed since, so the run waits for code that can read its log.
            Err(error) => {
                self.cell.refuse(unreadable_output(op, &self.name, output, &error), self.at);
                Poll::Pending
            }
        }
    }

    /// The error of an operation that failed.
    fn failed(&self, failure: Failure, attempts: u32) -> StepError {
        let error = StepError::new(self.name.clone(), attempts, failure, self.cell.wording());
        self.cell.note_failed(&error, self.at);
        error
    }
}

/// The reason for a run whose code gives an operation a name that cannot be one.
pub(crate) fn bad_name(what: &str, op: Option<OpId>, invalid: &Invalid) -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Misuse,
        op,
        logged: None,
        asked: Some(format!("{what} with an {invalid}")),
        advice: "give the operation a name that fits, deploy that, then resume the run".to_owned(),
    }
}

fn unreadable_output(
    op: OpId,
    name: &OpName,
    output: &Json,
    error: &serde_json::Error,
) -> BlockReason {
    let shown: String = output.as_str().chars().take(200).collect();
    BlockReason {
        kind: BlockReasonKind::Nondeterminism,
        op: Some(op),
        logged: Some(format!("the output of `{name}`: {shown}")),
        asked: Some(format!("an output of another type: {error}")),
        advice: "let the type read what was recorded (serde's defaults help), deploy that, then \
                 resume the run"
            .to_owned(),
    }
}

impl<T> Drop for Operation<T> {
    fn drop(&mut self) {
        if let CallState::Open(op) = self.stage {
            self.cell.dropped(op, &self.name, self.at);
        }
    }
}
