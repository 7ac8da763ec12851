//! `tidemill show`.

use std::process::ExitCode;

use tidemill_model::{RunId, Seq};
use tidemill_observer::{render, show};

use crate::common::FromArgs;
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: RunId,
    #[command(flatten)]
    from: FromArgs,
    /// Show it as it was up to this event
    #[arg(long, value_name = "SEQ", allow_negative_numbers = true)]
    at: Option<Seq>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.from.open(args.json)?;
    let view = show(snapshot.connection(), &args.run, args.at)?;
    if args.json { output::json(&view) } else { output::text(&render::run(&view)) }
}
