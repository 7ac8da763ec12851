//! The engine: drives every run of the node and owns what they share.
//!
//! A run has one driver, a task. Whatever the run can observe enters through its inbox, the driver
//! delivers it to one life of the workflow's future and appends what came of it, and only after
//! that commit anything happens outside. A driver that finds the log other than it believed drops
//! its life and replays the log: live execution and recovery are the same code.

pub(crate) mod app_lock;
mod blocked;
pub(crate) mod bodies;
pub(crate) mod cell;
mod check;
pub(crate) mod clock;
mod closing;
pub(crate) mod driver;
mod find;
mod handle;
mod held;
pub(crate) mod inbox;
pub(crate) mod journal;
pub(crate) mod life;
mod line;
pub(crate) mod polls;
mod pool;
mod rebuild;
mod recovery;
pub(crate) mod refusals;
mod replay;
mod shadow;
mod start;
#[cfg(test)]
mod tests;
pub(crate) mod timers;
pub(crate) mod turn;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tidemill_model::{Parent, RunCreated, RunId, Seq};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::author::App;
use crate::author::step::{IdempotencyScope, StateMap};
use crate::gate::Gate;
use crate::store::Store;
use app_lock::AppLock;
use bodies::{RunningBody, StepBody};
use clock::Clock;
use driver::Next;
pub use handle::{CheckReport, Environment, Node, RunResult, StartRequest, Started};
use inbox::Inbox;
use line::Line;
use polls::Polls;
use pool::Pool;
use refusals::Refusals;
use timers::Timers;

/// So many bodies of dropped steps are kept without a look at which have ended.
const LOSERS_MIN: usize = 64;

/// A run that a driver of this process has.
pub(crate) struct Run {
    pub(crate) id: RunId,
    /// Who started it as a child: nobody else hears of its end or cancels it.
    pub(crate) parent: Option<Parent>,
    pub(crate) inbox: Arc<Inbox>,
    /// How it ended or why it is blocked; none while it goes on.
    pub(crate) outcome: watch::Sender<Option<RunResult>>,
}

impl Run {
    pub(crate) fn new(id: RunId, parent: Option<Parent>) -> Arc<Run> {
        Arc::new(Run { id, parent, inbox: Arc::default(), outcome: watch::Sender::new(None) })
    }
}

/// See the module.
pub(crate) struct Engine {
    pub(crate) app: Arc<App>,
    pub(crate) state: Arc<StateMap>,
    pub(crate) scope: IdempotencyScope,
    pub(crate) environment: Environment,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) timers: Timers,
    pub(crate) pool: Pool,
    pub(crate) line: Arc<Line>,
    /// Which runs' code is being polled, for the next process.
    pub(crate) polls: Arc<Polls>,
    pub(crate) runtime: Handle,
    /// From here on the log was written by versions that read floats exactly.
    pub(crate) floats_exact_from: Seq,
    /// Somebody waits for a barrier: the writer leaves gaps.
    pub(crate) barrier_waits: Arc<AtomicBool>,
    pub(crate) drivers: TaskTracker,
    /// No turn is taken any more.
    pub(crate) closing: CancellationToken,
    /// Nothing waits for a body any more.
    pub(crate) grace_over: CancellationToken,
    /// None once the node has closed; then the bodies that still run have it.
    lock: Mutex<Option<Arc<AppLock>>>,
    runs: Mutex<FxHashMap<RunId, Arc<Run>>>,
    /// Bodies of steps that were dropped and that may still run.
    losers: Mutex<Vec<RunningBody>>,
    pub(crate) refusals: Refusals,
    shadow: shadow::Shadow,
}

impl Engine {
    pub(crate) fn gate(&self) -> &Gate {
        &self.environment.gate
    }

    /// Whether an attempt waits before its body begins, when its commit is done: for a thread of
    /// the pool, or for the lease.
    pub(crate) fn queues(&self, body: &StepBody) -> bool {
        body.blocking || !self.gate().is_open()
    }

    pub(crate) fn run(&self, id: &RunId) -> Option<Arc<Run>> {
        self.known_runs().get(id).map(Arc::clone)
    }

    /// Makes the run known, so that what happens to it finds its inbox.
    pub(crate) fn register(&self, run: &Arc<Run>) {
        self.known_runs().insert(run.id.clone(), Arc::clone(run));
    }

    pub(crate) fn forget(&self, id: &RunId) {
        let forgotten = self.known_runs().remove(id);
        drop(forgotten);
    }

    /// Takes up a run whose creation is durable.
    pub(crate) fn adopt(self: &Arc<Self>, id: RunId, seq: Seq, created: Box<RunCreated>) {
        let run = Run::new(id, created.parent.clone());
        self.register(&run);
        self.drive(run, Next::first(seq, self.clock.wall(), created));
    }

    /// Ends a child that was dropped before it could begin.
    pub(crate) fn end_unwanted(self: &Arc<Self>, id: RunId) {
        let run = Run::new(id, None);
        self.register(&run);
        self.drive(run, Next::Unwanted);
    }

    pub(crate) fn runs(&self) -> Vec<Arc<Run>> {
        self.known_runs().values().map(Arc::clone).collect()
    }

    /// Keeps the body of a dropped step, so that it can be ended by name.
    pub(crate) fn keep_loser(&self, body: RunningBody) {
        body.drop_after(self.app.grace, &self.timers);
        let mut losers = self.losers.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked through whenever there is no room: as often as there are twice as many.
        if losers.len() == losers.capacity() {
            losers.retain(|loser| !loser.is_finished());
            let room = losers.len().max(LOSERS_MIN);
            losers.reserve(room);
        }
        losers.push(body);
    }

    /// Waits for the bodies of dropped steps; drops them when the grace is over.
    pub(crate) async fn losers_ended(&self) {
        let mut losers =
            std::mem::take(&mut *self.losers.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            for loser in &mut losers {
                loser.ended().await;
            }
        };
        tokio::select! {
            biased;
            () = all => return,
            () = self.grace_over.cancelled() => {}
        }
        losers.iter().for_each(RunningBody::abort);
        for loser in losers {
            loser.aborted().await;
        }
    }

    /// The lock on the file; none once the node has closed.
    pub(crate) fn app_lock(&self) -> Option<Arc<AppLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn take_lock(&self) -> Option<Arc<AppLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn drive(self: &Arc<Self>, run: Arc<Run>, first: Next) {
        self.drivers.spawn_on(driver::drive(Arc::clone(self), run, first), &self.runtime);
    }

    fn known_runs(&self) -> MutexGuard<'_, FxHashMap<RunId, Arc<Run>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
