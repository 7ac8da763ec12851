//! Spawned runs: runs of their own, which the run that starts them does not wait for.
//!
//! A spawn starts with `spawn_started`, in whose commit the engine creates the other run, and ends with
//! `spawn_completed`, or with `spawn_failed` if another run has the id. The other run records who
//! started it as `spawned_by` and has no parent, so no cancel, drop or end of that run reaches it.
//!
//! Crash: the writer decides in the commit of `spawn_started` whether the run is created, and that
//! commit holds the `spawn_failed`. So a spawn that is open without a held end has succeeded, also when
//! the run that it started has left the file since.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use tidemill_model::{BlockReason, Event, OpId, OpKind, OpName, Parent, RunId, RunSummary};

use super::{Operation, child};
use crate::author::result::{StepError, failed};
use crate::author::{Ctx, SpawnRef, payload};
use crate::engine::call_site::CallSite;
use crate::engine::cell::Given;
use crate::engine::journal::Journal;
use crate::engine::run_core::RunCore;
use crate::store::writer::NewRun;

impl Ctx {
    /// Starts a run of another workflow and leaves it alone: awaiting this gives the id of the run once
    /// that is created. It is no child: this run does not wait for it, and whatever becomes of this
    /// run, a cancel among it, does not reach it. Its id is this run's id, a dot and the operation's
    /// number, unless it is given [another](Spawn::id).
    ///
    /// The workflow is its function, whose input the compiler checks, or the name under which the
    /// program registers it.
    ///
    /// ```
    /// use tidemill::{Ctx, Result};
    ///
    /// async fn send_receipt(_: Ctx, to: String) -> Result<()> {
    ///     Ok(drop(to))
    /// }
    ///
    /// async fn order(ctx: Ctx, to: String) -> Result<String> {
    ///     let receipt = ctx.spawn(send_receipt, to).label("kind", "receipt").await?;
    ///     Ok(format!("the receipt goes out as {receipt}"))
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("receipt", send_receipt).workflow("order", order);
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "given away, as to the workflow itself")]
    #[track_caller]
    pub fn spawn<W, In, By>(&self, workflow: W, input: In) -> Spawn
    where
        W: SpawnRef<In, By>,
        In: Serialize,
    {
        let at = CallSite::of_caller();
        let workflow = self.registered(workflow.registered_as(self.cell().names()), SPAWN, at);
        Spawn(self.operation("ctx.spawn()", &workflow, |op, name| {
            let input = payload("input", &input)?;
            let run = self.cell().run().child(op).map_err(|e| self.too_long(op, &e, at))?;
            Ok(Event::SpawnStarted { op, name, run, input }.into())
        }))
    }
}

const SPAWN: &str = "a spawned run";

/// The start of a run of its own: await its id. If this future is dropped once it has started, the
/// other run goes on all the same.
#[must_use = "a run is spawned when this is awaited, or by .start()"]
pub struct Spawn(Operation<RunId>);

impl Spawn {
    /// Chooses the run's id (1 to 128 bytes). If another run of the node has it, this fails, and says
    /// what is there. The id is part of what the run did: code that chooses another one does not
    /// continue a run that has recorded this call.
    ///
    /// # Panics
    /// If it was started, as does [`Spawn::label`]. A panic blocks the run, and so does an id that
    /// cannot be one.
    pub fn id(mut self, id: &str) -> Spawn {
        child::choose_id(&mut self.0, SPAWN, id);
        self
    }

    /// Adds a label to the run, to find it by: at most 32, as for every run. Labels are given when the
    /// run is created, and no replay compares them.
    ///
    /// # Panics
    /// As [`Spawn::id`].
    pub fn label(mut self, name: &str, value: &str) -> Spawn {
        child::add_label(&mut self.0, SPAWN, name, value);
        self
    }

    /// Cancels the run if it has not ended this long after its start: [`StartRequest::within`]. No replay
    /// compares it.
    ///
    /// [`StartRequest::within`]: crate::StartRequest::within
    ///
    /// # Panics
    /// As [`Spawn::id`]. A time that no run can have blocks the run.
    pub fn within(mut self, time: Duration) -> Spawn {
        child::limit(&mut self.0, SPAWN, time);
        self
    }

    /// Starts it now instead of when it is first polled.
    pub fn start(mut self) -> Spawn {
        self.0.start(Waker::noop());
        self
    }
}

impl Future for Spawn {
    type Output = Result<RunId, StepError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn").finish_non_exhaustive()
    }
}

/// Adds the run that the commit of its `spawn_started` creates.
///
/// # Errors
/// The reason that blocks the run: this program has no workflow of that name.
pub(super) fn create(
    core: &RunCore,
    event: &Event,
    gives: Given,
) -> Result<Option<NewRun>, BlockReason> {
    let Event::SpawnStarted { op, name, run, input } = event else { return Ok(None) };
    if !core.app.workflows.contains_key(name) {
        return Err(child::unknown_workflow(&core.app, *op, name, SPAWN));
    }
    let mut created = child::created_by(core, (*op, name), input, gives);
    created.spawned_by = Some(Parent { run: core.run.clone(), op: *op });
    Ok(Some(NewRun::new(run.clone(), Box::new(created))))
}

/// The input of a run whose spawn created the other run.
pub(crate) fn succeeded(op: OpId, name: &OpName, run: &RunId) -> Event {
    Event::SpawnCompleted { op, name: name.clone(), run: run.clone() }
}

/// The ends of the spawns that the log leaves open: none is held, so each has created its run.
pub(super) fn ends_to_tell(journal: &Journal) -> Vec<Event> {
    let end = |op: OpId| {
        let open = journal.open(op).filter(|open| open.held.is_none())?;
        let OpKind::Spawn { run, .. } = &open.kind else { return None };
        Some(succeeded(op, &open.name, run))
    };
    journal.open_ops().into_iter().filter_map(end).collect()
}

/// The input of a run whose spawn created nothing, because `there` has the id.
pub(crate) fn taken(op: OpId, name: &OpName, there: &RunSummary) -> Event {
    let error = failed(format!(
        "there is a run `{}` already, which this call did not start: workflow `{}`, {}, created at {}; \
         give the new run an id of its own",
        there.id, there.workflow, there.status, there.created_at
    ));
    Event::SpawnFailed { op, name: name.clone(), error }
}
