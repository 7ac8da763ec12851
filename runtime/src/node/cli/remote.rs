//! The commands that call a serving node: `start`, `signal`, `cancel`, `pause`, `resume`, `terminate`;
//! `fork` and `retry` are in `fork.rs`.

use std::process::ExitCode;

use serde::Deserialize;
use tidemill_client::{NodeAddress, NodeClient};
use tidemill_model::{BlockReason, Failure, Json, Requester, RunId, RunStatus, WaitsFor};

use super::args::{Ask, NodeArgs, Resume, SignalArgs, Start};
use super::bulk;
use super::serve::token_from_environment;
use super::{CommandResult, print_end, print_json, print_line, say, say_blocked, say_waits};
use crate::client::{ResultSoFar, request_of, send_signal};
use crate::engine::SignalRequest;
use crate::error::{Error, ErrorKind};
use crate::node::http::Token;

/// How long one request waits for the end of a run: then the user is told of a blocked run that it
/// waits for, and the next request is sent.
const WAIT: &str = "2s";

/// The fields of an answer that the commands print.
#[derive(Deserialize)]
struct RunAnswer {
    id: RunId,
    status: RunStatus,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    blocked: Option<BlockReason>,
    #[serde(default)]
    waits_for: Option<WaitsFor>,
}

/// `start`: asks the node to start a run and prints its id, or waits for its end.
pub(super) async fn start(args: Start) -> CommandResult {
    let node = node(&args.node)?;
    let body = args.new.request().to_json();
    let answer: Json = node.post("/v1/runs", Some(body)).await?;
    if args.wait {
        return to_its_end(&node, &told(&answer)?.id, args.json).await;
    }
    if args.json {
        print_json(answer.as_str());
    } else {
        print_line(told(&answer)?.id.as_str());
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for the end of a run that a node serves, and prints it.
pub(super) async fn to_its_end(node: &NodeClient, run: &RunId, json: bool) -> CommandResult {
    say(&format!("run {run}"));
    let mut told = None;
    let ended = loop {
        match ResultSoFar::ask(node, run, WAIT).await? {
            ResultSoFar::Ended(ended) => break ended,
            ResultSoFar::Unfinished { waits_for: Some(waits) } => say_waits(run, waits, &mut told),
            ResultSoFar::Unfinished { waits_for: None } => {}
        }
    };
    let whole = match json {
        true => Some(node.get::<Json>(&format!("/v1/runs/{run}")).await?),
        false => None,
    };
    Ok(print_end(run, &ended, whole.as_ref().map(Json::as_str)))
}

/// `resume`: asks the node to resume a run, waits a while, and says what became of it: 0 unless it
/// failed or is blocked again.
pub(super) async fn resume(args: Resume) -> CommandResult {
    let node = node(&args.node)?;
    let Some(run) = args.run else {
        return bulk::ask("resume", (args.many, args.dry_run), &node, async |run: RunId| {
            let path = format!("/v1/runs/{run}/resume");
            Ok(node.post::<RunAnswer>(&path, None).await?.status)
        })
        .await;
    };
    let run = RunId::new(&run).map_err(Error::from)?;
    let path = format!("/v1/runs/{run}/resume?wait={}ms", args.wait.as_millis());
    let told: RunAnswer = node.post(&path, None).await?;
    print_line(told.status.as_str());
    if let Some(reason) = &told.blocked {
        say_blocked(&format!("error: run {run} is blocked again"), reason);
        return Ok(ExitCode::FAILURE);
    }
    if has_failed(&run, &told) {
        return Ok(ExitCode::FAILURE);
    }
    if let Some(waits) = told.waits_for {
        say_waits(&run, waits, &mut None);
    }
    Ok(ExitCode::SUCCESS)
}

/// `signal`: sends it, and prints its number among the run's signals.
pub(super) async fn signal(args: SignalArgs) -> CommandResult {
    let SignalArgs { run, name, value, key, by, node: to } = args;
    let run = RunId::new(&run).map_err(Error::from)?;
    let sent = send_signal(&node(&to)?, &run, &SignalRequest { name, value, key, by }).await?;
    if sent.existing {
        say(&format!("run {run} had this signal already"));
    }
    print_line(&sent.number.to_string());
    Ok(ExitCode::SUCCESS)
}

/// `cancel`, `pause` and `terminate`: asks the node, and says what the run is then: 0 unless it failed,
/// as one does whose clean-up fails.
pub(super) async fn ask(what: &str, args: Ask) -> CommandResult {
    let node = node(&args.node)?;
    let by = Requester { by: args.by, reason: args.reason, ..Requester::default() };
    let Some(run) = args.run else {
        return bulk::ask(what, (args.many, args.dry_run), &node, async |run: RunId| {
            let path = format!("/v1/runs/{run}/{what}");
            Ok(node.post::<RunAnswer>(&path, Some(request_of(&by))).await?.status)
        })
        .await;
    };
    let run = RunId::new(&run).map_err(Error::from)?;
    let path = format!("/v1/runs/{run}/{what}?wait={}ms", args.wait.as_millis());
    let told: RunAnswer = node.post(&path, Some(request_of(&by))).await?;
    print_line(told.status.as_str());
    if let Some(reason) = &told.blocked {
        let message = format!(
            "run {run} was asked to end and is blocked: it ends when it can be resumed, or with \
             `terminate`"
        );
        say_blocked(&message, reason);
    }
    Ok(if has_failed(&run, &told) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says why the run failed, if it did. One that was cancelled did what it was asked.
fn has_failed(run: &RunId, told: &RunAnswer) -> bool {
    match &told.error {
        Some(failure) if told.status == RunStatus::Failed => {
            say(&format!("error: run {run} failed: {failure}"));
            true
        }
        Some(_) | None => false,
    }
}

fn told(answer: &Json) -> Result<RunAnswer, Error> {
    answer
        .decode()
        .map_err(|e| Error::caused(ErrorKind::Internal, "the node's answer is no run", e))
}

pub(super) fn node(args: &NodeArgs) -> Result<NodeClient, Error> {
    let address = args.url.parse::<NodeAddress>().map_err(Error::from)?;
    let token = token_from_environment()?.as_ref().map(|token| Token::reveal(token).to_owned());
    Ok(NodeClient::new(address, token))
}
