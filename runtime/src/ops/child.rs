//! Children: runs of their own, whose end is an input of their parent.
//!
//! A child starts with `child_started`, in whose commit the engine creates it, and ends with
//! `child_completed` or `child_failed`, which its driver pushes to the parent's inbox. When its
//! parent drops it or ends, the engine cancels it. When the parent is loaded again, the engine
//! looks for the child's end among the runs of this process and in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::limits::LABELS_MAX;
use tidemill_model::{
    BlockReason, BlockReasonKind, ChildIdTooLong, Event, Failure, OpId, OpKind, OpName, Parent,
    RunCreated, RunId,
};

use super::{Operation, bad_name};
use crate::author::near::did_you_mean;
use crate::author::result::{StepError, failed};
use crate::author::{App, Ctx, WorkflowRef, payload};
use crate::engine::RunResult;
use crate::engine::call_site::CallSite;
use crate::engine::cell::Asked;
use crate::engine::driver::{Driver, Next};
use crate::engine::journal::Journal;
use crate::engine::run_core::RunCore;
use crate::error::Error;
use crate::store::AwaitedChild;
use crate::store::writer::NewRun;

impl Ctx {
    /// Starts a run of another workflow, whose output this run can wait for. The child's id is this
    /// run's id, a dot and the operation's number, unless it is given [another](Child::id).
    ///
    /// The workflow is its function, whose input and output the compiler checks, or the name under
    /// which the program registers it: `let n: u64 = ctx.child("square", 3).await?`.
    ///
    /// ```
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn square(_: Ctx, n: u64) -> Result<u64> {
    ///     Ok(n * n)
    /// }
    ///
    /// async fn squares(ctx: Ctx, up_to: u64) -> Result<u64> {
    ///     let children = (0..up_to).map(|n| ctx.child(square, n));
    ///     let all = futures_util::future::try_join_all(children).await?;
    ///     Ok(all.into_iter().sum())
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("square", square).workflow("squares", squares);
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "given away, as to the workflow itself")]
    #[track_caller]
    pub fn child<Out, W, In, By>(&self, workflow: W, input: In) -> Child<Out>
    where
        W: WorkflowRef<In, Out, By>,
        In: Serialize,
        Out: DeserializeOwned,
    {
        let at = CallSite::of_caller();
        let workflow = workflow.registered(self.cell().names()).unwrap_or_else(|what| {
            self.cell().refuse(not_registered(&what), at);
            "?".to_owned()
        });
        Child::new(self.operation("ctx.child()", &workflow, |op, name| {
            let input = payload("input", &input)?;
            let child = self.cell().run().child(op).map_err(|e| self.too_long(op, &e, at))?;
            Ok(Event::ChildStarted { op, name, child, input }.into())
        }))
    }

    /// Blocks a run whose id leaves no room for its child's.
    fn too_long(&self, op: OpId, why: &ChildIdTooLong, at: CallSite) -> Failure {
        let reason = BlockReason {
            kind: BlockReasonKind::Limit,
            op: Some(op),
            logged: None,
            asked: Some(why.to_string()),
            advice: "start the run again with a shorter id".to_owned(),
        };
        self.cell().refuse(reason, at);
        failed(why.to_string())
    }
}

/// A child run: await its output. If this future is dropped before the child's end, the child is
/// cancelled.
#[must_use = "a child starts when it is awaited, or by .start()"]
pub struct Child<T: DeserializeOwned>(Operation<T>);

impl<T: DeserializeOwned> Child<T> {
    pub(crate) fn new(operation: Operation<T>) -> Child<T> {
        Child(operation)
    }

    /// Chooses the child's id (1 to 128 bytes), which no other run of the node may have: if one has,
    /// the child fails. Default: the parent's id, a dot and the operation's number. The id is part of
    /// what the run did: code that chooses another one does not continue a run that waits for the
    /// child.
    ///
    /// # Panics
    /// If the child was started, as does [`Child::label`]. A panic blocks the run, and so does an id
    /// that cannot be one.
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// # async fn train(_: Ctx, rate: f64) -> Result<f64> { Ok(rate) }
    /// async fn search(ctx: Ctx, rates: Vec<f64>) -> Result<Vec<f64>> {
    ///     let mut losses = Vec::new();
    ///     for (number, rate) in rates.into_iter().enumerate() {
    ///         let id = format!("{}-trial-{number}", ctx.run_id());
    ///         losses.push(ctx.child(train, rate).id(&id).label("kind", "trial").await?);
    ///     }
    ///     Ok(losses)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("train", train).workflow("search", search);
    /// ```
    pub fn id(mut self, id: &str) -> Child<T> {
        match RunId::chosen(id) {
            Ok(id) => {
                if let Some(Asked { event: Event::ChildStarted { child, .. }, .. }) = self.0.asked()
                {
                    *child = id;
                }
            }
            Err(invalid) => self.0.refuse(bad_name("a child", None, &invalid)),
        }
        self
    }

    /// Adds a label to the child, to find it by: at most 32, as for every run. Labels are given when
    /// the child starts, and no replay compares them.
    ///
    /// # Panics
    /// As [`Child::id`].
    pub fn label(mut self, name: &str, value: &str) -> Child<T> {
        let texts = OpName::new(name).and_then(|_| OpName::new(value));
        if let Err(invalid) = texts {
            self.0.refuse(bad_name("a child whose label has", None, &invalid));
        } else if let Some(asked) = self.0.asked() {
            asked.labels.insert(name.to_owned(), value.to_owned());
            if asked.labels.len() > LABELS_MAX {
                self.0.refuse(too_many_labels());
            }
        }
        self
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Child<T> {
        self.0.start(Waker::noop());
        self
    }
}

operation_future!(Child);

/// Adds the run that the commit of its `child_started` creates.
///
/// # Errors
/// The reason that blocks the parent: this program has no workflow of that name.
pub(super) fn create(
    core: &RunCore,
    event: &Event,
    labels: BTreeMap<String, String>,
) -> Result<Option<NewRun>, BlockReason> {
    let Event::ChildStarted { op, name, child, input } = event else { return Ok(None) };
    if !core.app.workflows.contains_key(name) {
        return Err(unknown_workflow(&core.app, *op, name));
    }
    let created = RunCreated {
        workflow: name.clone(),
        input: input.clone(),
        labels,
        seed: core.created.own_seed().of_child(*op),
        parent: Some(Parent { run: core.run.clone(), op: *op }),
        app_version: core.app.version.clone(),
        durability: core.created.durability,
        by: core.created.by.clone(),
        forked: None,
    };
    Ok(Some(NewRun::new(child.clone(), Box::new(created))))
}

fn too_many_labels() -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Limit,
        op: None,
        logged: None,
        asked: Some(format!("a child with more than {LABELS_MAX} labels")),
        advice: "give it fewer, deploy that, then resume the run".to_owned(),
    }
}

/// The reason for a run whose code asks for a child of a function that stands for no workflow, or
/// for several.
fn not_registered(what: &str) -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::UnknownWorkflow,
        op: None,
        logged: None,
        asked: Some(format!("a child of {what}")),
        advice: "register the function once with App::workflow, or pass the name to ctx.child(), \
                 deploy that, then resume the run"
            .to_owned(),
    }
}

/// The reason for a run whose code asks for a child of an unknown workflow. Nothing of the call is
/// recorded, so the code may later ask for another name.
fn unknown_workflow(app: &App, op: OpId, name: &OpName) -> BlockReason {
    let meant = did_you_mean(name.as_str(), app.workflows.keys().map(OpName::as_str));
    BlockReason {
        kind: BlockReasonKind::UnknownWorkflow,
        op: Some(op),
        logged: None,
        asked: Some(format!("a child of workflow `{name}`, which this program does not register")),
        advice: format!(
            "{meant}correct the name in ctx.child(), or register the workflow, deploy that, then \
             resume the run"
        ),
    }
}

impl Driver {
    /// Tells the parent how this run, its child of this workflow, ended. A parent that is not loaded
    /// is loaded if it waits, and finds the end in the file.
    pub(crate) async fn tell_parent(&self, parent: &Parent, workflow: &OpName, ended: &RunResult) {
        let Some(end) = end_of(parent.op, workflow, ended) else { return };
        if !self.engine.registry.push(&parent.run, end) && !self.is_unwanted().await {
            self.engine.load(&parent.run, Next::Woken);
        }
    }

    /// Finds out whether the children that the log leaves open have ended.
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
                // Its driver will report its end.
                Some(None) => None,
                None => Some(not_ours(op, &name, &child)),
            };
            end.into_iter().for_each(|end| self.run.inbox.push(end));
        }
        Ok(())
    }
}

/// The input of a parent whose child could not be created, because its id was taken.
pub(crate) fn not_ours(op: OpId, name: &OpName, child: &RunId) -> Event {
    let error = failed(format!(
        "there is a run `{child}` already, which this call did not start: give the child an id of its \
         own, or start the parent under another one"
    ));
    Event::ChildFailed { op, name: name.clone(), error }
}

/// The input of a parent whose child has ended; `None` if the child is blocked.
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
