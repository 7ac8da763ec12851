//! Opening a node: its lock, the first events, the runs that have not ended.
//!
//! Order of opening: the app's lock, the file, whom it belongs to, who wrote last, the writer, all
//! unfinished runs made known, then all of them driven. Runs are made known before any is driven,
//! so that what one does to another (a child's end, a cancelled child) finds it.

use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;
use tidemill_eventlog::Beside;
use tidemill_model::Seq;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app_lock::AppLock;
use super::clock::Clock;
use super::driver::Next;
use super::line::Line;
use super::polls::Polls;
use super::pool::Pool;
use super::refusals::Refusals;
use super::timers::Timers;
use super::{Engine, Environment, Run, shadow};
use crate::author::App;
use crate::author::step::IdempotencyScope;
use crate::error::{Error, ErrorKind};
use crate::store::writer::{Faults, Pace};
use crate::store::{Dropped, OpenFile, Store};

/// What a node is opened with besides its environment; tests use other clocks and faults.
#[derive(Clone, Default)]
pub(crate) struct Instruments {
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
}

/// Opens the file and takes up its unfinished runs.
pub(super) async fn open(
    mut app: App,
    environment: Environment,
    instruments: Instruments,
) -> Result<Arc<Engine>, Error> {
    app.check()?;
    let runtime = Handle::current();
    let Instruments { clock, faults } = instruments;
    let opened = {
        let (environment, clock, name) = (environment.clone(), clock.clone(), app.name.clone());
        tokio::task::spawn_blocking(move || open_beside(&environment, &clock, &name)).await
    };
    let opened =
        opened.map_err(|e| Error::caused(ErrorKind::Internal, "opening the file panicked", e))?;
    let (lock, mut file, polls) = opened?;
    let pace = Pace::default();
    file.paced(&pace, environment.checkpoints)?;
    let store = Store::start(file, &environment.path, &clock, (pace.clone(), faults))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let engine = Arc::new(Engine {
        state: Arc::new(std::mem::take(&mut app.state)),
        app: Arc::new(app),
        scope: IdempotencyScope {
            fleet: environment.fleet.as_deref().map(Arc::from),
            node: environment.node.as_ref().map(|node| Arc::from(node.as_str())),
        },
        floats_exact_from: store.processes().floats_exact_from,
        store,
        timers: Timers::start(clock.clone())?,
        pool: Pool::new(cores),
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
        runs: Mutex::new(FxHashMap::default()),
        losers: Mutex::default(),
        refusals: Refusals::default(),
        shadow: shadow::Shadow::default(),
    });
    recover(&engine).await?;
    Ok(engine)
}

/// What a process has of its file: the lock first, then the file and what lies beside it.
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

/// Makes every unfinished run known, then drives them. A child that its parent dropped before the
/// process ended is not begun again.
async fn recover(engine: &Arc<Engine>) -> Result<(), Error> {
    let (mut after, mut dropped) = (Seq::ZERO, Dropped::default());
    let mut runs = Vec::new();
    loop {
        let (page, known) = engine.store.reads().unfinished(after, dropped).await?;
        dropped = known;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for unfinished in page {
            let run = Run::new(unfinished.run, unfinished.parent);
            engine.register(&run);
            runs.push((run, unfinished.is_dropped));
        }
    }
    if !runs.is_empty() {
        tracing::info!(runs = runs.len(), "taking up unfinished runs");
    }
    for (run, is_dropped) in runs {
        engine.drive(run, if is_dropped { Next::Unwanted } else { Next::Rebuild(None) });
    }
    Ok(())
}
