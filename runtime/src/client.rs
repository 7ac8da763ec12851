//! A node over HTTP, for other programs: starts runs and waits for them with types.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tidemill_client::{NodeAddress, NodeClient};
use tidemill_model::{
    AnswerNote, BlockReason, Failure, ForkOutlook, ForkRequest, Json, PromiseId, PromisePage,
    Requester, RunId, RunStatus, Seq, WaitsFor,
};

use crate::author::{Caller, RunHandle, Start, WorkflowNames, WorkflowRef};
use crate::engine::promises::none_named;
use crate::engine::{AnswerRequest, Answered, RunResult, SignalRequest, Signalled, StartRequest};
use crate::error::{Error, ErrorKind};

/// How long one request waits for a run's end before the next one asks again: proxies cut idle
/// connections after a minute.
const WAIT: &str = "30s";

/// A node to call.
///
/// ```no_run
/// # async fn example() -> tidemill::Result<()> {
/// let node = tidemill::Client::new("http://127.0.0.1:7420")?;
/// let run = node.start("hello", ["Ada"]).id("first").label("team", "docs").await?;
/// let greetings: Vec<String> = run.result().await?;
/// # drop(greetings);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    node: NodeClient,
    address: NodeAddress,
    names: Arc<WorkflowNames>,
}

/// The fields of a result.
#[derive(Deserialize)]
struct ResultAnswer {
    status: RunStatus,
    #[serde(default = "Json::null")]
    output: Json,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    blocked: Option<BlockReason>,
    #[serde(default)]
    waits_for: Option<WaitsFor>,
}

/// What a node knows of a run's result.
pub(crate) enum ResultSoFar {
    /// It has ended, or is blocked.
    Ended(RunResult),
    /// It has not, perhaps because a blocked run that it waits for has not.
    Unfinished { waits_for: Option<WaitsFor> },
}

impl ResultSoFar {
    /// Asks a node, which answers when the run has ended, or at the latest after `wait`.
    pub(crate) async fn ask(
        node: &NodeClient,
        run: &RunId,
        wait: &str,
    ) -> Result<ResultSoFar, Error> {
        let path = format!("/v1/runs/{run}/result?wait={wait}");
        let answer: ResultAnswer = node.get_or_conflict(&path).await?;
        let ended = match (answer.status, answer.error, answer.blocked) {
            (_, _, Some(reason)) => RunResult::Blocked(reason),
            (_, Some(failure), _) => RunResult::Failed(failure),
            (RunStatus::Completed, ..) => RunResult::Completed(answer.output),
            (status, ..) if status.is_final() => {
                let message = format!("run `{run}` is {status}, and the node does not say why");
                return Err(Error::new(ErrorKind::Internal, message));
            }
            _ => return Ok(ResultSoFar::Unfinished { waits_for: answer.waits_for }),
        };
        Ok(ResultSoFar::Ended(ended))
    }
}

/// The fields of a run that was started.
#[derive(Deserialize)]
struct StartAnswer {
    id: RunId,
}

/// The body of a request that asks something of a run.
pub(crate) fn request_of(by: &Requester) -> String {
    serde_json::to_string(by).expect("texts have a JSON form")
}

/// Sends a run a signal.
pub(crate) async fn send_signal(
    node: &NodeClient,
    run: &RunId,
    signal: &SignalRequest,
) -> Result<Signalled, Error> {
    let SignalRequest { name, value, key, by } = signal;
    let path = format!("/v1/runs/{run}/signals/{}", encoded(name));
    let path = with_options(path, &[("key", key.as_deref()), ("by", by.as_deref())]);
    let SignalAnswer { number, existing, seq } =
        node.post(&path, Some(value.as_str().to_owned())).await?;
    Ok(Signalled { number, existing, seq })
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A path with the options that are given as its query.
pub(crate) fn with_options(mut path: String, options: &[(&str, Option<&str>)]) -> String {
    let given = options.iter().filter_map(|(option, value)| Some((option, (*value)?)));
    for ((option, value), mark) in given.zip(std::iter::once('?').chain(std::iter::repeat('&'))) {
        path.push_str(&format!("{mark}{option}={}", encoded(value)));
    }
    path
}

/// Answers a promise.
pub(crate) async fn send_answer(
    node: &NodeClient,
    id: &PromiseId,
    request: &AnswerRequest,
) -> Result<Answered, Error> {
    let what = if request.is_resolve() { "resolve" } else { "reject" };
    let path = with_options(format!("/v1/promises/{id}/{what}"), &request.query());
    let AnsweredAnswer { answer, existing, approvals } =
        node.post(&path, request.value().map(|value| value.as_str().to_owned())).await?;
    Ok(Answered { answer, existing, approvals })
}

/// The fields of the reply to an answer.
#[derive(Deserialize)]
struct AnsweredAnswer {
    answer: AnswerNote,
    existing: bool,
    approvals: usize,
}

/// The fields of the answer to a signal.
#[derive(Deserialize)]
struct SignalAnswer {
    number: u32,
    existing: bool,
    seq: Seq,
}

/// Asks for a fork, or only for what it would do.
pub(crate) async fn post_fork(
    node: &NodeClient,
    run: &RunId,
    request: &ForkRequest,
    is_dry: bool,
) -> Result<Json, Error> {
    let path = format!("/v1/runs/{run}/fork{}", if is_dry { "?dry_run=true" } else { "" });
    let body = serde_json::to_string(request).expect("texts and JSON have a JSON form");
    node.post(&path, Some(body)).await
}

/// The fields of the answer to a fork.
#[derive(Deserialize)]
pub(crate) struct ForkAnswer {
    #[serde(default)]
    pub(crate) id: Option<RunId>,
    #[serde(default)]
    pub(crate) existing: bool,
    pub(crate) outlook: ForkOutlook,
}

impl ForkAnswer {
    pub(crate) fn read(answer: &Json) -> Result<ForkAnswer, Error> {
        answer.decode().map_err(|e| {
            Error::caused(ErrorKind::Internal, "the node's answer tells of no fork", e)
        })
    }
}

impl Client {
    /// A node at an address such as `http://127.0.0.1:7420`. A token is added with
    /// [`Client::token`].
    ///
    /// # Errors
    /// `Invalid` if that is no address.
    pub fn new(url: &str) -> Result<Client, Error> {
        let address: NodeAddress = url.parse().map_err(Error::from)?;
        let node = NodeClient::new(address.clone(), None);
        Ok(Client { node, address, names: Arc::default() })
    }

    /// The bearer token that the node requires.
    #[must_use]
    pub fn token(self, token: &str) -> Client {
        Client { node: NodeClient::new(self.address.clone(), Some(token.to_owned())), ..self }
    }

    /// A client that knows which function stands for which workflow.
    pub(crate) fn knowing(self, names: Arc<WorkflowNames>) -> Client {
        Client { names, ..self }
    }

    /// Starts a run of a workflow: await this for the run's handle. A client that
    /// [`App::client`](crate::App::client) made takes the workflow's function, too.
    #[expect(clippy::needless_pass_by_value, reason = "given away, as to the workflow itself")]
    pub fn start<Out, W, In, By>(&self, workflow: W, input: In) -> Start<Out>
    where
        W: WorkflowRef<In, Out, By>,
        In: Serialize,
    {
        let request = StartRequest::of(&workflow, &input, &self.names);
        Start::new(Caller::Client(self.clone()), request)
    }

    /// The handle of a run that was started before.
    ///
    /// # Errors
    /// `Invalid` if that is no id. Whether the run exists is found out by what the handle is asked.
    pub fn run<Out>(&self, id: &str) -> Result<RunHandle<Out>, Error> {
        Ok(RunHandle::of(Caller::Client(self.clone()), RunId::new(id)?))
    }

    /// Starts a run; its id, and whether it existed.
    pub(crate) async fn start_request(
        &self,
        request: StartRequest,
    ) -> Result<(RunId, bool), Error> {
        let body = request.to_json();
        let (status, StartAnswer { id }) = self.node.post_told("/v1/runs", Some(body)).await?;
        Ok((id, status != 201))
    }

    /// Waits for the end of a run, request after request.
    pub(crate) async fn ended(&self, run: &RunId) -> Result<RunResult, Error> {
        loop {
            if let ResultSoFar::Ended(ended) = ResultSoFar::ask(&self.node, run, WAIT).await? {
                return Ok(ended);
            }
        }
    }

    /// Sends a run a signal.
    pub(crate) async fn signal(
        &self,
        run: &RunId,
        signal: &SignalRequest,
    ) -> Result<Signalled, Error> {
        send_signal(&self.node, run, signal).await
    }

    /// Answers a promise, as [`Node::answer`](crate::Node::answer) does.
    ///
    /// # Errors
    /// As [`Node::answer`](crate::Node::answer).
    pub async fn answer(&self, id: &PromiseId, request: AnswerRequest) -> Result<Answered, Error> {
        send_answer(&self.node, id, &request).await
    }

    /// The oldest promise of this name that a run waits for.
    pub(crate) async fn promise_named(&self, run: &RunId, name: &str) -> Result<PromiseId, Error> {
        let options = [("run", Some(run.as_str())), ("name", Some(name)), ("limit", Some("1"))];
        let path = with_options("/v1/promises".to_owned(), &options);
        let page: PromisePage = self.node.get(&path).await?;
        page.promises.into_iter().next().map(|it| it.id).ok_or_else(|| none_named(run, name))
    }

    /// Forks a run; the fork's id.
    pub(crate) async fn fork(&self, run: &RunId, request: &ForkRequest) -> Result<RunId, Error> {
        let answer = post_fork(&self.node, run, request, false).await?;
        ForkAnswer::read(&answer)?.id.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the node's answer does not name the fork")
        })
    }

    pub(crate) async fn fork_outlook(
        &self,
        run: &RunId,
        request: &ForkRequest,
    ) -> Result<ForkOutlook, Error> {
        let answer = post_fork(&self.node, run, request, true).await?;
        Ok(ForkAnswer::read(&answer)?.outlook)
    }

    pub(crate) async fn resume(&self, run: &RunId) -> Result<(), Error> {
        let path = format!("/v1/runs/{run}/resume");
        let _: ResultAnswer = self.node.post(&path, None).await?;
        Ok(())
    }

    /// Asks something of a run; what it is then.
    pub(crate) async fn ask(
        &self,
        run: &RunId,
        what: &str,
        by: Requester,
    ) -> Result<RunStatus, Error> {
        let answer: ResultAnswer =
            self.node.post(&format!("/v1/runs/{run}/{what}"), Some(request_of(&by))).await?;
        Ok(answer.status)
    }
}
