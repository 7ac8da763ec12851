//! Cancellation: what becomes of a run's operations when the run is asked to end, and the part of the
//! code that a cancel leaves alone.
//!
//! A cancel is one input, `cancel_requested`. It names the operations that end with it, in the order
//! of their ids, so that a replay need not know why:
//!
//! | open operation | |
//! |---|---|
//! | a timer, a wait for a signal | ends with the cancel |
//! | a step that is queued or in a back-off | ends with the cancel; its next attempt never begins |
//! | a step whose body runs | gets its token, and ends by its own input once its body has ended |
//! | a step whose last attempt was cut off | is attempted once more, so that what it did is known |
//! | a child | is cancelled, too, and ends by its own input once its clean-up is done |
//! | a child that outlives its parent | ends with the cancel for this run, and goes on by itself |
//! | a spawn | ends by its own input, which says whether the other run was created |
//! | whatever `ctx.cleanup` called | goes on |
//!
//! What the code calls afterwards ends at once, without an event, unless a clean-up calls it.
//!
//! Crash: the log has the cancel or has not. A body that was cut off after it begins again with its
//! token cancelled, because nobody knows what it had done.

use std::collections::BTreeMap;

use tidemill_model::{Event, OpId, OpKind, Requester, RunId};

use super::Effect;
use crate::author::Ctx;
use crate::engine::driver::Driver;
use crate::engine::journal::Journal;
use crate::engine::live::Live;

impl Ctx {
    /// A part of the workflow that a cancel leaves alone, such as what undoes the steps before it:
    /// `work` is given a context of its own, and what it calls there runs to its end even if the run
    /// is cancelled before or meanwhile. It is an ordinary part of the workflow otherwise, and is
    /// called whether or not the run was cancelled.
    ///
    /// A cancel does not end a step whose body runs: the step gets its
    /// [token](crate::Step::cancellation), and this code its result once the body has returned. So what
    /// undoes a step runs after the step.
    ///
    /// ```
    /// use tidemill::{Ctx, Result};
    ///
    /// # async fn charge() -> Result<String> { Ok("charge-1".into()) }
    /// # async fn ship() -> Result<()> { Ok(()) }
    /// # async fn refund(_: String) -> Result<()> { Ok(()) }
    /// async fn order(ctx: Ctx, _: ()) -> Result<()> {
    ///     let charged = ctx.run("charge", charge).await?;
    ///     let shipped = ctx.run("ship", ship).await;
    ///     if shipped.is_err() {
    ///         ctx.cleanup(|ctx| async move {
    ///             ctx.run("refund", async move || refund(charged).await).await
    ///         })
    ///         .await?;
    ///     }
    ///     Ok(shipped?)
    /// }
    /// # let _ = tidemill::App::new("doc").workflow("order", order);
    /// ```
    #[must_use = "a clean-up runs when it is awaited"]
    pub fn cleanup<F, Fut>(&self, work: F) -> Fut
    where
        F: FnOnce(Ctx) -> Fut,
        Fut: Future,
    {
        work(self.shielded())
    }

    /// Whether the run was cancelled: what it calls outside [`Ctx::cleanup`] ends at once, with an
    /// error of kind [`Cancelled`](crate::FailureKind::Cancelled).
    pub fn is_cancelled(&self) -> bool {
        self.cell().is_cancelling()
    }
}

/// What a cancel does to the operations that are open.
pub(crate) struct CancelPlan {
    /// Those that end with it, and how many attempts of each had begun.
    resolves: BTreeMap<OpId, u32>,
    /// The children that are cancelled, too.
    children: Vec<(OpId, RunId)>,
}

impl CancelPlan {
    /// Decides what a cancel does now, and takes away from their bodies the attempts that have not
    /// begun. `is_hopeless` says that a step was cut off too often to be attempted again.
    pub(crate) fn of(
        driver: &Driver,
        live: &Live,
        is_hopeless: impl Fn(OpId) -> bool,
    ) -> CancelPlan {
        let mut resolves = BTreeMap::new();
        let now = driver.engine.clock.wall();
        for op in live.core.journal.open_ops() {
            let Some(open) = live.core.journal.open(op) else { continue };
            // An end that is held is what the run observes next.
            if open.held.is_some() || live.life.is_shielded(op) {
                continue;
            }
            let begun = match (&open.kind, driver.bodies.get(&op)) {
                (OpKind::Timer { .. } | OpKind::Promise { .. }, _) => Some(0),
                // What was delivered is the code's, if it takes it.
                (OpKind::Signal { given }, _) => given.is_none().then_some(0),
                (OpKind::Child { outlives_parent, .. }, _) => outlives_parent.then_some(0),
                (OpKind::Spawn { .. }, _) => None,
                (OpKind::Step { .. }, Some(body)) => body.take(),
                (OpKind::Step { .. }, None) => open.attempts.last().and_then(|newest| {
                    let is_known = newest.after.is_none() && !newest.may_have_begun(now);
                    let begun = newest.number.saturating_sub(1);
                    if is_known { Some(begun) } else { is_hopeless(op).then_some(newest.number) }
                }),
            };
            resolves.extend(begun.map(|begun| (op, begun)));
        }
        CancelPlan { resolves, children: children_to_cancel(live) }
    }

    /// The input, and what asks the other operations to end once it is durable.
    pub(crate) fn into_parts(self, requester: Requester) -> (Event, Effect) {
        let CancelPlan { resolves, children } = self;
        (Event::CancelRequested { requester, resolves }, Effect::AskToEnd { children })
    }
}

/// What asks bodies and children to end of a run that was told of its cancel before it was loaded:
/// the process before may have died before it did.
pub(crate) fn ask_again(live: &Live) -> Effect {
    Effect::AskToEnd { children: children_to_cancel(live) }
}

/// The open children that no clean-up started.
fn children_to_cancel(live: &Live) -> Vec<(OpId, RunId)> {
    let journal = &live.core.journal;
    let child = |op: OpId| match &journal.open(op)?.kind {
        OpKind::Child { child, outlives_parent: false, .. } if !live.life.is_shielded(op) => {
            Some((op, child.clone()))
        }
        OpKind::Child { .. }
        | OpKind::Spawn { .. }
        | OpKind::Step { .. }
        | OpKind::Timer { .. }
        | OpKind::Signal { .. }
        | OpKind::Promise { .. } => None,
    };
    journal.open_ops().into_iter().filter_map(child).collect()
}

/// Asks bodies and children to end.
pub(super) fn ask_to_end(driver: &Driver, journal: &Journal, children: Vec<(OpId, RunId)>) {
    let grace = driver.engine.app.time_to_return();
    for body in driver.bodies.values().filter(|body| !body.is_shielded()) {
        body.ask_to_end(grace, &driver.engine.timers);
    }
    for (_, child) in children.into_iter().filter(|(op, _)| journal.open(*op).is_some()) {
        driver.engine.cancel_child(&driver.run.id, &child);
    }
}
