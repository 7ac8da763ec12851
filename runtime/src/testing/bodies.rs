//! What stands before the bodies of a tested app: notes each call, lets a script answer it, and
//! holds the clock while a real body runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidemill_model::Json;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::steps::{Answer, StepCall, Steps};
use crate::author::{BoxError, Step};
use crate::engine::bodies::{BeforeBodies, BeginBody, BodyFuture, UnreadableInput};
use crate::engine::virtual_time::{Hold, VirtualTime};

pub(super) struct Bodies {
    pub(super) steps: Arc<Steps>,
    /// `None` in real time.
    pub(super) time: Option<Arc<VirtualTime>>,
}

impl BeforeBodies for Bodies {
    fn begin(
        &self,
        step: Step,
        input: &Json,
        body: &mut BeginBody,
    ) -> Result<BodyFuture, UnreadableInput> {
        match self.steps.called(StepCall::of(&step, input)) {
            Answer::Fails(error) => Ok(Box::pin(async { Err(BoxError::from(error)) })),
            Answer::Hangs => Ok(Box::pin(std::future::pending())),
            Answer::Scripted(script) => {
                let input = input.clone();
                Ok(Box::pin(async move {
                    script(&input).unwrap_or_else(|e| Err(format!("its script: {e}").into()))
                }))
            }
            Answer::Real => {
                let what = || format!("step `{}` of run `{}`", step.name(), step.run_id());
                let Some(hold) = self.time.as_ref().map(|time| time.hold(what())) else {
                    return body(Some(step), input);
                };
                let stop = Box::pin(step.cancellation().clone().cancelled_owned());
                let body = body(Some(step), input)?;
                Ok(Box::pin(Held { body, hold: Some(hold), stop }))
            }
        }
    }
}

/// A body that holds the clock until it returns or is asked to stop: then its grace counts.
struct Held {
    body: BodyFuture,
    hold: Option<Hold>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Future for Held {
    type Output = Result<Json, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.hold.is_some() && self.stop.as_mut().poll(cx).is_ready() {
            self.hold = None;
        }
        self.body.as_mut().poll(cx)
    }
}
