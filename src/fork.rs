//! `tidemill fork`: a new run with the history of one that is elsewhere, as of any moment.
//!
//! The history is read from the source alone; a node, or a new file, makes the fork in one commit. It is
//! parked there, unless that is not wanted.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tidemill_client::{NodeAddress, NodeClient};
use tidemill_model::limits::FORK_SOURCE_BYTES_MAX;
use tidemill_model::{
    ForkAs, ForkFromRequest, ForkOutlook, ForkRequest, ForkSignals, ForkSource, InstanceId, Json,
    MadeFork, NodeId, RunId, Seed,
};
use tidemill_observer::{At, OwnName, RunThen, too_large};

use crate::common::{token, wait};
use crate::output;
use crate::source::FromArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; it stays as it is
    run: RunId,
    #[command(flatten)]
    from: FromArgs,
    /// Of the source, only what was there at this event (its number, or a time of the node's clock)
    #[arg(long, value_name = "SEQ|TIME", allow_negative_numbers = true)]
    as_of: Option<At>,
    /// Where: STEP, which begins again; STEP:start, before the code called it; 0, at the beginning. A
    /// step is named by its name or its number [default: before the failure that ended the run]
    #[arg(long, value_name = "STEP")]
    at: Option<String>,
    /// Another input as JSON, only with `--at 0`; `-` reads it from stdin
    #[arg(long, value_name = "JSON", value_parser = json, allow_negative_numbers = true)]
    input: Option<Json>,
    /// The output of a step or child that was done by hand, as JSON; may be repeated
    #[arg(long, value_name = "STEP=JSON", value_parser = output)]
    set: Vec<(String, Json)>,
    /// Which of the run's signals come with it: `none` but those that its code was given before,
    /// `before` all that it was sent before, `all` those that came later, too
    #[arg(long, default_value = "before")]
    signals: ForkSignals,
    /// The new run's id, so that asking again is harmless [default: RUN-retry, with --at RUN-fork]
    #[arg(long)]
    id: Option<String>,
    /// Who asks
    #[arg(long, value_name = "NAME", env = "USER")]
    by: Option<String>,
    /// Why, for those who look at the run later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    into: Destination,
    /// Only say what would be carried over and what would be done again
    #[arg(long)]
    dry_run: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Where the fork is made.
#[derive(Debug, clap::Args)]
struct Destination {
    /// The live node that makes the fork, such as http://127.0.0.1:7420; TIDEMILL_TOKEN is sent if it
    /// is set
    #[arg(
        long = "into",
        value_name = "URL",
        required_unless_present_any = ["into_file", "dry_run"],
        conflicts_with = "into_file"
    )]
    node: Option<NodeAddress>,
    /// The new file that is to have nothing but the fork; nothing is overwritten
    #[arg(long, value_name = "FILE", requires = "name")]
    into_file: Option<PathBuf>,
    /// The node that the new file is
    #[arg(long = "as", value_name = "NAME", requires = "into_file", conflicts_with = "node")]
    name: Option<NodeId>,
    /// Let the fork go on at once; without this it is parked until somebody resumes it
    #[arg(long, conflicts_with = "into_file")]
    start: bool,
}

fn json(text: &str) -> Result<Json, String> {
    let text = match text {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|e| format!("stdin: {e}"))?,
        text => text.to_owned(),
    };
    Json::parse(&text)
        .map_err(|e| format!("this is not JSON: {e}; a text needs its quotes, as in '\"text\"'"))
}

fn output(text: &str) -> Result<(String, Json), String> {
    match text.split_once('=') {
        Some((step, value)) if !step.is_empty() => Ok((step.to_owned(), json(value)?)),
        Some(_) | None => Err("use STEP=JSON, such as `charge=true`".into()),
    }
}

/// What a node, or we, say of a fork.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<RunId>,
    #[serde(default)]
    existing: bool,
    outlook: ForkOutlook,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let node = args.into.node.clone().map(|address| NodeClient::new(address, token()));
    if let Some(node) = &node {
        // Before a restore that may take a while.
        wait(takes_histories(node))?;
    }
    let snapshot = args.from.open(args.json)?;
    let until = args.as_of.map(|at| at.find(snapshot.connection())).transpose()?;
    let RunThen { source, status } = snapshot.run_then(&args.run, until)?;
    drop(snapshot);
    if !status.is_final() {
        output::say(&format!(
            "run {} was {status} at that moment: what it did later is not in this history, and is done \
             again by what begins again",
            args.run
        ));
    }
    let request = args.request();
    match (node, &args.into.into_file) {
        (Some(node), _) => args.in_node(&node, source, request),
        (None, Some(file)) if !args.dry_run => args.in_file(file, &source, &request),
        (None, _) => {
            let MadeFork { outlook, .. } = made(&source, &request)?;
            args.tell_dry(&Answer { id: None, existing: false, outlook })
        }
    }
}

/// Refuses a node that cannot be asked, or of a version that makes no forks of what it does not have.
async fn takes_histories(node: &NodeClient) -> anyhow::Result<()> {
    let document: serde_json::Value = node.get("/v1/openapi.json").await?;
    if document["paths"]["/v1/forks"].is_object() {
        return Ok(());
    }
    anyhow::bail!(
        "this node's program was built with an earlier version of Tidemill, which forks only runs of its \
         own: deploy a newer one, or make a file with --into-file"
    )
}

/// The fork as this process makes it.
fn made(source: &ForkSource, request: &ForkRequest) -> anyhow::Result<MadeFork> {
    let id = request.id.as_deref().unwrap_or_default();
    let created = source.events.first().and_then(|event| event.data.as_ref());
    let program = created.and_then(|data| data.decode::<Program>().ok());
    let who = ForkAs {
        from: source.run.clone(),
        id: RunId::chosen(id)?,
        seed: Seed::from_random(tidemill_eventlog::host::random()?),
        // It is the same program as far as we know.
        app_version: program.map_or_else(String::new, |program| program.app_version),
        requester: request.checked_requester()?,
    };
    Ok(source.make(request, &who, false)?)
}

/// The program that started a run.
#[derive(Deserialize)]
struct Program {
    app_version: String,
}

impl Args {
    fn request(&self) -> ForkRequest {
        let suffix = if self.at.is_some() { "fork" } else { "retry" };
        ForkRequest {
            at: self.at.clone(),
            input: self.input.clone(),
            set: self.set.iter().cloned().collect(),
            signals: self.signals,
            id: self.id.clone().or_else(|| Some(format!("{}-{suffix}", self.run))),
            by: self.by.clone(),
            reason: self.reason.clone(),
        }
    }

    fn in_node(
        &self,
        node: &NodeClient,
        source: ForkSource,
        fork: ForkRequest,
    ) -> anyhow::Result<ExitCode> {
        let run = source.run.clone();
        let asked = ForkFromRequest { source, fork, start: self.into.start };
        let body = serde_json::to_string(&asked)?;
        drop(asked);
        if body.len() > FORK_SOURCE_BYTES_MAX {
            return Err(too_large(&run).into());
        }
        let path = if self.dry_run { "/v1/forks?dry_run=true" } else { "/v1/forks" };
        let answer: Json = wait(async { Ok(node.post(path, Some(body)).await?) })?;
        let answer: Answer = answer.decode()?;
        let Some(id) = &answer.id else { return self.tell_dry(&answer) };
        if answer.existing {
            output::say(&format!(
                "run {id} was made by this request before: to do it again, choose another --id"
            ));
        } else {
            output::say_lines(&answer.outlook.told(&run));
            if !self.into.start {
                output::say(&format!(
                    "run {id} is parked: look at it, then let it go on with `resume {id}` of the \
                     node's program, or a POST to /v1/runs/{id}/resume"
                ));
            }
        }
        if self.json { output::json(&answer) } else { output::text(&format!("{id}\n")) }
    }

    fn in_file(
        &self,
        file: &std::path::Path,
        source: &ForkSource,
        request: &ForkRequest,
    ) -> anyhow::Result<ExitCode> {
        let made = made(source, request)?;
        let name = self.into.name.clone().expect("the file's option requires it");
        let id = InstanceId::from_random(tidemill_eventlog::host::random()?);
        let access = self.from.s3.access()?;
        let forked = access.fork_to(file, OwnName { name, id }, &source.origin, made)?;
        if self.json {
            return output::json(&forked);
        }
        output::say_lines(&forked.outlook.told(&source.run));
        output::say(&format!(
            "run {} is parked in {}: your program opens it with `serve --db`, and `resume {}` or \
             `serve --unpark` lets it go on",
            forked.id,
            file.display(),
            forked.id
        ));
        output::text(&format!("{}\n", forked.id))
    }

    fn tell_dry(&self, answer: &Answer) -> anyhow::Result<ExitCode> {
        match self.json {
            true => output::json(answer),
            false => output::text(&answer.outlook.told(&self.run)),
        }
    }
}
