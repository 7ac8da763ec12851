//! `tidemill runs`.

use std::process::ExitCode;

use tidemill_eventlog::query::{self, RunFilter};
use tidemill_eventlog::waits;
use tidemill_model::{OpName, RunStatus, RunSummary, Seq};
use tidemill_observer::render;

use crate::common::{FromArgs, wait};
use crate::output;

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
    /// How many runs at most
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true)]
    limit: u32,
    /// Only runs that were started before the run with this `seq`, to continue a list
    #[arg(long, value_name = "SEQ", allow_negative_numbers = true)]
    after: Option<Seq>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut runs = args.listed()?;
    let shown = usize::try_from(args.limit).unwrap_or(usize::MAX);
    if runs.len() > shown {
        runs.truncate(shown);
        let go_on = runs.last().map_or_else(String::new, |run| {
            format!(": --after {} continues, --limit N shows more", run.seq)
        });
        output::say(&format!(
            "there are more runs than --limit {} lets through{go_on}",
            args.limit
        ));
    }
    if args.json { output::json(&runs) } else { output::text(&render::runs(&runs)) }
}

impl Args {
    /// The runs as a live node lists them, which spares a copy of its file, or as a file has them:
    /// one run more than is shown says whether there are more.
    fn listed(&self) -> anyhow::Result<Vec<RunSummary>> {
        let filter = RunFilter {
            status: self.status,
            workflow: self.workflow.clone(),
            after: self.after,
            limit: self.limit.saturating_add(1),
            bytes_max: None,
        };
        let access = self.from.s3.access()?;
        if let Some(runs) = wait(async { Ok(access.ask_list(&self.from.from, &filter).await?) })? {
            return Ok(runs);
        }
        let snapshot = self.from.open(self.json)?;
        let mut runs = query::runs(snapshot.connection(), &filter)?;
        waits::say(snapshot.connection(), &mut runs)?;
        query::add_activity(snapshot.connection(), &mut runs)?;
        Ok(runs)
    }
}
