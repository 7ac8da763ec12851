//! Asks the same of many runs of a serving node: those of a filter, some at a time.
//!
//! The runs are listed first, so that a run which is started meanwhile is not asked. Each is then asked
//! as one is; one that has ended meanwhile is none of our business.

use std::process::ExitCode;

use clap::Args;
use futures_util::StreamExt as _;
use tidemill_client::NodeClient;
use tidemill_model::{RunId, RunPage, RunStatus, RunSummary};

use super::args::label;
use super::{CommandResult, print_line, say};
use crate::client::with_options;
use crate::error::{Error, ErrorKind};

/// How many are asked at a time: enough that the node writes many in one commit.
const AT_A_TIME: usize = 32;

/// Which runs, instead of one.
#[derive(Debug, Args)]
#[group(id = "many", multiple = true)]
pub(super) struct Many {
    /// Ask it of all runs of this workflow
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    workflow: Option<String>,
    /// Ask it of all runs of this status
    #[arg(long, value_name = "STATUS", conflicts_with = "run")]
    status: Option<RunStatus>,
    /// Ask it of all runs with this label; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label, conflicts_with = "run")]
    labels: Vec<(String, String)>,
    /// Ask it of all runs that it can be asked of
    #[arg(long, conflicts_with = "run")]
    all: bool,
}

impl Many {
    /// Whether a run is one of them, by what a list does not filter.
    fn has(&self, status: RunStatus) -> bool {
        self.status.is_none_or(|only| only == status)
    }
}

/// Of which runs something can be asked at all.
fn can_be_asked(what: &str) -> &'static [RunStatus] {
    use RunStatus::{Blocked, Cancelling, Failed, Paused, Pending, Running, Suspended};
    match what {
        "resume" => &[Blocked, Paused],
        "retry" => &[Failed],
        "pause" => &[Pending, Running, Suspended],
        "terminate" => &[Pending, Running, Suspended, Paused, Blocked, Cancelling],
        _ => &[Pending, Running, Suspended, Paused, Blocked],
    }
}

/// Asks it of all runs of the filter, or only prints which they are: one line for each, with what it is
/// then. 0 if none refused.
pub(super) async fn ask<Became: std::fmt::Display>(
    what: &str,
    (many, dry_run): (Many, bool),
    node: &NodeClient,
    asked: impl AsyncFn(RunId) -> Result<Became, Error>,
) -> CommandResult {
    let runs = listed(node, &many, can_be_asked(what)).await?;
    if dry_run {
        for run in &runs {
            print_line(&format!("{}  {}  {}", run.id, run.workflow, run.status));
        }
        say(&format!("{what} would be asked of {} runs; nothing was asked", runs.len()));
        return Ok(ExitCode::SUCCESS);
    }
    let asked = &asked;
    let asking = runs.iter().map(|run| async move { (&run.id, asked(run.id.clone()).await) });
    let mut answers = futures_util::stream::iter(asking).buffer_unordered(AT_A_TIME);
    let (mut done, mut ended, mut refused) = (0_u64, 0_u64, 0_u64);
    while let Some((run, answer)) = answers.next().await {
        match answer {
            Ok(became) => {
                done += 1;
                print_line(&format!("{run}  {became}"));
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                ended += 1;
                say(&format!("{run}: {error}"));
            }
            Err(error) => {
                refused += 1;
                say(&format!("error: {run}: {error}"));
            }
        }
    }
    say(&format!(
        "{what}: {done} runs, {ended} that it could not be asked of now, {refused} errors"
    ));
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The runs of a filter that have one of these statuses, the newest first within each.
async fn listed(
    node: &NodeClient,
    many: &Many,
    statuses: &[RunStatus],
) -> Result<Vec<RunSummary>, Error> {
    let labels: Vec<String> =
        many.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut found = Vec::new();
    for status in statuses.iter().filter(|status| many.has(**status)) {
        let mut after = None::<String>;
        loop {
            let mut options = vec![
                ("status", Some(status.as_str())),
                ("workflow", many.workflow.as_deref()),
                ("limit", Some("1000")),
                ("after", after.as_deref()),
            ];
            options.extend(labels.iter().map(|label| ("label", Some(label.as_str()))));
            let page: RunPage = node.get(&with_options("/v1/runs".to_owned(), &options)).await?;
            found.extend(page.runs);
            match page.next {
                Some(next) => after = Some(next.to_string()),
                None => break,
            }
        }
    }
    // A run may have changed its status between two lists.
    let mut seen = rustc_hash::FxHashSet::default();
    found.retain(|run| seen.insert(run.id.clone()));
    Ok(found)
}
