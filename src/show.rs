//! `tidemill show`.

use std::process::ExitCode;

use tidemill_model::{Payloads, RunId, RunView, Seq};
use tidemill_observer::{render, show};

use crate::common::{FromArgs, wait};
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
    let view = match args.ask()? {
        Some(view) => view,
        None => show(args.from.open(args.json)?.connection(), &args.run, args.at)?,
    };
    if args.json { output::json(&view) } else { output::text(&render::run(&view)) }
}

impl Args {
    /// The run as a live node shows it, which spares a copy of its file. Its past is in the copy.
    fn ask(&self) -> anyhow::Result<Option<RunView>> {
        if self.at.is_some() {
            return Ok(None);
        }
        let access = self.from.s3.access()?;
        // A line of text has room for no more than the heads.
        let payloads = if self.json { Payloads::Whole } else { Payloads::Heads };
        wait(async { Ok(access.ask(&self.from.from, &self.run, payloads).await?) })
    }
}
