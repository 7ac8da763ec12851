//! `tidemill nodes`.

use std::process::ExitCode;

use tidemill_model::FleetUrl;
use tidemill_observer::{nodes, render};

use crate::common::{S3Args, wait};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The fleet, s3://BUCKET/FLEET
    fleet: FleetUrl,
    #[command(flatten)]
    s3: S3Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let access = args.s3.access()?;
    let nodes = wait(async { Ok(nodes(&access, &args.fleet).await?) })?;
    if nodes.is_empty() {
        // A wrong name and an empty fleet look the same from here.
        output::say(&format!("no node ever claimed a lease under {}", args.fleet));
    }
    if args.json { output::json(&nodes) } else { output::text(&render::nodes(&nodes)) }
}
