//! The store: one handle through which the engine and the HTTP API use the file. Nothing outside
//! this folder sees a connection.
//!
//! | verb | does |
//! |---|---|
//! | `commit`, `create`, `record`, `signal`, `promise` | append to the log and answer when that is durable |
//! | `prunable`, `prune` | find the ended runs that leave, and remove them |
//! | `log` | reads the whole log of a run |
//! | `find`, `children` | read a run's state, and the children that it waits for |
//! | `due`, `timers` | list the runs that have something to do, now and next |
//! | `runs`, `state`, `events`, `waits_for` | read what HTTP and the commands show |
//! | `copy` | copies the file as of one moment |
//!
//! One thread writes ([`writer`]), a few connections read ([`readers`]).

mod copy;
mod followers;
mod lists;
pub(crate) mod log;
mod logs;
mod open;
mod process;
mod readers;
pub(crate) mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tidemill_eventlog::due::{self, DueRun, RunDeadline, WaitingTimer};
use tidemill_eventlog::promises::{self, PromiseFilter, PromiseRow};
use tidemill_eventlog::prunable::{self, Look};
use tidemill_eventlog::prune::PrunableRun;
use tidemill_eventlog::query::{self, RunFilter};
use tidemill_eventlog::{OwnCopy, signals, waits};
use tidemill_model::{
    ComparedSeqs, OldestBlocked, OpId, OpName, PromiseId, PromiseView, RetentionJudge, RunCounts,
    RunId, RunPage, RunState, Seq, Signal, Timestamp, WaitsFor,
};
use tokio_util::sync::CancellationToken;

use crate::engine::clock::Clock;
use crate::error::Error;
pub(crate) use followers::Following;
pub(crate) use lists::{AwaitedChild, Due, EventRows, HeldBlocks, Stored};
pub(crate) use log::{Log, Record, Unreadable, created};
pub(crate) use logs::Logs;
pub(crate) use open::OpenFile;
pub(crate) use process::Processes;
use readers::Lane;
use writer::{
    Aside, Creation, Faults, NewRun, Pace, PromiseChange, PromiseOutcome, PruneOutcome, QueueSize,
    Refusing, Reply, Setup, SignalOutcome, Tally, Turn, WatchCommits, Writer,
};

/// The handle of an open file; clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    writer: Writer,
    reads: Reads,
    processes: Arc<Processes>,
    copy: Option<OwnCopy>,
}

impl Store {
    /// Starts the writer of an open file.
    pub(crate) fn start(
        file: OpenFile,
        path: &Path,
        clock: &Clock,
        (pace, faults, commits): (Pace, Faults, Option<Arc<dyn WatchCommits>>),
    ) -> Result<Store, Error> {
        let OpenFile { connection, processes, copy } = file;
        let setup = Setup { connection, clock: clock.clone(), pace, faults, commits };
        let writer = Writer::start(setup)?;
        let reads = Reads { lane: Lane::new(path, clock) };
        Ok(Store { writer, reads, processes: Arc::new(processes), copy })
    }

    /// What the file says about the processes that wrote it before this one.
    pub(crate) fn processes(&self) -> &Processes {
        &self.processes
    }

    /// What the file is a copy of, if it is one that is a node of its own.
    pub(crate) fn own_copy(&self) -> Option<&OwnCopy> {
        self.copy.as_ref()
    }

    /// The readers of the engine.
    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Queues a turn; its run's inbox always gets an answer.
    pub(crate) async fn commit(&self, turn: Box<Turn>) -> Result<(), Error> {
        self.writer.turn(turn).await
    }

    /// Creates a run. Refuses it at once if too many wait to be created.
    pub(crate) async fn create(
        &self,
        new: NewRun,
        signal: Option<Signal>,
    ) -> Result<Creation, Error> {
        self.writer.create(new, signal).await
    }

    /// Sends a run a signal.
    pub(crate) async fn signal(&self, run: RunId, signal: Signal) -> Result<SignalOutcome, Error> {
        self.writer.signal(run, signal).await
    }

    /// Answers a promise, or makes a token for it.
    pub(crate) async fn promise(
        &self,
        id: PromiseId,
        change: PromiseChange,
    ) -> Result<PromiseOutcome, Error> {
        self.writer.promise(id, change).await
    }

    /// Records an event of a step's attempt.
    pub(crate) async fn record(&self, aside: impl FnOnce(Reply) -> Aside) -> Result<(), Error> {
        self.writer.aside(aside).await
    }

    /// Removes ended runs; what became of each of them.
    pub(crate) async fn prune(
        &self,
        ended_runs: Vec<PrunableRun>,
        compared: ComparedSeqs,
    ) -> Result<Vec<PruneOutcome>, Error> {
        self.writer.prune(ended_runs, compared).await
    }

    /// Follows a run: what is written to it from now on is news.
    pub(crate) fn follow(&self, run: &RunId) -> Following {
        self.writer.follow(run)
    }

    /// Why the file takes no writes; `None` if the last attempt to write succeeded.
    pub(crate) fn refusing(&self) -> Option<Refusing> {
        self.writer.refusing()
    }

    /// What this process has written.
    pub(crate) fn tally(&self) -> &Tally {
        self.writer.tally()
    }

    /// How much waits to be written.
    pub(crate) fn waiting(&self) -> QueueSize {
        self.writer.waiting()
    }

    /// Writes what is queued and ends the writer and the readers. Returns the file for the caller
    /// to close; `None` if the store was already stopped.
    pub(crate) async fn stop(&self) -> Option<StoppedFile> {
        let connection = self.writer.close().await?;
        self.reads.lane.close_connections();
        Some(StoppedFile { connection, processes: Arc::clone(&self.processes) })
    }
}

/// A file whose writer has ended, still open.
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

/// Reads of what is durable. Clones share one lane of readers.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    lane: Lane,
}

impl Reads {
    /// Readers with a lane of their own, which do not wait behind these.
    pub(crate) fn beside(&self) -> Reads {
        Reads { lane: self.lane.beside() }
    }

    /// How often the file was read.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> usize {
        self.lane.jobs()
    }

    /// The whole log of a run; the inner error says why this version cannot read it.
    pub(crate) async fn log(&self, run: &RunId) -> Result<Log, Error> {
        let run = run.clone();
        self.lane.read(move |file| log::log(file, &run)).await
    }

    /// What `read` makes of the whole log of a run, on a reader's thread.
    pub(crate) async fn with_log<T: Send + 'static>(
        &self,
        run: &RunId,
        read: impl FnOnce(&Connection, Log) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let run = run.clone();
        self.lane.read(move |file| read(file, log::log(file, &run)?)).await
    }

    /// What `work` returns, which reads nothing: it takes as long as reading a large log.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.lane.read(move |_| work()).await
    }

    /// The signals that a run was sent after the one of this number.
    pub(crate) async fn signals_after(
        &self,
        run: &RunId,
        number: u32,
    ) -> Result<Vec<Record>, Error> {
        let run = run.clone();
        self.lane.read(move |file| log::signals_after(file, &run, number)).await
    }

    /// The answers that a run's promises were given after a position.
    pub(crate) async fn answers_after(
        &self,
        run: &RunId,
        after: Seq,
    ) -> Result<Vec<Record>, Error> {
        let run = run.clone();
        self.lane.read(move |file| log::answers_after(file, &run, after)).await
    }

    /// The runs whose histories a run began with.
    pub(crate) async fn was(&self, run: &RunId) -> Result<Vec<RunId>, Error> {
        let run = run.clone();
        self.lane.read(move |file| log::was(file, &run)).await
    }

    /// A promise; `None` if there is none of this id.
    pub(crate) async fn promise(&self, id: &PromiseId) -> Result<Option<PromiseRow>, Error> {
        let id = id.clone();
        self.lane.read(move |file| promises::find(file, &id.run, id.op)).await
    }

    /// A promise as it is shown; `None` if there is none of this id.
    pub(crate) async fn promise_view(&self, id: &PromiseId) -> Result<Option<PromiseView>, Error> {
        let id = id.clone();
        self.lane.read(move |file| promises::promise(file, &id)).await
    }

    /// Promises in the order in which they began.
    pub(crate) async fn promises(
        &self,
        filter: PromiseFilter,
        limit: u32,
    ) -> Result<Vec<PromiseView>, Error> {
        self.lane.read(move |file| promises::promises(file, &filter, limit)).await
    }

    /// Whether a run was sent a signal with this key.
    pub(crate) async fn has_signal(&self, run: &RunId, key: &str) -> Result<bool, Error> {
        let (run, key) = (run.clone(), key.to_owned());
        self.lane.read(move |file| Ok(signals::of_key(file, &run, &key)?.is_some())).await
    }

    /// The workflow of a run; `None` if no run has this id.
    pub(crate) async fn workflow(&self, run: &RunId) -> Result<Option<OpName>, Error> {
        let run = run.clone();
        self.lane.read(move |file| Ok(query::run(file, &run)?.map(|found| found.workflow))).await
    }

    /// The stored state of a run; `None` if no run has this id.
    pub(crate) async fn find(&self, run: &RunId) -> Result<Option<Stored>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::stored(file, &run)).await
    }

    /// The next runs after a position that have something to do; empty if there are no more.
    pub(crate) async fn due(&self, due: Due, after: Seq) -> Result<Vec<DueRun>, Error> {
        self.lane.read(move |file| lists::due(file, due, after)).await
    }

    /// A run and its descendants; empty if no run has this id.
    pub(crate) async fn family(&self, run: &RunId) -> Result<Vec<RunId>, Error> {
        let run = run.clone();
        self.lane.read(move |file| due::family(file, &run)).await
    }

    /// Whether a run is a child that its parent no longer waits for.
    pub(crate) async fn is_unwanted(&self, run: &RunId) -> Result<bool, Error> {
        let run = run.clone();
        self.lane.read(move |file| due::is_unwanted(file, &run)).await
    }

    /// The next timers of runs that are not blocked, by due time; empty if there are no more.
    pub(crate) async fn timers(
        &self,
        after: Option<(Timestamp, RunId, OpId)>,
    ) -> Result<Vec<WaitingTimer>, Error> {
        self.lane.read(move |file| lists::timers(file, after.as_ref())).await
    }

    /// The next deadlines of runs that have neither ended nor been asked to; empty if there are no
    /// more.
    pub(crate) async fn deadlines(
        &self,
        after: Option<RunDeadline>,
    ) -> Result<Vec<RunDeadline>, Error> {
        self.lane.read(move |file| lists::deadlines(file, after.as_ref())).await
    }

    /// Counts the runs of each status for `keep`, which gets the counts even if the caller has
    /// dropped this future.
    pub(crate) async fn counts(
        &self,
        keep: impl FnOnce(RunCounts) + Send + 'static,
    ) -> Result<(), Error> {
        self.lane.read(move |file| query::counts(file).map(keep)).await
    }

    /// How many runs have each status, and the one that has been blocked for the longest time.
    pub(crate) async fn figures(
        &self,
        held: HeldBlocks,
    ) -> Result<(RunCounts, Option<OldestBlocked>), Error> {
        self.lane.read(move |file| Ok((held.counts(file)?, held.oldest(file)?))).await
    }

    /// A run and its ancestors up to the root, as lists show them; empty if there is no such run.
    #[cfg(feature = "otel")]
    pub(crate) async fn lineage(
        &self,
        run: &RunId,
    ) -> Result<Vec<tidemill_model::RunSummary>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::lineage(file, &run)).await
    }

    /// The children that a run waits for.
    pub(crate) async fn children(&self, run: &RunId) -> Result<Vec<AwaitedChild>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::children(file, &run)).await
    }

    /// The children that are parked with a fork of a run that is elsewhere.
    pub(crate) async fn parked_with(&self, run: &RunId) -> Result<Vec<RunId>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::parked_with(file, &run)).await
    }

    /// What a page shows of the file.
    pub(crate) async fn shown<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.lane.read(read).await
    }

    /// A page of runs.
    pub(crate) async fn runs(
        &self,
        filter: RunFilter,
        held: HeldBlocks,
        asked: usize,
    ) -> Result<RunPage, Error> {
        self.lane
            .read(move |file| {
                let counts = filter.after.is_none().then(|| held.counts(file)).transpose()?;
                let (runs, next) = held.page(file, &filter, asked)?;
                Ok(RunPage { runs, next, counts })
            })
            .await
    }

    /// A run, and the blocked run that it waits for; `None` if no run has this id.
    pub(crate) async fn state(
        &self,
        run: &RunId,
    ) -> Result<Option<(RunState, Option<WaitsFor>)>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::state(file, &run)).await
    }

    /// Events of a run after a position, bounded in number and roughly in bytes; `None` if no run
    /// has this id.
    pub(crate) async fn events(
        &self,
        run: &RunId,
        after: Seq,
        (limit, bytes_max): (u32, usize),
    ) -> Result<Option<EventRows>, Error> {
        let run = run.clone();
        self.lane.read(move |file| lists::events(file, &run, after, limit, bytes_max)).await
    }

    /// The blocked run that a run waits for, directly or through its children; `None` if there is
    /// no such run.
    pub(crate) async fn waits_for(&self, run: &RunId) -> Result<Option<WaitsFor>, Error> {
        let run = run.clone();
        self.lane.read(move |file| waits::waits_for(file, &run)).await
    }

    /// Looks for ended runs that leave. The judge goes from look to look.
    pub(crate) async fn prunable(
        &self,
        mut judge: RetentionJudge,
        at: (Timestamp, Seq),
        compared: ComparedSeqs,
        busy: impl Fn(&RunId) -> bool + Send + 'static,
    ) -> Result<(RetentionJudge, Look), Error> {
        self.lane
            .read(move |file| {
                let found = prunable::look(file, &mut judge, at, compared, busy)?;
                Ok((judge, found))
            })
            .await
    }

    /// A copy of the file as of one moment, made at `path`, which is unlinked before it is
    /// returned. The job drops `kept` when the copying ends, even if the caller has dropped this
    /// future.
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

    /// Refuses new and waiting reads, and waits for those that are running.
    pub(crate) async fn close(&self) {
        self.lane.close().await;
    }
}
