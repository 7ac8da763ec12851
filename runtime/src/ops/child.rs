//! Children: runs of their own, whose end is an input of their parent.
//!
//! A child starts with `child_started`, in whose commit the engine creates it, and ends with
//! `child_completed` or `child_failed`, which its driver pushes to the parent's inbox. When its
//! parent drops it or ends, the engine cancels it, unless it outlives its parent. When the parent is loaded again, the engine
//! looks for the child's end among the runs of this process and in the file.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::limits::LABELS_MAX;
use tidemill_model::{
    BlockReason, BlockReasonKind, ChildIdTooLong, Event, Failure, Json, OpId, OpKind, OpName,
    Parent, RunCreated, RunId,
};

use super::{Operation, bad_name, spawn};
use crate::author::near::did_you_mean;
use crate::author::result::{StepError, failed};
use crate::author::{App, Ctx, WorkflowRef, payload};
use crate::engine::RunResult;
use crate::engine::call_site::CallSite;
use crate::engine::cell::{Asked, Given};
use crate::engine::driver::{Driver, Next};
use crate::engine::journal::Journal;
use crate::engine::run_core::RunCore;
use crate::engine::start;
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
        let workflow = self.registered(workflow.registered(self.cell().names()), CHILD, at);
        Child::new(self.operation("ctx.child()", &workflow, |op, name| {
            let input = payload("input", &input)?;
            let child = self.cell().run().child(op).map_err(|e| self.too_long(op, &e, at))?;
            Ok(Event::ChildStarted { op, name, child, input, outlives_parent: false }.into())
        }))
    }

    /// The workflow's name; blocks a run whose code asks for a function that stands for none, or for
    /// several.
    pub(super) fn registered(
        &self,
        found: Result<String, String>,
        what: &str,
        at: CallSite,
    ) -> String {
        found.unwrap_or_else(|function| {
            self.cell().refuse(not_registered(what, &function), at);
            "?".to_owned()
        })
    }

    /// Blocks a run whose id leaves no room for its child's.
    pub(super) fn too_long(&self, op: OpId, why: &ChildIdTooLong, at: CallSite) -> Failure {
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

const CHILD: &str = "a child";

/// A child run: await its output. If this future is dropped before the child's end, the child is
/// cancelled, unless it [outlives its parent](Child::outlives_parent).
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
        choose_id(&mut self.0, CHILD, id);
        self
    }

    /// Lets the child go on by itself when this run no longer waits for it: because this run is
    /// cancelled, terminated or ends in another way, or drops this future. Without this the child is
    /// cancelled then. A cancel of this run ends the wait at once, with an error of kind
    /// [`Cancelled`](crate::FailureKind::Cancelled); nobody is told how the child ends.
    ///
    /// The log decides: a child that has started keeps what it was started with, and no replay
    /// compares it. To start a run without waiting for it at all, use [`Ctx::spawn`].
    ///
    /// # Panics
    /// As [`Child::id`].
    ///
    /// ```
    /// # use tidemill::{Ctx, Result};
    /// # async fn archive(_: Ctx, day: u32) -> Result<u64> { Ok(u64::from(day)) }
    /// async fn nightly(ctx: Ctx, day: u32) -> Result<u64> {
    ///     Ok(ctx.child(archive, day).outlives_parent().await?)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("archive", archive).workflow("nightly", nightly);
    /// ```
    pub fn outlives_parent(mut self) -> Child<T> {
        if let Some(Asked { event: Event::ChildStarted { outlives_parent, .. }, .. }) =
            self.0.asked()
        {
            *outlives_parent = true;
        }
        self
    }

    /// Adds a label to the child, to find it by: at most 32, as for every run. Labels are given when
    /// the child starts, and no replay compares them.
    ///
    /// # Panics
    /// As [`Child::id`].
    pub fn label(mut self, name: &str, value: &str) -> Child<T> {
        add_label(&mut self.0, CHILD, name, value);
        self
    }

    /// Cancels the child if it has not ended this long after its start; this run gets an error of kind
    /// [`Cancelled`](crate::FailureKind::Cancelled) once the child has cleaned up. No replay compares
    /// it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill::{Ctx, Result};
    /// # async fn archive(_: Ctx, day: u32) -> Result<u64> { Ok(u64::from(day)) }
    /// async fn nightly(ctx: Ctx, day: u32) -> Result<u64> {
    ///     Ok(ctx.child(archive, day).within(Duration::from_secs(3_600)).await?)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("archive", archive).workflow("nightly", nightly);
    /// ```
    ///
    /// # Panics
    /// As [`Child::id`]. A time that no run can have blocks this run.
    pub fn within(mut self, time: Duration) -> Child<T> {
        limit(&mut self.0, CHILD, time);
        self
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Child<T> {
        self.0.start(Waker::noop());
        self
    }
}

operation_future!(Child);

/// Gives a run that starts the id that the code chooses.
pub(super) fn choose_id<T: DeserializeOwned>(operation: &mut Operation<T>, what: &str, id: &str) {
    match (RunId::chosen(id), operation.asked()) {
        (Ok(id), Some(Asked { event: Event::ChildStarted { child: its, .. }, .. }))
        | (Ok(id), Some(Asked { event: Event::SpawnStarted { run: its, .. }, .. })) => *its = id,
        (Ok(_), _) => {}
        (Err(invalid), _) => operation.refuse(bad_name(what, None, &invalid)),
    }
}

/// Adds a label to a run that starts.
pub(super) fn add_label<T: DeserializeOwned>(
    operation: &mut Operation<T>,
    what: &str,
    name: &str,
    value: &str,
) {
    let texts = OpName::new(name).and_then(|_| OpName::new(value));
    if let Err(invalid) = texts {
        operation.refuse(bad_name(&format!("{what} whose label has"), None, &invalid));
    } else if let Some(asked) = operation.asked() {
        let gives = asked.gives.get_or_insert_default();
        gives.labels.insert(name.to_owned(), value.to_owned());
        if gives.labels.len() > LABELS_MAX {
            operation.refuse(too_many_labels(what));
        }
    }
}

/// Gives a run that starts so much time.
pub(super) fn limit<T: DeserializeOwned>(operation: &mut Operation<T>, what: &str, time: Duration) {
    match (start::within_ms(time), operation.asked()) {
        (Ok(ms), Some(asked)) => asked.gives.get_or_insert_default().within_ms = Some(ms),
        (Ok(_), None) => {}
        (Err(error), _) => operation.refuse(BlockReason {
            kind: BlockReasonKind::Misuse,
            op: None,
            logged: None,
            asked: Some(format!("{what} whose time cannot be: {error}")),
            advice: "give it another time, or none, deploy that, then resume the run".to_owned(),
        }),
    }
}

/// Adds the run that the commit of its `child_started` creates.
///
/// # Errors
/// The reason that blocks the parent: this program has no workflow of that name.
pub(super) fn create(
    core: &RunCore,
    event: &Event,
    gives: Given,
) -> Result<Option<NewRun>, BlockReason> {
    let Event::ChildStarted { op, name, child, input, outlives_parent } = event else {
        return Ok(None);
    };
    if !core.app.workflows.contains_key(name) {
        return Err(unknown_workflow(&core.app, *op, name, CHILD));
    }
    let mut created = created_by(core, (*op, name), input, gives);
    created.parent = Some(Parent { run: core.run.clone(), op: *op });
    created.outlives_parent = *outlives_parent;
    Ok(Some(NewRun::new(child.clone(), Box::new(created))))
}

/// Whether the run may have the children that its code asks for. Nothing of this is recorded: a run
/// that asks for too many is blocked as it was before it asked, so the bound may change at any time.
///
/// # Errors
/// The reason that blocks the run: too many would live at once.
pub(crate) fn check_live(core: &RunCore, asked: &[Asked]) -> Result<(), BlockReason> {
    let started = |it: &Asked| match &it.event {
        Event::ChildStarted { op, .. } => Some(*op),
        _ => None,
    };
    let starts: FxHashSet<OpId> = asked.iter().filter_map(started).collect();
    let (max, live) = (core.app.live_children_max, core.journal.live_children());
    if starts.is_empty() || live + starts.len() <= max {
        return Ok(());
    }
    let is_dropped = |it: &&Asked| match &it.event {
        Event::OpDropped { op } => core.journal.is_live_child(*op) || starts.contains(op),
        _ => false,
    };
    let would_live = live + starts.len() - asked.iter().filter(is_dropped).count();
    if would_live <= max {
        return Ok(());
    }
    Err(BlockReason {
        kind: BlockReasonKind::Limit,
        op: starts.iter().min().copied(),
        logged: None,
        asked: Some(format!(
            "{} more children when {live} live: {would_live} would live at once, over the limit \
             live_children={max}",
            starts.len()
        )),
        advice:
            "wait for some before you start others (`buffer_unordered` of a stream does), start \
                 them in parts through children of their own, or raise App::live_children_max; \
                 deploy that, then resume the run: its children go on meanwhile"
                .to_owned(),
    })
}

/// What a run is created with that this run starts.
pub(super) fn created_by(
    core: &RunCore,
    (op, name): (OpId, &OpName),
    input: &Json,
    Given { labels, within_ms }: Given,
) -> RunCreated {
    RunCreated {
        workflow: name.clone(),
        input: input.clone(),
        labels,
        seed: core.created.own_seed().of_child(op),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: core.app.version.clone(),
        durability: core.created.durability,
        by: core.created.by.clone(),
        forked: None,
        within_ms,
    }
}

fn too_many_labels(what: &str) -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Limit,
        op: None,
        logged: None,
        asked: Some(format!("{what} with more than {LABELS_MAX} labels")),
        advice: "give it fewer, deploy that, then resume the run".to_owned(),
    }
}

/// The reason for a run whose code starts a run of a function that stands for no workflow, or for
/// several.
fn not_registered(what: &str, function: &str) -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::UnknownWorkflow,
        op: None,
        logged: None,
        asked: Some(format!("{what} of {function}")),
        advice: "register the function once with App::workflow, or pass its name, \
                 deploy that, then resume the run"
            .to_owned(),
    }
}

/// The reason for a run whose code starts a run of an unknown workflow. Nothing of the call is
/// recorded, so the code may later ask for another name.
pub(super) fn unknown_workflow(app: &App, op: OpId, name: &OpName, what: &str) -> BlockReason {
    let meant = did_you_mean(name.as_str(), app.workflows.keys().map(OpName::as_str));
    BlockReason {
        kind: BlockReasonKind::UnknownWorkflow,
        op: Some(op),
        logged: None,
        asked: Some(format!("{what} of workflow `{name}`, which this program does not register")),
        advice: format!(
            "{meant}correct the name in the call, or register the workflow, deploy that, then \
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

    /// Finds out whether the children that the log leaves open have ended, and tells the run of those
    /// that it spawned.
    pub(crate) async fn look_for_children(&self, journal: &Journal) -> Result<(), Error> {
        let ended = self.ended_children(journal).await?;
        let spawned = spawn::ends_to_tell(journal);
        spawned.into_iter().chain(ended).for_each(|end| self.run.inbox.push(end));
        Ok(())
    }

    /// For a run whose code asks for more children than may live at once: the ends that it has not
    /// observed, as held, so that the children which have ended do not count.
    pub(crate) async fn make_room(&self, journal: &Journal) -> Result<Vec<Event>, Error> {
        let held = |end: Event| {
            let (op, name) = (end.op()?, end.name()?.clone());
            Some(Event::OpHeld { op, name, attempt: None, end: Box::new(end) })
        };
        Ok(self.ended_children(journal).await?.into_iter().filter_map(held).collect())
    }

    /// The ends of the children that the log leaves open, as far as they have ended.
    async fn ended_children(&self, journal: &Journal) -> Result<Vec<Event>, Error> {
        let open = |id: OpId| {
            let op = journal.open(id).filter(|op| op.held.is_none())?;
            let OpKind::Child { child, .. } = &op.kind else { return None };
            Some((id, op.name.clone(), child.clone()))
        };
        let open: Vec<_> = journal.open_ops().into_iter().filter_map(open).collect();
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let mut ended = Vec::new();
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
            ended.extend(end);
        }
        Ok(ended)
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
