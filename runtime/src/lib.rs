//! Durable workflows for machines that may vanish.
//!
//! A workflow is an async function that acts through its [`Ctx`]: it runs steps, sets timers and
//! starts child workflows. The runtime records each result in one SQLite file before anything
//! builds on it. A process that takes the file over calls the function again and feeds it the
//! recorded results, so a completed step never runs twice.
//!
//! ```no_run
//! use std::time::Duration;
//! use tidemill::{App, Ctx, Result, Retry, Step};
//!
//! async fn charge(step: Step, cents: u64) -> Result<String> {
//!     Ok(format!("receipt {} for {cents}", step.idempotency_key()))
//! }
//!
//! async fn order(ctx: Ctx, cents: u64) -> Result<String> {
//!     let receipt = ctx.step("charge", charge, cents).retry(Retry::attempts(3)).await?;
//!     ctx.sleep(Duration::from_secs(3600)).await?;
//!     Ok(receipt)
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<()> {
//!     let node = App::new("shop").workflow("order", order).open("workflow.db").await?;
//!     let run = node.start(order, 4200).id("order-17").await?;
//!     println!("{}", run.result().await?);
//!     node.shutdown().await?;
//!     Ok(())
//! }
//! ```
//!
//! [`testing`] has a kit for tests of workflows: in process, without waiting.

mod author;
mod client;
mod engine;
mod error;
mod gate;
#[cfg(doctest)]
mod guide;
mod node;
mod ops;
#[cfg(test)]
mod samples;
mod store;
pub mod testing;
mod traces;

pub use author::{
    App, BoxError, Ctx, Result, Retry, RunHandle, SendSignal, Start, Step, StepError,
};
#[doc(hidden)]
pub use author::{ByFunction, ByName, WorkflowNames};
pub use author::{SpawnRef, WorkflowRef};
pub use client::Client;
pub use engine::{
    AnswerRequest, Answered, CheckReport, Environment, ForkedRun, Node, PromiseToken, RunResult,
    SignalRequest, Signalled, StartRequest, Started, StillCompared,
};
pub use error::{Error, ErrorKind};
pub use gate::Gate;
pub use node::{ServeSettings, Serving};
pub use ops::{ApprovalWait, Call, Child, Promise, SignalWait, SignalWithin, Sleep, Spawn};
pub use store::writer::{RefusalCause, Refusing};
pub use tidemill_model::{
    AnswerNote, Approval, ApprovalAnswer, ApprovalEnd, Failure, FailureKind, ForkOutlook,
    ForkRequest, ForkSignals, Json, PromiseId, Requester, RunId, RunStatus, Timestamp, Verdict,
    WaitsFor,
};

/// Names that the macros expand to. Not part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use ::tokio;
}

/// Compiles the program in the README as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
