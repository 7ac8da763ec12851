//! The node's handle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_eventlog::Checkpoints;
use tidemill_model::{BlockReason, Epoch, Failure, InstanceId, Json, NodeId, RunId, Seq};

use crate::author::App;
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;

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

/// An open node: a file, its writer, its runs.
#[derive(Debug, Clone)]
pub struct Node {}

impl Node {
    /// Opens a file and takes up its unfinished runs.
    ///
    /// # Errors
    /// As [`App::open`].
    pub async fn open(app: App, environment: Environment) -> Result<Node, Error> {
        app.check()?;
        let _ = environment;
        Err(Error::closed())
    }

    /// Starts a run and returns when that is durable.
    ///
    /// # Errors
    /// `Invalid` for a bad id, label or input; `NotFound` for an unknown workflow, naming those
    /// there are; `Conflict` if a run of this id has another workflow or input; `Unavailable` if
    /// nothing can be written now.
    pub async fn start(&self, _request: StartRequest) -> Result<Started, Error> {
        Err(Error::closed())
    }

    /// Waits until a run has ended or is blocked.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` when the node shuts down.
    pub async fn result(&self, _run: &RunId) -> Result<RunResult, Error> {
        Err(Error::closed())
    }

    /// Lets go of everything and closes the file.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn shutdown(self) -> Result<(), Error> {
        Ok(())
    }
}
