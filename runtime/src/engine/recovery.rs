//! Opening a node: its lock, the first events, the runs that have not ended.
//!
//! Order of opening: the app's lock, the file, whom it belongs to, who wrote last, the writer, all
//! unfinished runs made known, then all of them driven. Runs are made known before any is driven,
//! so that what one does to another (a child's end, a cancelled child) finds it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use rustc_hash::{FxHashMap, FxHashSet};
use tidemill_eventlog::{
    Appender, Beside, Checkpoints, Meta, create, open_reader, open_writer, projection,
    query::{self, RunSummary},
};
use tidemill_model::{Event, NodeStarted, OpId, RunId, Seq};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app_lock::AppLock;
use super::clock::Clock;
use super::driver::TakeUp;
use super::line::Line;
use super::polls::Polls;
use super::pool::Pool;
use super::process::Processes;
use super::readers::Readers;
use super::refusals::Refusals;
use super::timers::Timers;
use super::{Engine, Environment, Run, shadow};
use crate::author::App;
use crate::author::step::IdempotencyScope;
use crate::error::{Error, ErrorKind};
use crate::writer::{Faults, Pace, Setup, Writer};

/// How many runs are listed at once: some hundred bytes each.
const PAGE: u32 = 1_000;

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
        tokio::task::spawn_blocking(move || open_file(&environment, &clock, &name)).await
    };
    let opened = opened
        .map_err(|e| Error::with_source(ErrorKind::Internal, "opening the file panicked", e))?;
    let Opened { lock, mut connection, processes, polls } = opened?;
    let pace = Pace::default();
    pace.watch(&mut connection, environment.checkpoints)?;
    let setup = Setup { connection, clock: clock.clone(), pace: pace.clone(), faults };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let engine = Arc::new(Engine {
        state: Arc::new(std::mem::take(&mut app.state)),
        app,
        scope: IdempotencyScope {
            fleet: environment.fleet.as_deref().map(Arc::from),
            node: environment.node.as_ref().map(|node| Arc::from(node.as_str())),
        },
        writer: Writer::start(setup)?,
        timers: Timers::start(clock.clone())?,
        pool: Pool::new(cores),
        line: Line::new(cores),
        polls,
        readers: Readers::new(&environment.path),
        environment,
        clock,
        runtime,
        floats_exact_from: processes.floats_exact_from,
        processes,
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

struct Opened {
    lock: Arc<AppLock>,
    connection: Connection,
    processes: Processes,
    polls: Arc<Polls>,
}

fn open_file(environment: &Environment, clock: &Clock, app: &str) -> Result<Opened, Error> {
    let path = &environment.path;
    let beside = Beside::new(path);
    let lock = AppLock::take(&beside.app_lock())?;
    if !path.exists() && environment.checkpoints == Checkpoints::Own {
        create(path)?;
    }
    check_owner(environment, &Meta::read(&open_reader(path)?)?)?;
    let connection = open_writer(path, environment.checkpoints)?;
    Meta::set_app(&connection, app)?;
    let processes = note_start(&connection, environment, clock)?;
    let polls = Polls::open(&beside.polls());
    Ok(Opened { lock, connection, processes, polls })
}

/// A file that was ever shipped opens only under a sidecar whose node and epoch it has; under a
/// sidecar no other file opens, because what is written to it would never reach the bucket.
fn check_owner(environment: &Environment, meta: &Meta) -> Result<(), Error> {
    if !meta.shipped {
        let Some(node) = &environment.node else { return Ok(()) };
        let message = format!(
            "{} is not the file that the sidecar of node `{node}` ships: open the one that the \
             sidecar was started with (its --db, which it gives its command as TIDEMILL_DB)",
            environment.path.display()
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let owner = match (&meta.node, meta.epoch) {
        (Some(node), Some(epoch)) => format!("node `{node}`, epoch {epoch}"),
        (node, _) => format!("node {node:?}"),
    };
    let Some(node) = &environment.node else {
        let message = format!(
            "{} belongs to {owner} and is shipped to a bucket: start it under \
             `tidemill sidecar`, or take a copy with `tidemill restore`",
            environment.path.display()
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    };
    if meta.node.as_ref() != Some(node) || meta.epoch != environment.epoch {
        let epoch = environment.epoch.map_or_else(|| "none".to_owned(), |e| e.to_string());
        let message = format!(
            "{} belongs to {owner}, the sidecar has node `{node}`, epoch {epoch}",
            environment.path.display()
        );
        return Err(Error::new(ErrorKind::Fenced, message));
    }
    Ok(())
}

/// Notes that this process writes now, and begins a new epoch's (or file's) log, in one commit.
fn note_start(
    connection: &Connection,
    environment: &Environment,
    clock: &Clock,
) -> Result<Processes, Error> {
    let failed = |e| Error::from(tidemill_eventlog::Error::sqlite("note the start", e));
    // Immediate: a transaction that reads first cannot write any more once somebody else wrote,
    // and Litestream writes its own tables at any moment.
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
    let transaction = transaction.map_err(failed)?;
    let mut appender = Appender::load(&transaction)?;
    let head = appender.head().seq;
    let processes = Processes::begin(&transaction, environment, head)?;
    if processes.first_of_epoch || head == Seq::ZERO {
        let event = Event::NodeStarted(NodeStarted {
            node: environment.node.clone(),
            epoch: environment.epoch,
            instance: environment.instance.clone(),
            versions: BTreeMap::from([
                ("tidemill".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("sqlite".to_owned(), rusqlite::version().to_owned()),
            ]),
        });
        let at = appender.append(&transaction, clock.wall(), None, &event)?;
        projection::project(&transaction, at, None, &event)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(processes)
}

/// Makes every unfinished run known, then drives them. A child that its parent dropped before the
/// process ended is not begun again.
async fn recover(engine: &Arc<Engine>) -> Result<(), Error> {
    let (mut after, mut dropped) = (Seq::ZERO, Dropped::default());
    loop {
        let (page, known) = engine.readers.read(move |c| dropped.page(c, after)).await?;
        dropped = known;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for summary in page {
            if !summary.status.is_final() {
                engine.register(&Run::new(summary.run, summary.parent));
            }
        }
    }
    let runs = engine.runs();
    if !runs.is_empty() {
        tracing::info!(runs = runs.len(), "taking up unfinished runs");
    }
    for run in runs {
        let take_up = match dropped.has(&run) {
            true => TakeUp::Unwanted,
            false => TakeUp::Log,
        };
        engine.drive(run, take_up);
    }
    Ok(())
}

/// What the parents of unfinished runs dropped; each parent's log is read once.
#[derive(Default)]
struct Dropped(FxHashMap<RunId, FxHashSet<OpId>>);

impl Dropped {
    /// The next unfinished runs, with what their parents dropped.
    fn page(
        mut self,
        connection: &Connection,
        after: Seq,
    ) -> Result<(Vec<RunSummary>, Dropped), Error> {
        let page = query::unfinished(connection, after, PAGE)?;
        for parent in page.iter().filter_map(|summary| summary.parent.as_ref()) {
            if !self.0.contains_key(&parent.run) {
                let ops = query::dropped_ops(connection, &parent.run)?;
                self.0.insert(parent.run.clone(), ops.into_iter().collect());
            }
        }
        Ok((page, self))
    }

    fn has(&self, run: &Run) -> bool {
        let Some(parent) = &run.parent else { return false };
        self.0.get(&parent.run).is_some_and(|ops| ops.contains(&parent.op))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    static WAITS: AtomicBool = AtomicBool::new(false);

    fn waits(_: i32) -> bool {
        WAITS.store(true, Ordering::SeqCst);
        std::thread::yield_now();
        true
    }

    /// Litestream writes while the start is being noted: it waits and succeeds.
    #[test]
    fn a_start_is_noted_while_something_else_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        create(&path).unwrap();
        let other = open_writer(&path, Checkpoints::Own).unwrap();
        let mut ours = open_writer(&path, Checkpoints::Own).unwrap();
        ours.busy_handler(Some(waits)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE theirs (x)").unwrap();
        let environment = Environment::alone(&path);
        std::thread::scope(|scope| {
            let noted = scope.spawn(|| {
                let ours = ours;
                note_start(&ours, &environment, &Clock::default())
            });
            while !WAITS.load(Ordering::SeqCst) {
                assert!(!noted.is_finished(), "it did not wait for the lock");
                std::thread::yield_now();
            }
            other.execute_batch("COMMIT").unwrap();
            noted.join().unwrap().unwrap();
        });
        let head = tidemill_eventlog::verify(&open_reader(&path).unwrap()).unwrap();
        assert_eq!(head.seq.get(), 1, "the first epoch of the file begins");
    }
}
