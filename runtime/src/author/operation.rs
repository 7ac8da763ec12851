//! The future behind every operation: started at its first poll, resolved by its recorded end.
//!
//! One that was made outside its run's turn has no id and is dead: it never starts, records nothing
//! and has no result. The call was reported, and blocks the run.

use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;
use tidemill_model::{BlockReason, BlockReasonKind, Failure, Json, OpId, OpName};

use super::result::StepError;
use crate::engine::bodies::StepBody;
use crate::engine::cell::{Act, Outcome, RunCell};

/// What an operation does when it starts.
pub(crate) enum Start {
    Step { input: Json, body: StepBody },
    Sleep { until: Wake },
    Child { input: Json },
}

/// When a timer fires.
pub(crate) enum Wake {
    In(std::time::Duration),
    At(tidemill_model::Timestamp),
}

enum Stage {
    New(OpId, Start),
    /// It cannot be recorded; the same each time.
    Unfit(Failure),
    Open(OpId),
    Done,
    /// It was made where it must not be.
    Dead,
}

/// See the module. `T` is what its recorded output is read as.
pub(crate) struct Operation<T> {
    cell: Arc<RunCell>,
    name: OpName,
    stage: Stage,
    output: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Operation<T> {
    pub(crate) fn new(
        cell: &Arc<RunCell>,
        op: Option<OpId>,
        name: OpName,
        start: Result<Start, Failure>,
    ) -> Operation<T> {
        let stage = match (op, start) {
            (Some(op), Ok(start)) => Stage::New(op, start),
            (Some(_), Err(failure)) => Stage::Unfit(failure),
            (None, _) => Stage::Dead,
        };
        Operation { cell: Arc::clone(cell), name, stage, output: PhantomData }
    }

    /// The body of a step that has not started.
    pub(crate) fn body(&mut self) -> Option<&mut StepBody> {
        match &mut self.stage {
            Stage::New(_, Start::Step { body, .. }) => Some(body),
            Stage::New(..) | Stage::Unfit(_) | Stage::Dead => None,
            Stage::Open(_) | Stage::Done => {
                panic!("options of `{}` are set after it was started", self.name)
            }
        }
    }

    pub(crate) fn start(&mut self, waker: &std::task::Waker) {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::New(op, start) => {
                self.stage = Stage::Open(op);
                let name = self.name.clone();
                let act = match start {
                    Start::Step { input, body } => Act::Step { op, name, input, body },
                    Start::Sleep { until } => {
                        let fire_at = match until {
                            Wake::In(delay) => self.cell.wall().saturating_add(delay),
                            Wake::At(at) => at,
                        };
                        Act::Timer { op, name, fire_at }
                    }
                    Start::Child { input } => Act::Child { op, workflow: name, input },
                };
                self.cell.start(act, &self.name, waker);
            }
            as_it_was @ (Stage::Unfit(_) | Stage::Open(_) | Stage::Done | Stage::Dead) => {
                self.stage = as_it_was;
            }
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, StepError>> {
        match &self.stage {
            Stage::New(..) => {
                self.start(cx.waker());
                Poll::Pending
            }
            Stage::Open(op) => {
                let op = *op;
                let Poll::Ready(outcome) = self.cell.poll(op, &self.name, cx) else {
                    return Poll::Pending;
                };
                self.stage = Stage::Done;
                self.resolve(op, outcome)
            }
            Stage::Unfit(failure) => {
                let error = StepError::new(self.name.clone(), 0, failure.clone());
                self.stage = Stage::Done;
                Poll::Ready(Err(error))
            }
            Stage::Done => panic!("`{}` was polled after it had given its result", self.name),
            Stage::Dead => Poll::Pending,
        }
    }

    fn resolve(&self, op: OpId, outcome: Outcome) -> Poll<Result<T, StepError>> {
        let output = match outcome {
            Ok(output) => output,
            Err((failure, attempts)) => {
                return Poll::Ready(Err(StepError::new(self.name.clone(), attempts, failure)));
            }
        };
        match output.decode() {
            Ok(value) => Poll::Ready(Ok(value)),
            // The code changed under the run: it waits for code that can read its log.
            Err(error) => {
                self.cell.refuse(unreadable_output(op, &self.name, &output, &error));
                Poll::Pending
            }
        }
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
        if let Stage::Open(op) = self.stage {
            self.cell.dropped(op, &self.name);
        }
    }
}
