//! The workflow's own handle: everything that a workflow does to the world goes through it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::limits::PAYLOAD_BYTES_MAX;
use tidemill_model::{
    BlockReason, BlockReasonKind, ChildIdTooLong, Event, Failure, Json, OpId, OpName, RunId,
    Timestamp,
};
use uuid::Uuid;

use super::call::{Call, Child, Sleep};
use super::operation::Operation;
use super::result::{BoxError, failed};
use super::step::Step;
use crate::engine::bodies::StepBody;
use crate::engine::cell::{Asked, RunCell};

/// The context of a run, given to its workflow.
///
/// A workflow must do the same again when it is run again with the same results: it may branch,
/// loop and wait on several operations at once, but time, randomness, input and output come from
/// here. Each call takes the next operation id at once; the operation starts when it is first
/// polled. A clone is the same context.
#[derive(Clone)]
pub struct Ctx {
    cell: Arc<RunCell>,
}

impl Ctx {
    pub(crate) fn new(cell: Arc<RunCell>) -> Ctx {
        Ctx { cell }
    }

    /// The id of this run.
    pub fn run_id(&self) -> &RunId {
        self.cell.run()
    }

    /// A step: `body` runs with `input` and its output is recorded, so that it never runs again.
    ///
    /// The input is recorded with the step's start. The body may run more than once if the process
    /// dies before its output is recorded: [`Step::idempotency_key`] is the same each time. An
    /// input that has no JSON or is over 1 MiB fails the step without an attempt.
    ///
    /// ```
    /// use tidemill::{Ctx, Result, Step};
    ///
    /// async fn greet(step: Step, name: String) -> Result<String> {
    ///     Ok(format!("hello {name}, attempt {}", step.attempt()))
    /// }
    ///
    /// async fn welcome(ctx: Ctx, name: String) -> Result<String> {
    ///     Ok(ctx.step("greet", greet, name).await?)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("welcome", welcome);
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "it is given away, as to the body itself")]
    pub fn step<F, In, Fut, Out, E>(&self, name: &str, body: F, input: In) -> Call<Out>
    where
        F: Fn(Step, In) -> Fut + Send + 'static,
        In: Serialize + DeserializeOwned,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        Call::new(self.operation("ctx.step()", name, |op, name| {
            let event =
                Event::StepStarted { op, name, queued: false, input: payload("input", &input)? };
            Ok(Asked { event, body: Some(StepBody::of_step(body)) })
        }))
    }

    /// A step without an input: a closure, cloned for each attempt.
    ///
    /// ```
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn measure(ctx: Ctx, path: String) -> Result<u64> {
    ///     let size = ctx.run("size", async move || std::fs::metadata(path).map(|m| m.len())).await?;
    ///     Ok(size)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("measure", measure);
    /// ```
    ///
    /// A closure that only uses `?` or ends with a bare `Ok(…)` leaves its error type open, and the
    /// compiler asks for annotations (E0282, E0283): name it in the return type, or at the end.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// async fn count(ctx: Ctx, text: String) -> Result<usize> {
    ///     let words = text.clone();
    ///     let words = ctx.run("words", async move || -> Result<usize> {
    ///         Ok(words.split_whitespace().count())
    ///     });
    ///     let bytes = ctx.run("bytes", async move || Result::<_>::Ok(text.len()));
    ///     Ok(words.await? + bytes.await?)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("count", count);
    /// ```
    pub fn run<F, Fut, Out, E>(&self, name: &str, body: F) -> Call<Out>
    where
        F: FnOnce() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize + DeserializeOwned,
        E: Into<BoxError>,
    {
        Call::new(self.operation("ctx.run()", name, |op, name| {
            let event = Event::StepStarted { op, name, queued: false, input: Json::null() };
            Ok(Asked { event, body: Some(StepBody::of_closure(body)) })
        }))
    }

    /// A timer. It goes on while no process runs: the moment at which it fires is recorded.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn remind(ctx: Ctx, days: u64) -> Result<()> {
    ///     ctx.sleep(Duration::from_secs(days * 86_400)).await?;
    ///     Ok(())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("remind", remind);
    /// ```
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::after(duration, self.timer("ctx.sleep()", "sleep", self.cell.wall()))
    }

    /// A timer that fires at a moment of the wall clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn tomorrow(ctx: Ctx, _: ()) -> Result<()> {
    ///     let at = ctx.now().saturating_add(Duration::from_secs(86_400));
    ///     ctx.sleep_until(at).await?;
    ///     Ok(())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("tomorrow", tomorrow);
    /// ```
    pub fn sleep_until(&self, at: Timestamp) -> Sleep {
        Sleep::until(self.timer("ctx.sleep_until()", "sleep_until", at))
    }

    /// A run of another workflow, whose output this one can wait for. Its id is this run's, a dot
    /// and the operation's number.
    ///
    /// ```
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn square(_: Ctx, n: u64) -> Result<u64> {
    ///     Ok(n * n)
    /// }
    ///
    /// async fn squares(ctx: Ctx, up_to: u64) -> Result<u64> {
    ///     let children = (0..up_to).map(|n| ctx.child::<u64>("square", n));
    ///     let all = futures_util::future::try_join_all(children).await?;
    ///     Ok(all.into_iter().sum())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("square", square).workflow("squares", squares);
    /// ```
    pub fn child<Out: DeserializeOwned>(
        &self,
        workflow: &str,
        input: impl Serialize,
    ) -> Child<Out> {
        Child::new(self.operation("ctx.child()", workflow, |op, name| {
            let input = payload("input", &input)?;
            let child = self.cell.run().child(op).map_err(|e| self.too_long(op, &e))?;
            Ok(Event::ChildStarted { op, name, child, input }.into())
        }))
    }

    /// The time, recorded: a replay gets the same.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// async fn stamp(ctx: Ctx, _: ()) -> Result<String> {
    ///     Ok(ctx.now().to_string())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("stamp", stamp);
    /// ```
    pub fn now(&self) -> Timestamp {
        self.cell.now()
    }

    /// A random UUID (version 4), the same in every replay.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// async fn order(ctx: Ctx, _: ()) -> Result<String> {
    ///     Ok(ctx.uuid().to_string())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("order", order);
    /// ```
    pub fn uuid(&self) -> Uuid {
        let bits = self.bits("ctx.uuid()", b"uuid");
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }

    /// 64 random bits, the same in every replay.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// async fn pick(ctx: Ctx, names: Vec<String>) -> Result<String> {
    ///     let index = usize::try_from(ctx.random())? % names.len().max(1);
    ///     names.into_iter().nth(index).ok_or_else(|| "no names".into())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("pick", pick);
    /// ```
    pub fn random(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bits("ctx.random()", b"random").to_be_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// What the run's seed gives for an operation: no event is needed to have it again. A call
    /// that blocks the run gets bits that nothing else has.
    fn bits(&self, what: &str, purpose: &[u8]) -> u128 {
        let Some(op) = self.cell.allot(|| what.to_owned()) else { return Uuid::new_v4().as_u128() };
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.cell.seed().to_bytes());
        hash.update(&op.get().to_be_bytes());
        hash.update(purpose);
        hash.digest128()
    }

    fn timer(&self, what: &str, name: &str, fire_at: Timestamp) -> Operation<()> {
        self.operation(what, name, |op, name| Ok(Event::TimerStarted { op, name, fire_at }.into()))
    }

    /// Blocks a run whose id leaves no room for its child's.
    fn too_long(&self, op: OpId, why: &ChildIdTooLong) -> Failure {
        self.cell.refuse(BlockReason {
            kind: BlockReasonKind::Limit,
            op: Some(op),
            logged: None,
            asked: Some(why.to_string()),
            advice: "start the run again with a shorter id".to_owned(),
        });
        failed(why.to_string())
    }

    fn operation<T: DeserializeOwned>(
        &self,
        what: &str,
        name: &str,
        ask: impl FnOnce(OpId, OpName) -> Result<Asked, Failure>,
    ) -> Operation<T> {
        let op = self.cell.allot(|| match OpName::new(name) {
            Ok(name) => format!("{what} `{name}`"),
            Err(_) => what.to_owned(),
        });
        let name = OpName::new(name).unwrap_or_else(|invalid| {
            self.cell.refuse(BlockReason {
                kind: BlockReasonKind::Misuse,
                op,
                logged: None,
                asked: Some(format!("{what} with an {invalid}")),
                advice: "give the operation a name that fits, deploy that, then resume the run"
                    .to_owned(),
            });
            OpName::new("?").expect("a question mark is a name")
        });
        let asked = op.map(|op| ask(op, name.clone()).map(|asked| (op, asked)));
        Operation::new(&self.cell, name, asked)
    }
}

/// The JSON of a payload within its limit.
pub(crate) fn payload<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Json, Failure> {
    let json = Json::of(value).map_err(|e| failed(format!("its {what} has no JSON: {e}")))?;
    let bytes = json.as_str().len();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(failed(format!(
            "its {what} has bytes={bytes}, over the limit payload={PAYLOAD_BYTES_MAX}: keep large \
             data in your own storage and pass its key"
        )));
    }
    Ok(json)
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("run", self.cell.run()).finish_non_exhaustive()
    }
}
