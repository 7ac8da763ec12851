//! `tidemill restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use tidemill_observer::render;

use crate::common::{FromArgs, wait};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: FromArgs,
    /// The new file; nothing is overwritten
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let access = args.from.s3.access()?;
    let restored = wait(async { Ok(access.restore_to(&args.from.from, &args.to).await?) })?;
    if args.json { output::json(&restored) } else { output::text(&render::restored(&restored)) }
}
