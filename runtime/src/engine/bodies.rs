//! Step bodies.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::Json;

use crate::author::result::BoxError;
use crate::author::retry::Retry;
use crate::author::step::{Attempt, Step};
use crate::error::Error;

pub(crate) type BodyFuture = Pin<Box<dyn Future<Output = Result<Json, BoxError>> + Send>>;

/// A step's body with its types erased, and how it is to be run.
pub(crate) struct StepBody {
    pub(crate) run: Box<dyn FnMut(Step, &Json) -> BodyFuture + Send>,
    pub(crate) retry: Option<Box<Retry>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) blocking: bool,
}

impl StepBody {
    pub(crate) fn of_step<F, In, Fut, Out, E>(body: F) -> StepBody
    where
        F: Fn(Step, In) -> Fut + Send + 'static,
        In: DeserializeOwned,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        StepBody::new(move |step, input| match input.decode::<In>() {
            Ok(input) => erase(body(step, input)),
            Err(e) => Box::pin(std::future::ready(Err(format!(
                "the recorded input is not what the step takes: {e}"
            )
            .into()))),
        })
    }

    pub(crate) fn of_closure<F, Fut, Out, E>(body: F) -> StepBody
    where
        F: FnOnce() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        StepBody::new(move |_, _| erase(body.clone()()))
    }

    fn new(run: impl FnMut(Step, &Json) -> BodyFuture + Send + 'static) -> StepBody {
        StepBody { run: Box::new(run), retry: None, timeout: None, blocking: false }
    }
}

/// The body's future with its output as JSON that is known to come back.
fn erase<Fut, Out, E>(body: Fut) -> BodyFuture
where
    Fut: Future<Output = Result<Out, E>> + Send + 'static,
    Out: Serialize + DeserializeOwned,
    E: Into<BoxError>,
{
    Box::pin(async move {
        let output = body.await.map_err(Into::into)?;
        let json = crate::author::payload("output", &output).map_err(|failure| failure.message)?;
        let back = json.decode::<Out>();
        back.map_err(|e| format!("its output does not survive being recorded: {e}"))?;
        Ok(json)
    })
}

/// Records checkpoints.
pub(crate) struct Checkpointer;
impl Checkpointer {
    pub(crate) async fn record(&self, _attempt: &Attempt, _value: Json) -> Result<(), Error> {
        Err(Error::closed())
    }
}
