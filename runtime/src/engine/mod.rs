//! The engine: drives every run of the node and owns what they share.
//!
//! A run has one driver, a task. Everything that the run can observe enters through its inbox. The
//! driver delivers it to one life of the workflow's future, appends the resulting acts to the log,
//! and releases effects only after that commit. A driver that finds more in the log than it knew
//! drops its life and replays the log: live execution and recovery are the same code.

pub(crate) mod alarm;
pub(crate) mod app_lock;
pub(crate) mod asks;
mod blocked;
pub(crate) mod bodies;
pub(crate) mod call_site;
pub(crate) mod cell;
mod check;
pub(crate) mod clock;
mod closing;
mod deadlines;
pub(crate) mod driver;
mod feeder;
mod fork;
mod handle;
mod held;
pub(crate) mod identity;
pub(crate) mod inbox;
pub(crate) mod journal;
pub(crate) mod life;
mod line;
pub(crate) mod live;
pub(crate) mod polls;
mod pool;
pub(crate) mod promises;
mod rebuild;
pub(crate) mod recovery;
pub(crate) mod refusals;
pub(crate) mod registry;
mod replay;
mod retention;
pub(crate) mod run_core;
pub(crate) mod scope;
mod shadow;
mod signals;
pub(crate) mod start;
mod start_request;
#[cfg(test)]
mod tests;
pub(crate) mod timers;
pub(crate) mod turn;
pub(crate) mod virtual_time;
mod wait;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_model::{RunId, Seq};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::author::App;
use crate::author::step::{IdempotencyScope, StateMap};
use crate::gate::Gate;
use crate::store::Store;
use crate::traces::Traces;
use alarm::Alarm;
use app_lock::AppLock;
use bodies::{RunningBody, StepBody};
pub(crate) use check::Checker;
use clock::Clock;
use deadlines::Deadlines;
use driver::Next;
use feeder::Feeder;
pub use fork::ForkedRun;
pub use handle::{CheckReport, Environment, Node, RunResult, Started};
use line::Line;
use polls::Polls;
use pool::Pool;
pub use promises::{AnswerRequest, Answered, PromiseToken};
use recovery::Retries;
use refusals::Refusals;
use registry::Registry;
pub(crate) use registry::Run;
pub use retention::StillCompared;
use scope::Scope;
pub use signals::{SignalRequest, Signalled};
pub use start_request::StartRequest;
use timers::Timers;

/// How many runs are being loaded at a time, when many have something to do at once.
pub(crate) const LOADS_MAX: usize = 256;

/// With more runs in memory than this, a waiting run leaves it soon.
const LOADED_MANY: usize = 10_000;
const PATIENCE_OF_MANY: Duration = Duration::from_millis(100);

/// How many bodies of dropped steps are kept before the engine checks which have ended.
const LOSERS_MIN: usize = 64;

/// What all runs of a node share.
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
    /// The note of polls, which the next process reads.
    pub(crate) polls: Arc<Polls>,
    pub(crate) runtime: Handle,
    /// The position from which only versions that read floats exactly have written the log.
    pub(crate) floats_exact_from: Seq,
    /// Whether a caller waits for a barrier, so that the writer leaves gaps.
    pub(crate) barrier_waits: Arc<AtomicBool>,
    pub(crate) drivers: TaskTracker,
    /// Cancelled when the node closes: no further turn begins.
    pub(crate) closing: CancellationToken,
    /// Cancelled when the grace is over: nothing waits for a body any more.
    pub(crate) grace_over: CancellationToken,
    /// `None` once the node has closed; bodies that still run then hold the lock.
    lock: Mutex<Option<Arc<AppLock>>>,
    pub(crate) registry: Arc<Registry>,
    /// Which runs this process continues.
    pub(crate) scope_of_runs: Scope,
    pub(crate) alarm: Alarm,
    pub(crate) deadlines: Deadlines,
    pub(crate) feeder: Feeder,
    /// Which blocked runs this process still has to try again.
    pub(crate) retries: Retries,
    /// The permits that limit how many runs are being loaded at a time.
    loads: Arc<Semaphore>,
    /// The bodies of dropped steps, which may still run.
    losers: Mutex<Vec<RunningBody>>,
    pub(crate) refusals: Refusals,
    shadow: shadow::Shadow,
    pruning: retention::Pruning,
    pub(crate) traces: Traces,
}

impl Engine {
    pub(crate) fn gate(&self) -> &Gate {
        &self.environment.gate
    }

    /// Whether an attempt will wait after its commit and before its body: for a thread of the pool,
    /// or for the lease.
    pub(crate) fn queues(&self, body: &StepBody) -> bool {
        body.blocking || !self.gate().is_open()
    }

    /// Loads a run that is not loaded, unless this process leaves it alone.
    pub(crate) fn load(self: &Arc<Self>, id: &RunId, first: Next) {
        if !self.scope_of_runs.has(id) {
            return;
        }
        self.registry.load(id, |run| self.drive(run, first, None));
    }

    /// Like [`Engine::load`], but waits until few enough others are being loaded. `false` if the
    /// node closes.
    pub(crate) async fn load_paced(self: &Arc<Self>, id: &RunId, first: Next) -> bool {
        let place = tokio::select! {
            biased;
            () = self.closing.cancelled() => return false,
            place = Arc::clone(&self.loads).acquire_owned() => place.ok(),
        };
        self.registry.load(id, |run| self.drive(run, first, place));
        true
    }

    /// How long a waiting run stays in memory: less if very many are loaded.
    pub(crate) fn patience(&self) -> Duration {
        match self.registry.count() > LOADED_MANY {
            true => self.app.unload_after.min(PATIENCE_OF_MANY),
            false => self.app.unload_after,
        }
    }

    /// Keeps the body of a dropped step, so that shutdown can end it.
    pub(crate) fn keep_loser(&self, body: RunningBody) {
        body.drop_after(self.app.time_to_return(), &self.timers);
        let mut losers = self.losers.lock().unwrap_or_else(PoisonError::into_inner);
        // Removes ended bodies whenever the list is full, so that the cost is constant for each
        // body.
        if losers.len() == losers.capacity() {
            losers.retain(|loser| !loser.is_finished());
            let room = losers.len().max(LOSERS_MIN);
            losers.reserve(room);
        }
        losers.push(body);
    }

    /// Whether the body of a dropped step of this run still runs.
    fn has_loser(&self, run: &RunId) -> bool {
        let losers = self.losers.lock().unwrap_or_else(PoisonError::into_inner);
        losers.iter().any(|loser| loser.run() == run && !loser.is_finished())
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

    /// The lock on the file; `None` once the node has closed.
    pub(crate) fn app_lock(&self) -> Option<Arc<AppLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn take_lock(&self) -> Option<Arc<AppLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn drive(
        self: &Arc<Self>,
        run: Arc<Run>,
        first: Next,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let driver = driver::drive(Arc::clone(self), run, first, place);
        self.clock.spawn_tracked(&self.drivers, &self.runtime, driver);
    }
}
