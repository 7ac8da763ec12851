//! The node's public handle, with its requests and results.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_eventlog::{Checkpoints, OwnCopy};
use tidemill_model::{
    BlockReason, BlockReasonKind, Epoch, Failure, InstanceId, Json, NodeId, PruneReport,
    PruneRequest, Requester, RunId, RunStatus, Seq, WaitsFor,
};

use super::asks::Verb;
use super::recovery::{self, Continues, Instruments};
use super::retention::{Haste, Pass};
use super::signals::{SignalRequest, Signalled};
use super::start_request::StartRequest;
use super::virtual_time::WaitKind;
use super::{Engine, StillCompared, check, closing, start};

use crate::author::{App, Caller, RunHandle, Start, WorkflowRef};
use crate::error::{Error, ErrorKind, closed};
use crate::gate::Gate;
use crate::store::writer::{QueueSize, Refusing, Tally};
use crate::store::{Due, Following, Reads, Stored};

/// The file of a node, and the identity under which it opens that file.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The file.
    pub path: PathBuf,
    /// Which program checkpoints the file: the app or Litestream.
    pub checkpoints: Checkpoints,
    /// The gate that releases effects.
    pub gate: Gate,
    /// The positions of the log that retention leaves alone.
    pub compared: StillCompared,
    /// The fleet, which idempotency keys include; `None` without a sidecar.
    pub fleet: Option<String>,
    /// The node's name; `None` without a sidecar.
    pub node: Option<NodeId>,
    /// The epoch under which it writes; `None` without a sidecar.
    pub epoch: Option<Epoch>,
    /// The disk that the epoch belongs to; `None` without a sidecar.
    pub instance: Option<InstanceId>,
    /// Whether the node may migrate a file of an older schema version: false under a sidecar that
    /// could not read the file afterwards.
    pub migrates: bool,
}

impl Environment {
    /// The environment of a file without a sidecar.
    pub fn alone(path: &Path) -> Environment {
        Environment {
            path: path.to_owned(),
            checkpoints: Checkpoints::Own,
            gate: Gate::always_open(),
            compared: StillCompared::nothing(),
            fleet: None,
            node: None,
            epoch: None,
            instance: None,
            migrates: true,
        }
    }
}

/// A run that was started, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its id.
    pub id: RunId,
    /// Whether the run existed before this request.
    pub existing: bool,
    /// The position of its `run_created` in the log.
    pub seq: Seq,
}

/// How a run ended, or why it is blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunResult {
    /// It returned this output.
    Completed(Json),
    /// It returned this error, or was cancelled if the failure's kind says so.
    Failed(Failure),
    /// It waits until a person fixes what the reason names.
    Blocked(BlockReason),
}

impl RunResult {
    /// The output as a `T`.
    ///
    /// # Errors
    /// `Internal` with the failure or the reason if there is no output; `Invalid` if it is not a
    /// `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match self {
            RunResult::Completed(json) => json.decode().map_err(|e| {
                Error::new(ErrorKind::Invalid, format!("the output is of another type: {e}"))
            }),
            RunResult::Failed(failure) => {
                let how = failure.kind.ending();
                Err(Error::new(ErrorKind::Internal, format!("the run {how}: {failure}")))
            }
            RunResult::Blocked(reason) => {
                Err(Error::new(ErrorKind::Internal, format!("the run is blocked: {reason}")))
            }
        }
    }
}

/// What a replay of a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: String,
    /// How many events its log has.
    pub events: usize,
    /// Where the code and the log differ; `None` if they agree.
    pub divergence: Option<BlockReason>,
    /// The event of the log at which they part: the first that the code does not do, or else the one
    /// after which it does something that the log does not have. `None` if they agree, or if nothing
    /// could be replayed.
    pub seq: Option<Seq>,
    /// Where the call is that asks for something else than the log has, such as `src/main.rs:42:9`.
    /// `None` if no call does: the code waits, ends or panics there, or is not there at all.
    pub at: Option<String>,
    /// Where the oldest call is that the code waits for, if it asks for nothing where the log has
    /// more; `None` in any other case.
    pub waits_at: Option<String>,
}

/// An open node: a file, its writer, its runs. Clones share the node.
///
/// Dropping it without [`Node::shutdown`] stops nothing: its runs continue and keep the file
/// locked.
#[derive(Clone)]
pub struct Node {
    engine: Arc<Engine>,
}

impl Node {
    /// Opens a file in the given environment, and continues its unfinished runs. [`App::open`] does
    /// this for a file without a sidecar.
    ///
    /// # Errors
    /// As [`App::open`]; `Fenced` if the file is of another node or epoch than the environment's.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    pub async fn open(app: App, environment: Environment) -> Result<Node, Error> {
        Node::open_with(app, environment, Instruments::default()).await
    }

    /// The same, but continues only what `continues` says.
    pub(crate) async fn open_for(
        app: App,
        environment: Environment,
        continues: Continues,
    ) -> Result<Node, Error> {
        let instruments = Instruments::default();
        Ok(Node { engine: recovery::open(app, environment, instruments, continues).await? })
    }

    pub(crate) async fn open_with(
        app: App,
        environment: Environment,
        instruments: Instruments,
    ) -> Result<Node, Error> {
        Ok(Node { engine: recovery::open(app, environment, instruments, Continues::All).await? })
    }

    /// Starts a run of a workflow, with types: await this for the run's handle, which waits for
    /// its output. The workflow is its function or its registered name. If a run of the chosen id
    /// exists and has the same workflow and input, the handle is that run's.
    ///
    /// ```no_run
    /// # async fn square(_: tidemill::Ctx, n: u64) -> tidemill::Result<u64> { Ok(n * n) }
    /// # async fn example(node: tidemill::Node) -> tidemill::Result<()> {
    /// let nine = node.start(square, 3).id("nine").await?.result().await?;
    /// let four: u64 = node.start("square", 2).await?.result().await?;
    /// # assert_eq!(nine + four, 13);
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "given away, as to the workflow itself")]
    pub fn start<Out, W, In, By>(&self, workflow: W, input: In) -> Start<Out>
    where
        W: WorkflowRef<In, Out, By>,
        In: Serialize,
    {
        let request = StartRequest::of(&workflow, &input, &self.engine.app.names);
        Start::new(Caller::Node(self.clone()), request)
    }

    /// The handle of a run that was started before. Whether the run exists is found out by what
    /// the handle is asked.
    pub fn run<Out>(&self, id: &RunId) -> RunHandle<Out> {
        RunHandle::of(Caller::Node(self.clone()), id.clone())
    }

    /// Starts a run and returns when that is durable. If a run of the chosen id exists and has the
    /// same workflow and input, this returns the existing run.
    ///
    /// # Errors
    /// `Invalid` for a bad id, label or input; `NotFound` for an unknown workflow, with the names
    /// of the known ones; `Conflict` if a run of this id has another workflow or input;
    /// `Unavailable` if nothing can be written now; `Fenced` if another owner has the node.
    ///
    /// # Cancel safety
    /// If the future is dropped while it waits, the run may or may not be started.
    pub async fn start_request(&self, request: StartRequest) -> Result<Started, Error> {
        if self.engine.closing.is_cancelled() {
            return Err(closed());
        }
        let (new, signal) = start::validate(&self.engine, request)?;
        let engine = Arc::clone(&self.engine);
        // In a task of its own, so that an accepted run is driven even if the caller drops this.
        let start = start::start(engine, new, signal);
        let started = self.engine.clock.apart(&self.engine.runtime, start).await;
        let started = started
            .map_err(|e| Error::caused(ErrorKind::Internal, "starting the run did not end", e))??;
        self.engine.gate().opened().await?;
        Ok(started)
    }

    /// Waits until a run has ended or is blocked.
    ///
    /// # Errors
    /// `NotFound` if no run has this id; `Unavailable` when the node shuts down.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn result(&self, run: &RunId) -> Result<RunResult, Error> {
        self.engine.outcome(run).await
    }

    /// The blocked run that a run waits for, directly or through its children; `None` if there is
    /// no such run.
    ///
    /// # Errors
    /// What reading the file says.
    pub async fn waits_for(&self, run: &RunId) -> Result<Option<WaitsFor>, Error> {
        self.engine.store.reads().waits_for(run).await
    }

    /// Tries a blocked run again, or lets a paused one go on, once that is recorded.
    ///
    /// # Errors
    /// `NotFound` if no run has this id; `Conflict` if the run has ended, or is neither;
    /// `Unavailable` if nothing can be written now.
    pub async fn resume(&self, run: &RunId) -> Result<(), Error> {
        self.engine.resume(run).await?;
        // A parked run has a deadline again.
        self.engine.deadlines.look();
        self.engine.gate().opened().await
    }

    /// Asks a run to end. Its timers, and its steps that do not run, fail at once with an error of
    /// kind [`Cancelled`](tidemill_model::FailureKind::Cancelled); steps that run get their
    /// [token](crate::Step::cancellation), and its children are cancelled, too. Its code may clean up
    /// ([`Ctx::cleanup`](crate::Ctx::cleanup)) and decides how it ends. Answers, once that is durable,
    /// what the run is then: `cancelling`, or ended. A run that is asked again stays as it is.
    ///
    /// # Errors
    /// `NotFound` if no run has this id; `Conflict` with its status if it has ended; `Unavailable` if
    /// nothing can be written now.
    ///
    /// # Cancel safety
    /// If the future is dropped while it waits, the run may or may not have been asked.
    pub async fn cancel(&self, run: &RunId, by: Requester) -> Result<RunStatus, Error> {
        self.ask(run, Verb::Cancel, by).await
    }

    /// Ends a run without its code: nothing is cleaned up, and bodies that run are dropped. For a run
    /// that cannot be cancelled, because it is blocked or does not return.
    ///
    /// # Errors
    /// As [`Node::cancel`].
    pub async fn terminate(&self, run: &RunId, by: Requester) -> Result<RunStatus, Error> {
        self.ask(run, Verb::Terminate, by).await
    }

    /// Lets a run start nothing new until it is resumed. Bodies that run go on to their ends, which
    /// the run observes then.
    ///
    /// # Errors
    /// As [`Node::cancel`]; `Conflict` if the run is blocked or was asked to end.
    pub async fn pause(&self, run: &RunId, by: Requester) -> Result<RunStatus, Error> {
        self.ask(run, Verb::Pause, by).await
    }

    async fn ask(&self, run: &RunId, verb: Verb, by: Requester) -> Result<RunStatus, Error> {
        let by = Requester { parent: None, deadline: None, ..by.checked()? };
        // In a task of its own: what was asked is done even if the caller goes.
        let (engine, id) = (Arc::clone(&self.engine), run.clone());
        let asked = async move { engine.ask(&id, verb, by).await };
        let asked = self.engine.clock.apart(&self.engine.runtime, asked).await;
        let status = asked
            .map_err(|e| Error::caused(ErrorKind::Internal, "the request did not end", e))??;
        self.engine.gate().opened().await?;
        Ok(status)
    }

    /// The engine, unless the node shuts down.
    pub(super) fn open_engine(&self) -> Result<Arc<Engine>, Error> {
        match self.engine.closing.is_cancelled() {
            true => Err(closed()),
            false => Ok(Arc::clone(&self.engine)),
        }
    }

    /// Sends a run a signal, which the run keeps until its code takes it
    /// ([`Ctx::signal`](crate::Ctx::signal)), and returns when that is durable. It reaches every run
    /// that has not ended: one that sleeps is loaded, one that is blocked or paused has it when it goes
    /// on.
    ///
    /// # Errors
    /// `NotFound` if no run has this id; `Invalid` if the name or the value is not what it has to be;
    /// `Conflict` if the run has ended, or has another signal of this key; `Unavailable` if it keeps
    /// 1,000 signals or 16 MiB of them, or nothing can be written now.
    ///
    /// # Cancel safety
    /// If the future is dropped while it waits, the signal may or may not be sent: send it with a
    /// [key](SignalRequest::key), and again.
    pub async fn signal(&self, run: &RunId, signal: SignalRequest) -> Result<Signalled, Error> {
        if self.engine.closing.is_cancelled() {
            return Err(closed());
        }
        let signal = signal.checked()?;
        // In a task of its own, so that the run learns of what was recorded even if the caller goes.
        let (engine, id) = (Arc::clone(&self.engine), run.clone());
        let sent = async move { engine.signal(&id, signal).await };
        let sent = self.engine.clock.apart(&self.engine.runtime, sent).await;
        let sent =
            sent.map_err(|e| Error::caused(ErrorKind::Internal, "the signal did not end", e))??;
        self.engine.gate().opened().await?;
        Ok(sent)
    }

    /// Removes ended runs by the rules of the request, or by the program's own, or counts what
    /// would leave. `time` bounds the work: then the report says that there is more.
    ///
    /// # Errors
    /// `Invalid` without rules; `Unavailable` while nothing can be written, or while the sidecar
    /// does not tell what may leave.
    pub(crate) async fn prune(
        &self,
        request: PruneRequest,
        time: Duration,
    ) -> Result<PruneReport, Error> {
        let rules = request.keep.unwrap_or_else(|| self.engine.app.retention.clone());
        if rules.rules().is_empty() {
            return Err(Error::invalid(
                "there is no rule: the program keeps every run, and the request names none; give \
                 some, such as `--keep 30d` or `{\"keep\": [\"30d\"]}`",
            ));
        }
        let until = self.engine.clock.boot().saturating_add(time);
        // In a task of its own: what was begun is counted even if the caller goes.
        let engine = Arc::clone(&self.engine);
        let pass = Pass { dry_run: request.dry_run, haste: Haste::Asked, until: Some(until) };
        let pass = async move { engine.prune(&rules, pass).await };
        let ended = self.engine.clock.apart(&self.engine.runtime, pass).await;
        let (report, _) =
            ended.map_err(|e| Error::caused(ErrorKind::Internal, "the pass did not end", e))??;
        self.engine.gate().opened().await?;
        Ok(report)
    }

    /// What the file is a copy of, if it is one that is a node of its own.
    pub(crate) fn own_copy(&self) -> Option<&OwnCopy> {
        self.engine.store.own_copy()
    }

    /// The runs that are parked, the oldest first.
    pub(crate) async fn parked(&self) -> Result<Vec<RunId>, Error> {
        let (mut parked, mut after) = (Vec::new(), Seq::ZERO);
        loop {
            let page =
                self.engine.store.reads().due(Due::Status(RunStatus::Blocked), after).await?;
            let Some(last) = page.last() else { return Ok(parked) };
            after = last.at;
            for due in page {
                if let Some(Stored::Blocked(_, reason)) =
                    self.engine.store.reads().find(&due.run).await?
                    && reason.kind == BlockReasonKind::Parked
                {
                    parked.push(due.run);
                }
            }
        }
    }

    /// Replays a run from its log without executing anything.
    ///
    /// # Errors
    /// `NotFound`; otherwise what reading the file says.
    pub async fn check(&self, run: &RunId) -> Result<CheckReport, Error> {
        let log = self.engine.store.reads().log(run).await?;
        let from = Some(self.engine.floats_exact_from);
        check::report(&self.engine.app, &self.engine.clock, run, log, from)
    }

    /// The names of the program's registered workflows, sorted.
    pub fn workflows(&self) -> Vec<String> {
        self.engine.app.workflow_names()
    }

    /// Readers of the file that do not wait behind the engine's.
    pub(crate) fn reads(&self) -> Reads {
        self.engine.store.reads().beside()
    }

    /// Follows a run: what is written to it from now on is news.
    pub(crate) fn follow(&self, run: &RunId) -> Following {
        self.engine.store.follow(run)
    }

    /// Why the file takes no writes (a full disk, a locked or failing file); `None` if the last
    /// attempt to write succeeded. The answer stays until a transaction is written; `last` says
    /// when the last attempt was.
    pub fn refusing(&self) -> Option<Refusing> {
        self.engine.store.refusing()
    }

    /// How many runs cannot commit, because the file refuses their turns for a reason of their own,
    /// while it takes those of other runs. After three refusals such a run is blocked; it counts as
    /// long as even its block cannot be written.
    pub fn runs_refused(&self) -> usize {
        self.engine.refusals.count()
    }

    /// What this process has written.
    pub(crate) fn tally(&self) -> &Tally {
        self.engine.store.tally()
    }

    /// How much waits to be written.
    pub(crate) fn waiting(&self) -> QueueSize {
        self.engine.store.waiting()
    }

    /// How many runs are in memory.
    pub(crate) fn runs_loaded(&self) -> usize {
        self.engine.registry.count()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Why a run is blocked, if its block could not be written.
    pub(crate) fn held_block(&self, run: &RunId) -> Option<BlockReason> {
        self.engine.refusals.held(run)
    }

    /// The runs whose block could not be written, and why they are blocked.
    pub(crate) fn held_blocks(&self) -> BTreeMap<RunId, BlockReason> {
        self.engine.refusals.all_held()
    }

    /// The environment that the node was opened in.
    pub fn environment(&self) -> &Environment {
        &self.engine.environment
    }

    /// The newest event of the file when this node opened it.
    pub(crate) fn opened_at(&self) -> Seq {
        self.engine.retries.upto()
    }

    /// Notes beside the file where this node serves, for whoever finds the file locked.
    pub(crate) fn announce(&self, address: &str) -> Result<(), Error> {
        match self.engine.app_lock() {
            Some(lock) => lock.announce(address),
            None => Err(closed()),
        }
    }

    /// Sets whether a caller waits for a barrier; while one does, the writer leaves gaps for
    /// Litestream.
    pub fn set_barrier_waits(&self, waits: bool) {
        self.engine.barrier_waits.store(waits, Ordering::Relaxed);
    }

    /// Shuts the node down and closes the file. The next process continues unfinished runs.
    ///
    /// The node polls no workflow any more. It cancels the tokens of all bodies at once and waits
    /// for them, at most for the [grace](App::grace). It records what they return, and the next
    /// process delivers it: a body that returned in time does not run again. After the grace, async
    /// bodies are dropped at their next await. A blocking body that still runs cannot be ended: it
    /// keeps the file locked until it returns, and until then opening the file in this process
    /// fails with a message that names its step. A fenced node does not wait.
    ///
    /// # Errors
    /// SQLite's error, if the file cannot be closed cleanly.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let close = closing::close(&self.engine);
        self.engine.clock.wait(WaitKind::Shutdown, close).await?
    }

    /// Ends the threads of a node whose tokio runtime is gone, and leaves the file as it is: what a
    /// test calls a crash.
    pub(crate) fn abandon(&self) {
        self.engine.timers.close();
        self.engine.pool.close();
    }

    /// How many finished runs a debug build has replayed, and how many of them diverged.
    pub fn shadow_replays(&self) -> (u64, u64) {
        self.engine.shadow_counts()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("app", &self.engine.app)
            .field("environment", &self.engine.environment)
            .finish_non_exhaustive()
    }
}
