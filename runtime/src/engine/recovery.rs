//! Opens a node: takes its lock, opens its file, loads the runs that have something to do.
//!
//! Opening takes the app's lock, opens the file, checks its owner, notes the processes before this
//! one, and starts the writer. Then a task loads the runs that have something to do; a request for
//! any other run loads that one, too (`registry.rs`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidemill_eventlog::due::DueRun;
use tidemill_eventlog::{Beside, OwnCopy};
use tidemill_model::{RunId, RunStatus, Seq};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alarm::{self, Alarm};
use super::app_lock::AppLock;
use super::clock::Clock;
use super::deadlines::{self, Deadlines};
use super::driver::{Next, READ_PAUSE};
use super::feeder::{self, Feeder};
use super::line::Line;
use super::polls::Polls;
use super::pool::Pool;
use super::refusals::Refusals;
use super::retention::{self, Pruning};
use super::scope::Scope;
use super::timers::Timers;
use super::{Engine, Environment, LOADS_MAX, shadow};
use crate::author::App;
use crate::author::step::IdempotencyScope;
use crate::error::{Error, ErrorKind};
use crate::store::writer::{Faults, Pace, WatchCommits};
use crate::store::{Due, OpenFile, Store};
use crate::traces::Traces;

/// The clocks and faults of a node, which tests replace.
#[derive(Clone, Default)]
pub(crate) struct Instruments {
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    /// What is told of every commit.
    pub(crate) commits: Option<Arc<dyn WatchCommits>>,
}

/// Which runs a node continues when it opens its file.
#[derive(Debug, Clone, Default)]
pub(crate) enum Continues {
    /// Every run.
    #[default]
    All,
    /// The run of this id and its descendants, if the file has them, and what is started.
    Only(Option<RunId>),
}

/// Opens the file and continues its runs.
pub(super) async fn open(
    mut app: App,
    environment: Environment,
    instruments: Instruments,
    continues: Continues,
) -> Result<Arc<Engine>, Error> {
    app.check()?;
    let runtime = Handle::current();
    let Instruments { clock, faults, commits } = instruments;
    let opened = {
        let (environment, clock, name) = (environment.clone(), clock.clone(), app.name.clone());
        tokio::task::spawn_blocking(move || open_beside(&environment, &clock, &name)).await
    };
    let opened =
        opened.map_err(|e| Error::caused(ErrorKind::Internal, "opening the file panicked", e))?;
    let (lock, mut file, polls) = opened?;
    let pace = Pace::default();
    file.paced(&pace, environment.checkpoints)?;
    let seams = (pace.clone(), faults, commits);
    let store = Store::start(file, &environment.path, &clock, seams)?;
    let scope_of_runs = match continues {
        Continues::All => Scope::All,
        Continues::Only(None) => Scope::family(Vec::new()),
        Continues::Only(Some(run)) => Scope::family(store.reads().family(&run).await?),
    };
    let retries = Retries::of(store.processes().head_before);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let traces = Traces::start(&app, &environment, store.reads().beside(), &runtime);
    let pruning = Pruning::new(&clock);
    let loads_max = clock.loads_max(LOADS_MAX);
    let engine = Arc::new(Engine {
        state: Arc::new(std::mem::take(&mut app.state)),
        app: Arc::new(app),
        scope: scope(&environment, store.own_copy()),
        floats_exact_from: store.processes().floats_exact_from,
        store,
        timers: Timers::start(clock.clone())?,
        pool: Pool::new(cores, &clock),
        line: Line::new(cores),
        polls,
        environment,
        clock,
        runtime,
        barrier_waits: pace.barrier_waits,
        drivers: TaskTracker::new(),
        closing: CancellationToken::new(),
        grace_over: CancellationToken::new(),
        lock: Mutex::new(Some(lock)),
        registry: Arc::default(),
        scope_of_runs,
        alarm: Alarm::default(),
        deadlines: Deadlines::default(),
        feeder: Feeder::default(),
        retries,
        loads: Arc::new(Semaphore::new(loads_max)),
        losers: Mutex::default(),
        refusals: Refusals::default(),
        shadow: shadow::Shadow::default(),
        pruning,
        traces,
    });
    engine.spawn(take_up(Arc::clone(&engine)));
    engine.spawn(alarm::watch(Arc::clone(&engine)));
    engine.spawn(deadlines::watch(Arc::clone(&engine)));
    engine.spawn(feeder::feed(Arc::clone(&engine)));
    if engine.scope_of_runs.is_all() && !engine.app.retention.keeps_all() {
        engine.spawn(retention::watch(Arc::clone(&engine)));
    }
    Ok(engine)
}

/// What the steps' idempotency keys derive from. A copy that is a node of its own has keys that no
/// other node has, also not where it was copied from, and keeps them wherever it is run.
fn scope(environment: &Environment, copy: Option<&OwnCopy>) -> IdempotencyScope {
    match copy {
        Some(copy) => {
            let node = format!("copy {}", copy.id);
            IdempotencyScope { fleet: None, node: Some(Arc::from(node)) }
        }
        None => IdempotencyScope {
            fleet: environment.fleet.as_deref().map(Arc::from),
            node: environment.node.as_ref().map(|node| Arc::from(node.as_str())),
        },
    }
}

/// Takes the lock, then opens the file and the note of polls beside it.
fn open_beside(
    environment: &Environment,
    clock: &Clock,
    app: &str,
) -> Result<(Arc<AppLock>, OpenFile, Arc<Polls>), Error> {
    let beside = Beside::new(&environment.path);
    let lock = AppLock::take(&beside.app_lock())?;
    let file = OpenFile::open(environment, clock, app)?;
    Ok((lock, file, Polls::open(&beside.polls())))
}

/// Which blocked runs this process still has to try again: those that were created after `done` and
/// before the process began.
#[derive(Debug)]
pub(crate) struct Retries {
    upto: Seq,
    done: AtomicU64,
}

impl Retries {
    fn of(upto: Seq) -> Retries {
        Retries { upto, done: AtomicU64::new(0) }
    }

    /// The newest event before this process.
    pub(super) fn upto(&self) -> Seq {
        self.upto
    }

    /// Whether this process still has to try the blocked run that was created at `seq`.
    pub(super) fn has_yet_to(&self, seq: Seq) -> bool {
        seq <= self.upto && seq.get() > self.done.load(Ordering::Acquire)
    }

    fn tried(&self, seq: Seq) {
        self.done.store(seq.get(), Ordering::Release);
    }
}

/// Loads the runs that have something to do, a limited number at a time; all others stay in the
/// file. Children that their parents no longer wait for come first, so that they do not begin
/// again, and blocked runs come last.
async fn take_up(engine: Arc<Engine>) {
    let kinds = [
        Due::Unwanted,
        Due::Status(RunStatus::Cancelling),
        Due::Status(RunStatus::Running),
        Due::Status(RunStatus::Pending),
        Due::UnobservedChild,
        Due::Signals,
        Due::Answers,
        Due::Status(RunStatus::Blocked),
    ];
    let mut runs: u64 = 0;
    for due in kinds {
        let mut after = Seq::ZERO;
        while let Some(page) = engine.page(due, after).await
            && let Some(last) = page.last()
        {
            after = last.at;
            for DueRun { at, run, .. } in page {
                if at > engine.retries.upto {
                    // It was created in this process, which has loaded it.
                    break;
                }
                if !engine.scope_of_runs.has(&run) {
                    continue;
                }
                let first = match due {
                    Due::UnobservedChild | Due::Signals | Due::Answers => Next::Woken,
                    Due::Unwanted | Due::Status(_) => Next::Rebuild(None),
                };
                if !engine.load_paced(&run, first).await {
                    return;
                }
                runs += 1;
                if let Due::Status(RunStatus::Blocked) = due {
                    engine.retries.tried(at);
                }
            }
            if after > engine.retries.upto {
                break;
            }
        }
    }
    engine.retries.tried(engine.retries.upto);
    if runs > 0 {
        tracing::info!(runs, "took up the runs that had something to do");
    }
}

impl Engine {
    /// Spawns a task that shutdown waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.clock.spawn_tracked(&self.drivers, &self.runtime, task);
    }

    /// The next runs that have something to do; `None` if the node closes.
    async fn page(&self, due: Due, after: Seq) -> Option<Vec<DueRun>> {
        while !self.closing.is_cancelled() {
            match self.store.reads().due(due, after).await {
                Ok(page) => return Some(page),
                Err(error) => {
                    tracing::warn!(%error, "the runs that have something to do cannot be read now");
                    self.timers.sleep(READ_PAUSE).await;
                }
            }
        }
        None
    }
}
