//! The scripts of steps, and the calls of their bodies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::{Json, OpId, RunId};

use crate::author::{BoxError, Result, Step, payload};
use crate::error::Error;

/// One call of a step's body, or of the script in its place: an attempt that began.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepCall {
    /// The run that the step belongs to.
    pub run: RunId,
    /// The operation's number in its run.
    pub op: OpId,
    /// The step's name.
    pub name: String,
    /// Its input; null for a closure.
    pub input: Json,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The key that all attempts of the step share.
    pub idempotency_key: String,
}

impl StepCall {
    pub(super) fn of(step: &Step, input: &Json) -> StepCall {
        StepCall {
            run: step.run_id().clone(),
            op: step.op(),
            name: step.name().to_owned(),
            input: input.clone(),
            attempt: step.attempt(),
            idempotency_key: step.idempotency_key(),
        }
    }

    /// The input as a `T`.
    ///
    /// # Errors
    /// `Invalid` if it is of another type.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, Step, testing::TestApp};
    /// # async fn charge(_: Step, cents: u64) -> Result<()> { let _ = cents; Ok(()) }
    /// # async fn order(ctx: Ctx, cents: u64) -> Result<()> {
    /// #     Ok(ctx.step("charge", charge, cents).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("shop").workflow("order", order)).open().await?;
    /// app.run(order, 4200).await?;
    /// assert_eq!(app.calls("charge")[0].input::<u64>()?, 4200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let name = &self.name;
        self.input.decode().map_err(|e| Error::invalid(format!("the input of step `{name}`: {e}")))
    }
}

/// A body in place of the author's.
type Script = dyn Fn(&Json) -> Result<Result<Json, BoxError>, serde_json::Error> + Send + Sync;

/// What an attempt of a step meets.
#[derive(Clone)]
pub(super) enum Answer {
    Fails(String),
    Hangs,
    /// The script gives the result.
    Scripted(Arc<Script>),
    /// The author's own body runs.
    Real,
}

/// What the attempts of the steps of one name meet.
#[derive(Clone, Default)]
struct Plan {
    /// What the first of them meet, each so many times.
    first: Vec<(u32, Answer)>,
    then: Option<Arc<Script>>,
}

impl Plan {
    /// What the call of this number, from 0, of one step meets.
    fn answer(&self, number: u32) -> Answer {
        let mut upto = 0_u32;
        for (times, answer) in &self.first {
            upto = upto.saturating_add(*times);
            if number < upto {
                return answer.clone();
            }
        }
        self.then.clone().map_or(Answer::Real, Answer::Scripted)
    }
}

/// The scripts of an app's steps, and their calls so far.
#[derive(Default)]
pub(super) struct Steps {
    plans: Mutex<BTreeMap<String, Plan>>,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    all: Vec<StepCall>,
    /// How often each step was called, by its idempotency key.
    of: FxHashMap<String, u32>,
}

impl Steps {
    /// The same scripts without a call yet.
    pub(super) fn afresh(&self) -> Arc<Steps> {
        let plans = lock(&self.plans).clone();
        Arc::new(Steps { plans: Mutex::new(plans), calls: Mutex::default() })
    }

    pub(super) fn replace<In, Out>(
        &self,
        name: &str,
        script: impl Fn(In) -> Result<Out> + Send + Sync + 'static,
    ) where
        In: DeserializeOwned,
        Out: Serialize,
    {
        let script = move |input: &Json| {
            let output = script(input.decode()?);
            Ok(output.and_then(|output| {
                payload("output", &output).map_err(|failure| BoxError::from(failure.message))
            }))
        };
        lock(&self.plans).entry(name.to_owned()).or_default().then = Some(Arc::new(script));
    }

    pub(super) fn add(&self, name: &str, times: u32, answer: Answer) {
        lock(&self.plans).entry(name.to_owned()).or_default().first.push((times, answer));
    }

    /// Notes a call, and says what it meets.
    pub(super) fn called(&self, call: StepCall) -> Answer {
        let plan = lock(&self.plans).get(&call.name).cloned().unwrap_or_default();
        let mut calls = lock(&self.calls);
        let number = calls.of.entry(call.idempotency_key.clone()).or_default();
        let answer = plan.answer(*number);
        *number = number.saturating_add(1);
        calls.all.push(call);
        answer
    }

    pub(super) fn calls(&self) -> Vec<StepCall> {
        lock(&self.calls).all.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks panics half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
