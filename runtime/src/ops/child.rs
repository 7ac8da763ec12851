//! Children: runs of their own, whose end is an input of their parent.
//!
//! Starts with `child_started`, in whose commit the child is created; ends with `child_completed` or
//! `child_failed`, pushed to the parent's inbox. Dropped, or its parent ended: the child is
//! cancelled. Taken up again: its end is looked for, among the runs of this process and in the file.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::{
    BlockReason, BlockReasonKind, ChildIdTooLong, Event, Failure, OpId, OpKind, OpName, Parent,
    RunCreated, RunId, Seed,
};

use super::Operation;
use crate::author::near::did_you_mean;
use crate::author::result::{StepError, failed};
use crate::author::{App, Ctx, payload};
use crate::engine::driver::{Driver, Next};
use crate::engine::inbox::Control;
use crate::engine::journal::Journal;
use crate::engine::turn::Live;
use crate::engine::{Engine, RunResult};
use crate::error::Error;
use crate::store::AwaitedChild;
use crate::store::writer::NewRun;

impl Ctx {
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
            let child = self.run_id().child(op).map_err(|e| self.too_long(op, &e))?;
            Ok(Event::ChildStarted { op, name, child, input }.into())
        }))
    }

    /// Blocks a run whose id leaves no room for its child's.
    fn too_long(&self, op: OpId, why: &ChildIdTooLong) -> Failure {
        self.cell().refuse(BlockReason {
            kind: BlockReasonKind::Limit,
            op: Some(op),
            logged: None,
            asked: Some(why.to_string()),
            advice: "start the run again with a shorter id".to_owned(),
        });
        failed(why.to_string())
    }
}

/// A child run: await its output. Dropped before its end, the child is cancelled.
#[must_use = "a child starts when it is awaited, or by .start()"]
pub struct Child<T: DeserializeOwned>(Operation<T>);

impl<T: DeserializeOwned> Child<T> {
    pub(crate) fn new(operation: Operation<T>) -> Child<T> {
        Child(operation)
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Child<T> {
        self.0.start(Waker::noop());
        self
    }
}

operation_future!(Child);

/// Its start is about to be recorded: the run that the same commit creates.
///
/// # Errors
/// Why the parent is blocked: this program has no workflow of that name.
pub(super) fn create(
    live: &Live,
    run: &RunId,
    event: &Event,
) -> Result<Option<NewRun>, BlockReason> {
    let Event::ChildStarted { op, name, child, input } = event else { return Ok(None) };
    if !live.app.workflows.contains_key(name) {
        return Err(unknown_workflow(&live.app, *op, name));
    }
    let created = RunCreated {
        workflow: name.clone(),
        input: input.clone(),
        labels: std::collections::BTreeMap::new(),
        seed: seed_of(&live.created.seed, *op),
        parent: Some(Parent { run: run.clone(), op: *op }),
        app_version: live.app.version.clone(),
        durability: live.created.durability,
    };
    Ok(Some(NewRun::new(child.clone(), Box::new(created))))
}

/// Why a run is blocked whose code asks for a child that this program cannot run: nothing of it is
/// recorded, so that another name is as good.
fn unknown_workflow(app: &App, op: OpId, name: &OpName) -> BlockReason {
    let meant = did_you_mean(name.as_str(), app.workflows.keys().map(OpName::as_str));
    BlockReason {
        kind: BlockReasonKind::UnknownWorkflow,
        op: Some(op),
        logged: None,
        asked: Some(format!("a child of workflow `{name}`, which this program does not register")),
        advice: format!(
            "{meant}mend the name in ctx.child(), or register the workflow, deploy that, then \
             resume the run"
        ),
    }
}

/// The seed of a child: made from the parent's, so that a replay of the parent asks for the same.
fn seed_of(parent: &Seed, op: OpId) -> Seed {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&parent.to_bytes());
    hash.update(&op.get().to_be_bytes());
    hash.update(b"child");
    Seed::from_random(hash.digest128().to_be_bytes())
}

impl Engine {
    /// Tells the parent how its child of this workflow ended. One that is not loaded is loaded, and
    /// finds that in the file.
    pub(crate) fn tell_parent(
        self: &Arc<Self>,
        parent: &Parent,
        workflow: &OpName,
        ended: &RunResult,
    ) {
        let Some(end) = end_of(parent.op, workflow, ended) else { return };
        if !self.registry.push(&parent.run, end) {
            self.load(&parent.run, Next::Woken);
        }
    }

    /// Cancels a child that its parent dropped.
    pub(crate) fn cancel_child(self: &Arc<Self>, parent: &RunId, child: &RunId) {
        let (engine, by) = (Arc::clone(self), parent.clone());
        let unwanted = Next::Unwanted { by: by.clone() };
        self.registry.control(child, Control::Cancel { by }, move |run| {
            engine.drive(run, unwanted, None);
        });
    }
}

impl Driver {
    /// Finds out what became of the children that the log leaves open.
    pub(crate) async fn look_for_children(&self, journal: &Journal) -> Result<(), Error> {
        let open = |id: OpId| {
            let op = journal.open(id).filter(|op| op.held.is_none())?;
            let OpKind::Child { child, .. } = &op.kind else { return None };
            Some((id, op.name.clone(), child.clone()))
        };
        let open: Vec<_> = journal.open_ops().into_iter().filter_map(open).collect();
        if open.is_empty() {
            return Ok(());
        }
        let ours = self.engine.store.reads().children(&self.run.id).await?;
        let mut ours: FxHashMap<OpId, Option<RunResult>> =
            ours.into_iter().map(|AwaitedChild { op, ended }| (op, ended)).collect();
        for (op, name, child) in open {
            let end = match ours.remove(&op) {
                Some(Some(ended)) => end_of(op, &name, &ended),
                // Its driver tells us at its end.
                Some(None) => None,
                None => Some(not_ours(op, &name, &child)),
            };
            end.into_iter().for_each(|end| self.run.inbox.push(end));
        }
        Ok(())
    }
}

/// What a parent observes whose child has an id that was taken.
pub(crate) fn not_ours(op: OpId, name: &OpName, child: &RunId) -> Event {
    let error = failed(format!(
        "there is a run `{child}` already, which this run did not start: start the parent under \
         another id"
    ));
    Event::ChildFailed { op, name: name.clone(), error }
}

/// What a parent observes of its child's end.
fn end_of(op: OpId, name: &OpName, ended: &RunResult) -> Option<Event> {
    let name = name.clone();
    match ended {
        RunResult::Completed(output) => {
            Some(Event::ChildCompleted { op, name, output: output.clone() })
        }
        RunResult::Failed(error) => Some(Event::ChildFailed { op, name, error: error.clone() }),
        RunResult::Blocked(_) => None,
    }
}
