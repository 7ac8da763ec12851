//! The file behind one handle: what the engine and the HTTP API do with it are these verbs, and
//! nothing outside of this folder sees a connection.
//!
//! | verb | does |
//! |---|---|
//! | `commit`, `create`, `record` | append to the log; answered when that is durable |
//! | `log` | the whole log of a run |
//! | `find`, `children` | where a run stands; for which children it waits |
//! | `due`, `timers` | which runs have something to do, now and next |
//! | `runs`, `state`, `events`, `waits_for` | what is shown of runs |
//! | `copy` | a copy of the file as of one moment |
//!
//! One thread writes ([`writer`]), a few connections read ([`readers`]).

mod copy;
mod lists;
pub(crate) mod log;
mod open;
mod process;
mod readers;
pub(crate) mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tidemill_eventlog::due::{self, DueRun, WaitingTimer};
use tidemill_eventlog::query::RunFilter;
use tidemill_eventlog::{Row, open_any, waits};
use tidemill_model::{OpId, RunId, RunState, RunSummary, Seq, Timestamp, WaitsFor};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::clock::Clock;
use crate::error::Error;
pub(crate) use lists::{AwaitedChild, Due, HeldBlocks, Stored};
pub(crate) use log::{Log, Record, Unreadable, created};
pub(crate) use open::OpenFile;
pub(crate) use process::Processes;
use readers::Lane;
use writer::{Aside, Creation, Faults, NewRun, Pace, Refusing, Reply, Setup, Turn, Writer};

/// See the module. A clone is the same.
#[derive(Clone)]
pub(crate) struct Store {
    writer: Writer,
    reads: Reads,
    processes: Arc<Processes>,
}

impl Store {
    /// Starts the writer of an open file.
    pub(crate) fn start(
        file: OpenFile,
        path: &Path,
        clock: &Clock,
        (pace, faults): (Pace, Faults),
    ) -> Result<Store, Error> {
        let OpenFile { connection, processes } = file;
        let writer = Writer::start(Setup { connection, clock: clock.clone(), pace, faults })?;
        let reads = Reads { lane: Lane::new(path) };
        Ok(Store { writer, reads, processes: Arc::new(processes) })
    }

    /// What is known of the processes that wrote before this one.
    pub(crate) fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Reads for the engine.
    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Queues a turn; the answer goes to its inbox, in any case.
    pub(crate) async fn commit(&self, turn: Box<Turn>) -> Result<(), Error> {
        self.writer.turn(turn).await
    }

    /// Creates a run; refused at once if too much waits.
    pub(crate) async fn create(&self, new: NewRun) -> Result<Creation, Error> {
        self.writer.create(new).await
    }

    /// Records an event of a step's attempt.
    pub(crate) async fn record(&self, aside: impl FnOnce(Reply) -> Aside) -> Result<(), Error> {
        self.writer.aside(aside).await
    }

    /// The newest position that is durable.
    pub(crate) fn committed(&self) -> watch::Receiver<Seq> {
        self.writer.committed()
    }

    /// Why nothing is written, if nothing was when it was last tried.
    pub(crate) fn refusing(&self) -> Option<Refusing> {
        self.writer.refusing()
    }

    /// Writes what is queued and ends the writer and the readers; what is left to close, `None` the
    /// second time.
    pub(crate) async fn stop(&self) -> Option<StoppedFile> {
        let connection = self.writer.close().await?;
        self.reads.lane.close_connections();
        Some(StoppedFile { connection, processes: Arc::clone(&self.processes) })
    }
}

/// A file that nothing is written to any more.
pub(crate) struct StoppedFile {
    connection: Connection,
    processes: Arc<Processes>,
}

impl StoppedFile {
    /// Notes that this process ended cleanly, and closes the file. It blocks.
    pub(crate) fn close(self) -> Result<(), Error> {
        let noted = self.processes.end(&self.connection);
        let closed = self
            .connection
            .close()
            .map_err(|(_, e)| tidemill_eventlog::sqlite("close the file", e));
        noted.and(closed)
    }
}

/// Reads of what is durable. A clone shares its places.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    lane: Lane,
}

impl Reads {
    /// Reads that do not wait behind these.
    pub(crate) fn beside(&self) -> Reads {
        Reads { lane: self.lane.beside() }
    }

    /// The whole log of a run; the inner error says why it cannot be understood.
    pub(crate) async fn log(&self, run: &RunId) -> Result<Log, Error> {
        let run = run.clone();
        self.lane.read(move |file| log::log(file, &run)).await
    }

    /// Where a run stands; `None` if there is none of this id.
    pub(crate) async fn find(&self, run: &RunId) -> Result<Option<Stored>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::stored(file, &run)).await
    }

    /// The next runs after a position that have something to do; empty after the last.
    pub(crate) async fn due(&self, due: Due, after: Seq) -> Result<Vec<DueRun>, Error> {
        self.lane.read(move |file| lists::due(file, due, after)).await
    }

    /// Whether a run is a child for which nobody waits.
    pub(crate) async fn is_unwanted(&self, run: &RunId) -> Result<bool, Error> {
        let run = run.clone();
        self.lane.read(move |file| due::is_unwanted(file, &run)).await
    }

    /// The next timers of runs that are not blocked, by their moments; empty after the last.
    pub(crate) async fn timers(
        &self,
        after: Option<(Timestamp, RunId, OpId)>,
    ) -> Result<Vec<WaitingTimer>, Error> {
        self.lane.read(move |file| lists::timers(file, after.as_ref())).await
    }

    /// The children that a run waits for.
    pub(crate) async fn children(&self, run: &RunId) -> Result<Vec<AwaitedChild>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::children(file, &run)).await
    }

    /// A page of runs, and where the next one begins.
    pub(crate) async fn runs(
        &self,
        filter: RunFilter,
        held: HeldBlocks,
        asked: usize,
    ) -> Result<(Vec<RunSummary>, Option<Seq>), Error> {
        self.lane.read(move |file| held.page(file, &filter, asked)).await
    }

    /// A run, and the blocked run that it waits for; `None` if there is none of this id.
    pub(crate) async fn state(
        &self,
        run: &RunId,
    ) -> Result<Option<(RunState, Option<WaitsFor>)>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::state(file, &run)).await
    }

    /// Events of a run after a position; `None` if there is no run of this id.
    pub(crate) async fn events(
        &self,
        run: &RunId,
        after: Seq,
        limit: u32,
    ) -> Result<Option<Vec<Row>>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::events(file, &run, after, limit)).await
    }

    /// The blocked run that a run waits for, directly or through its children.
    pub(crate) async fn waits_for(&self, run: &RunId) -> Result<Option<WaitsFor>, Error> {
        let run = run.clone();
        self.lane.read(move |file| waits::waits_for(file, &run)).await
    }

    /// A copy of the file as of one moment, made at `path` and without a name when it is returned.
    /// `kept` is let go of when the copy has ended, also after its caller has gone.
    pub(crate) async fn copy(
        &self,
        path: PathBuf,
        closing: CancellationToken,
        kept: impl Send + 'static,
    ) -> Result<File, Error> {
        let job = move |file: &Connection| {
            let _kept = kept;
            copy::backup(file, &path, &closing)
        };
        self.lane.read(job).await
    }

    /// Refuses what comes from now on and what waits, and waits for what runs.
    pub(crate) async fn close(&self) {
        self.lane.close().await;
    }
}

/// The log of a run of a file that is not opened for writing, and from where on its floats are
/// exact; `None` if nowhere. It blocks.
pub(crate) fn log_of(path: &Path, run: &RunId) -> Result<(Log, Option<Seq>), Error> {
    let file = open_any(path)?;
    let exact_from = process::floats_exact_from(&file)?;
    Ok((log::log(&file, run)?, exact_from))
}
