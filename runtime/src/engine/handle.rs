//! The node's handle, and what it takes and gives.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_eventlog::Checkpoints;
use tidemill_model::{BlockReason, Epoch, Failure, InstanceId, Json, NodeId, RunId, Seq, WaitsFor};
use tokio::sync::watch;

use super::recovery::{self, Instruments};
use super::{Engine, check, closing, start};

use crate::author::App;
use crate::error::{Error, ErrorKind, closed};
use crate::gate::Gate;
use crate::store::writer::Refusing;
use crate::store::{Following, Reads};

/// Where and as what a node opens its file.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The file.
    pub path: PathBuf,
    /// Who checkpoints.
    pub checkpoints: Checkpoints,
    /// What effects pass.
    pub gate: Gate,
    /// The fleet, for idempotency keys.
    pub fleet: Option<String>,
    /// The node's name.
    pub node: Option<NodeId>,
    /// The epoch under which it writes.
    pub epoch: Option<Epoch>,
    /// The disk that the epoch belongs to.
    pub instance: Option<InstanceId>,
    /// Whether a file of an older schema version may be brought up to date: not under a sidecar that
    /// could not read it afterwards.
    pub migrates: bool,
}

impl Environment {
    /// A file without a sidecar.
    pub fn alone(path: &Path) -> Environment {
        Environment {
            path: path.to_owned(),
            checkpoints: Checkpoints::Own,
            gate: Gate::always_open(),
            fleet: None,
            node: None,
            epoch: None,
            instance: None,
            migrates: true,
        }
    }
}

/// A run to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRequest {
    /// The workflow's name.
    pub workflow: String,
    /// Its input.
    pub input: Json,
    /// The run's id; by default a UUIDv7.
    pub id: Option<String>,
    /// Names and values to find the run by, at most 32.
    pub labels: BTreeMap<String, String>,
}

impl StartRequest {
    /// A run of `workflow` with `input`.
    ///
    /// # Errors
    /// `Invalid` if the input has no JSON.
    pub fn new(workflow: &str, input: impl Serialize) -> Result<StartRequest, Error> {
        let input = Json::of(&input)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("the input has no JSON: {e}")))?;
        Ok(StartRequest { workflow: workflow.to_owned(), input, id: None, labels: BTreeMap::new() })
    }

    /// Chooses the run's id, which makes starting idempotent: starting it again with the same
    /// input gives the existing run.
    #[must_use]
    pub fn id(mut self, id: &str) -> StartRequest {
        self.id = Some(id.to_owned());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> StartRequest {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A run that was started, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its id.
    pub id: RunId,
    /// Whether it was there already.
    pub existing: bool,
    /// Where its `run_created` stands in the log.
    pub seq: Seq,
}

/// How a run ended, or why it cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunResult {
    /// With an output.
    Completed(Json),
    /// With an error; cancelled if the failure's kind says so.
    Failed(Failure),
    /// It waits for somebody to mend what the reason names.
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
                Err(Error::new(ErrorKind::Internal, format!("the run failed: {}", failure.message)))
            }
            RunResult::Blocked(reason) => Err(Error::new(
                ErrorKind::Internal,
                format!("the run is blocked: {}", reason.advice),
            )),
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
    /// Where the code and the log part, if they do.
    pub divergence: Option<BlockReason>,
}

/// An open node: a file, its writer, its runs. A clone is the same node.
///
/// Dropping it without [`Node::shutdown`] stops nothing: its runs go on, and keep the file locked.
#[derive(Clone)]
pub struct Node {
    engine: Arc<Engine>,
}

impl Node {
    /// Opens a file in an environment that is already decided, and takes up its unfinished runs.
    /// [`App::open`] is this for a file without a sidecar.
    ///
    /// # Errors
    /// As [`App::open`]; `Fenced` if the file is of another node or epoch than the environment's.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open(app: App, environment: Environment) -> Result<Node, Error> {
        Node::open_with(app, environment, Instruments::default()).await
    }

    pub(crate) async fn open_with(
        app: App,
        environment: Environment,
        instruments: Instruments,
    ) -> Result<Node, Error> {
        Ok(Node { engine: recovery::open(app, environment, instruments).await? })
    }

    /// Starts a run and returns when that is durable. Starting a run of a chosen id again, with
    /// the same workflow and input, gives the existing one.
    ///
    /// # Errors
    /// `Invalid` for a bad id, label or input; `NotFound` for an unknown workflow, naming those
    /// there are; `Conflict` if a run of this id has another workflow or input; `Unavailable` if
    /// nothing can be written now; `Fenced` if another owner has the node.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the run may or may not be started.
    pub async fn start(&self, request: StartRequest) -> Result<Started, Error> {
        if self.engine.closing.is_cancelled() {
            return Err(closed());
        }
        let new = start::validate(&self.engine, request)?;
        let engine = Arc::clone(&self.engine);
        // A task of its own: what was accepted is driven even if the caller goes.
        let started = self.engine.runtime.spawn(start::start(engine, new)).await;
        let started = started
            .map_err(|e| Error::caused(ErrorKind::Internal, "starting the run did not end", e))??;
        self.engine.gate().opened().await?;
        Ok(started)
    }

    /// Waits until a run has ended or is blocked.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` when the node shuts down.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn result(&self, run: &RunId) -> Result<RunResult, Error> {
        self.engine.outcome(run).await
    }

    /// The blocked run that a run waits for, directly or through its children; none if it waits for
    /// none.
    ///
    /// # Errors
    /// What reading the file says.
    pub async fn waits_for(&self, run: &RunId) -> Result<Option<WaitsFor>, Error> {
        self.engine.store.reads().waits_for(run).await
    }

    /// Tries a blocked run again, once that is recorded.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the run has ended or is not blocked; `Unavailable` if nothing can
    /// be written now.
    pub async fn resume(&self, run: &RunId) -> Result<(), Error> {
        self.engine.resume(run).await?;
        self.engine.gate().opened().await
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

    /// The names of the program's workflows, sorted.
    pub fn workflows(&self) -> Vec<String> {
        self.engine.app.workflow_names()
    }

    /// Reads of the file that do not wait behind the engine's.
    pub(crate) fn reads(&self) -> Reads {
        self.engine.store.reads().beside()
    }

    /// The newest position that is durable, as it grows.
    pub fn committed(&self) -> watch::Receiver<Seq> {
        self.engine.store.committed()
    }

    /// Follows a run: what is written to it from now on is news.
    pub(crate) fn follow(&self, run: &RunId) -> Following {
        self.engine.store.follow(run)
    }

    /// Why nothing can be written, if nothing could be when it was last tried: a full disk, a file
    /// that is locked or fails. It stays until a transaction is written, so that `last` says how
    /// old it is.
    pub fn refusing(&self) -> Option<Refusing> {
        self.engine.store.refusing()
    }

    /// How many runs cannot commit: their turns are refused for a reason of their own, while those
    /// of others are written. After three refusals such a run is blocked; it counts for as long as
    /// even that cannot be written.
    pub fn runs_refused(&self) -> usize {
        self.engine.refusals.count()
    }

    #[cfg(test)]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Why a run is blocked, if that could not be written.
    pub(crate) fn held_block(&self, run: &RunId) -> Option<BlockReason> {
        self.engine.refusals.held(run)
    }

    /// The runs whose block could not be written.
    pub(crate) fn held_blocks(&self) -> Vec<RunId> {
        self.engine.refusals.all_held()
    }

    /// What the node was opened with.
    pub fn environment(&self) -> &Environment {
        &self.engine.environment
    }

    /// Says whether somebody waits for a barrier: the writer then leaves gaps for Litestream.
    pub fn set_barrier_waits(&self, waits: bool) {
        self.engine.barrier_waits.store(waits, Ordering::Relaxed);
    }

    /// Shuts the node down and closes the file. What has not ended goes on in the next process.
    ///
    /// No workflow is polled any more. The tokens of all bodies are cancelled at once, and bodies
    /// have the [grace](App::grace) to return; it ends with the last of them. What they return is
    /// recorded, and the next process delivers it: a body that returned in time does not run again.
    /// Then async bodies are dropped at their next await. A blocking body that still runs cannot be
    /// ended: it keeps the file locked until it returns, and opening the file in this process is
    /// refused until then with a text that names its step. A node that is fenced waits for nobody.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn shutdown(&self) -> Result<(), Error> {
        closing::close(&self.engine).await
    }

    /// How many finished runs were replayed in a debug build, and how many of them diverged.
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
