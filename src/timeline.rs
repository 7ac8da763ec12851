//! `tidemill timeline`.

use std::process::ExitCode;

use tidemill_observer::{Source, render};

use crate::common::{S3Args, wait};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node: s3://BUCKET/FLEET/NODE, a file, or http://HOST:PORT
    source: Source,
    /// Print every point, however many there are
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    s3: S3Args,
    /// Print JSON, always with every point
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let access = args.s3.access()?;
    let history = wait(async { Ok(access.history(&args.source).await?) })?;
    if args.json {
        output::json(&history)
    } else {
        output::text(&render::history(&history, args.all))
    }
}
