//! `tidemill runs`.

use std::process::ExitCode;

use tidemill_eventlog::query::{self, RunFilter};
use tidemill_eventlog::waits;
use tidemill_model::{OpName, RunStatus, RunSummary, Seq};
use tidemill_observer::{At, render};

use crate::common::wait;
use crate::source::FromArgs;
use crate::{output, screen};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: FromArgs,
    /// Only runs of this status, such as running, blocked or completed
    #[arg(long)]
    status: Option<RunStatus>,
    /// Only runs of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<OpName>,
    /// Only runs with this label; given several times, runs with all of them
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How many runs at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    limit: u32,
    /// Only runs that were started before the run with this `seq`, to continue a list
    #[arg(long, value_name = "SEQ", allow_negative_numbers = true)]
    after: Option<Seq>,
    /// The runs as they were at this event (its number, or a time of the node's clock)
    #[arg(long, value_name = "SEQ|TIME", allow_negative_numbers = true)]
    at: Option<At>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `NAME=VALUE`, as `run` and `start` of an app take it.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no label: use NAME=VALUE, such as team=ml")),
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut runs = args.listed()?;
    let shown = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let more = runs.len() > shown;
    runs.truncate(shown);
    let printed = match args.json {
        true => output::json(&runs)?,
        false => {
            let screen = screen::of_stdout();
            output::on_screen(&render::runs(&runs, screen), screen)?
        }
    };
    if let Some(last) = runs.last().filter(|_| more) {
        output::say(&format!(
            "there are more runs than --limit {} lets through: --after {} continues, --limit N \
             shows more",
            args.limit, last.seq
        ));
    }
    Ok(printed)
}

impl Args {
    /// The runs as a live node lists them, which spares a copy of its file, or as a file has them:
    /// one run more than is shown says whether there are more.
    fn listed(&self) -> anyhow::Result<Vec<RunSummary>> {
        let filter = RunFilter {
            status: self.status,
            workflow: self.workflow.clone(),
            id_part: None,
            labels: self.labels.clone(),
            after: self.after,
            limit: self.limit.saturating_add(1),
            bytes_max: None,
        };
        let source = self.from.source()?;
        if self.at.is_none() {
            let access = self.from.s3.access()?;
            if let Some(runs) = wait(async { Ok(access.ask_list(&source, &filter).await?) })? {
                return Ok(runs);
            }
        }
        let mut snapshot = self.from.open_source(&source, self.json)?;
        if let Some(at) = self.at {
            snapshot = snapshot.past(at.find(snapshot.connection())?)?;
        }
        let mut runs = query::runs(snapshot.connection(), &filter)?;
        waits::say(snapshot.connection(), &mut runs)?;
        query::add_activity(snapshot.connection(), &mut runs)?;
        Ok(runs)
    }
}
