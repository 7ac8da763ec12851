//! The operations of a workflow, one file each: the author's call and its future, what its start
//! adds to a commit, what that commit releases, and what a drop or a recovery does.
//!
//! | file | starts with | ends with | served by |
//! |---|---|---|---|
//! | `step.rs` | `step_started` | `step_completed`, `step_failed` | a body |
//! | `timer.rs` | `timer_started` | `timer_fired` | a timer of the process |
//! | `child.rs` | `child_started` | `child_completed`, `child_failed` | a run |
//! | `spawn.rs` | `spawn_started` | `spawn_completed`, `spawn_failed` | the writer, at once |
//! | `signal.rs` | `signal_started` | `signal_taken` | whoever sends one |
//! | `promise.rs` | `promise_started` | `promise_resolved`, `promise_rejected` | whoever answers |
//! | `now.rs` | `now` | the same event | |
//! | `status.rs` | `status_set` | the same event | |
//!
//! `cancel.rs` is what happens to all of them when their run is cancelled.
//!
//! The engine calls the functions here, and each of them calls the file of the operation.

/// Implements `Future` and `Debug` for a wrapper of an operation.
macro_rules! operation_future {
    ($name:ident) => {
        impl<T: DeserializeOwned> Future for $name<T> {
            type Output = Result<T, StepError>;

            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.0.poll(cx)
            }
        }

        impl<T: DeserializeOwned> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) mod cancel;
pub(crate) mod child;
mod now;
mod operation;
pub(crate) mod promise;
mod signal;
pub(crate) mod spawn;
mod status;
mod step;
pub(crate) mod timer;

use rustc_hash::{FxHashMap, FxHashSet};
use tidemill_model::{BlockReason, Event, OpId, OpKind, RunId, Timestamp};

use crate::engine::bodies::StepBody;
use crate::engine::cell::{Asked, Given};
use crate::engine::driver::Driver;
use crate::engine::journal::Journal;
use crate::engine::run_core::RunCore;
use crate::engine::turn::Pending;
pub use child::Child;
pub(crate) use operation::{Operation, bad_name};
pub use promise::{ApprovalWait, Promise};
pub use signal::{SignalWait, SignalWithin};
pub use spawn::Spawn;
pub use step::Call;
pub use timer::Sleep;

/// What happens outside the log once a turn is durable.
pub(crate) enum Effect {
    /// Begin a step's body.
    Body { op: OpId, body: StepBody },
    /// Set a timer.
    Timer { op: OpId, fire_at: Timestamp, counted: bool },
    /// Let a promise be answered until its deadline.
    Await { op: OpId },
    /// Drop what served an operation that has ended.
    Ended { op: OpId },
    /// Cancel what serves an operation that was dropped, or that ended with its run's cancel.
    Dropped { op: OpId, child: Option<RunId> },
    /// Ask what serves the other operations to end: the run is cancelled.
    AskToEnd { children: Vec<(OpId, RunId)> },
}

/// Adds to the turn what an act needs in its commit and after it. May complete the event.
///
/// # Errors
/// The reason that blocks the run, if it cannot do this.
pub(crate) fn ask(
    core: &RunCore,
    pending: &mut Pending,
    asked: Asked,
    gate_is_open: bool,
) -> Result<Event, BlockReason> {
    let Asked { mut event, body, counted, gives, .. } = asked;
    match &event {
        Event::StepStarted { .. } => {
            let body = body.expect("a step is asked for with its body");
            step::ask(pending, &mut event, body, gate_is_open);
        }
        Event::TimerStarted { op, fire_at, .. } => {
            pending.effects.push(Effect::Timer { op: *op, fire_at: *fire_at, counted });
        }
        Event::PromiseStarted { op, .. } => pending.effects.push(Effect::Await { op: *op }),
        Event::ChildStarted { .. } => {
            pending.children.extend(child::create(core, &event, given(gives))?);
        }
        Event::SpawnStarted { .. } => {
            pending.children.extend(spawn::create(core, &event, given(gives))?);
        }
        Event::OpDropped { op } => drop_op(pending, &core.journal, *op),
        _ => {}
    }
    Ok(event)
}

fn given(gives: Option<Box<Given>>) -> Given {
    gives.map(|given| *given).unwrap_or_default()
}

/// Adds to the turn that an operation ends with this input.
pub(crate) fn end(pending: &mut Pending, end: &Event) {
    if let Event::CancelRequested { resolves, .. } = end {
        let dropped = |op: &OpId| Effect::Dropped { op: *op, child: None };
        pending.effects.extend(resolves.keys().map(dropped));
    }
    let Some(op) = end.op() else { return };
    pending.effects.push(Effect::Ended { op });
}

/// Adds to the turn that an open operation is dropped.
pub(crate) fn drop_op(pending: &mut Pending, journal: &Journal, op: OpId) {
    let child = match journal.open(op).map(|open| &open.kind) {
        Some(OpKind::Child { child, outlives_parent: false, .. }) => Some(child.clone()),
        // A child that outlives its parent goes on by itself.
        Some(
            OpKind::Child { outlives_parent: true, .. }
            | OpKind::Spawn { .. }
            | OpKind::Step { .. }
            | OpKind::Timer { .. }
            | OpKind::Signal { .. }
            | OpKind::Promise { .. },
        )
        | None => None,
    };
    pending.effects.push(Effect::Dropped { op, child });
}

impl Effect {
    /// Performs the effect.
    pub(crate) fn release(self, driver: &mut Driver, journal: &Journal) {
        match self {
            Effect::Body { op, body } => step::begin(driver, journal, op, body),
            Effect::Timer { op, fire_at, counted } => {
                timer::set(driver, journal, op, (fire_at, counted));
            }
            Effect::Await { op } => promise::serve(driver, journal, op),
            Effect::Ended { op } => {
                driver.bodies.remove(&op);
                // That of a promise which was answered has not fired.
                if let Some(timer) = driver.timers.remove(&op) {
                    driver.engine.timers.cancel(timer);
                }
            }
            Effect::Dropped { op, child } => {
                if let Some(body) = driver.bodies.remove(&op) {
                    driver.engine.keep_loser(body);
                }
                if let Some(timer) = driver.timers.remove(&op) {
                    driver.engine.timers.cancel(timer);
                }
                if let Some(child) = child {
                    driver.engine.cancel_child(&driver.run.id, &child);
                }
            }
            Effect::AskToEnd { children } => cancel::ask_to_end(driver, journal, children),
        }
    }
}

/// The effects that serve the log's open operations again, for those that nothing in this process
/// serves, in the order of their ids. An operation whose end is held needs none, and one that is
/// `hopeless` gets none; the engine looks for the ends of children after the commit.
pub(crate) fn resume(
    driver: &Driver,
    core: &mut RunCore,
    pending: &mut Pending,
    (bodies, hopeless): (&mut FxHashMap<OpId, StepBody>, &FxHashSet<OpId>),
    now: Timestamp,
) -> Vec<Effect> {
    let mut effects = Vec::new();
    for op in core.journal.open_ops() {
        if hopeless.contains(&op) {
            continue;
        }
        let Some(open) = core.journal.open(op).filter(|open| open.held.is_none()) else {
            continue;
        };
        match &open.kind {
            OpKind::Timer { fire_at } if !driver.timers.contains_key(&op) => {
                effects.push(Effect::Timer { op, fire_at: *fire_at, counted: false });
            }
            OpKind::Step { .. } if !driver.bodies.contains_key(&op) => {
                let Some(body) = bodies.remove(&op) else { continue };
                effects.extend(step::resume(driver, core, pending, (op, body), now));
            }
            OpKind::Promise { .. } => effects.push(Effect::Await { op }),
            OpKind::Timer { .. }
            | OpKind::Step { .. }
            | OpKind::Child { .. }
            | OpKind::Spawn { .. }
            | OpKind::Signal { .. } => {}
        }
    }
    effects
}

/// The operations that end the process again and again.
pub(crate) fn hopeless(driver: &Driver, journal: &Journal, now: Timestamp) -> FxHashSet<OpId> {
    let ops = journal.open_ops().into_iter();
    let is_poison = |op: &OpId| step::poison(driver, journal, (*op, journal.open(*op)?), now);
    ops.filter(|op| is_poison(op).is_some()).collect()
}

/// The reason that blocks the run if one of its operations ends the process again and again; `None`
/// if none does.
pub(crate) fn poison(driver: &Driver, journal: &Journal, now: Timestamp) -> Option<BlockReason> {
    journal
        .open_ops()
        .into_iter()
        .find_map(|op| step::poison(driver, journal, (op, journal.open(op)?), now))
}
