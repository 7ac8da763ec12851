//! `tidemill timeline`.

use std::process::ExitCode;

use tidemill_observer::render::{self, TimelineOptions};

use crate::common::wait;
use crate::source::FromArgs;
use crate::{output, screen};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: FromArgs,
    /// Print every point of every epoch, however many there are
    #[arg(long)]
    all: bool,
    /// The oldest first
    #[arg(long)]
    oldest_first: bool,
    /// Print JSON, always with every point, the oldest first
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let source = args.from.source()?;
    let access = args.from.s3.access()?;
    let history = wait(async { Ok(access.history(&source).await?) })?;
    if args.json {
        return output::json(&history);
    }
    let options = TimelineOptions { all: args.all, oldest_first: args.oldest_first };
    let screen = screen::of_stdout();
    output::on_screen(&render::history(&history, options, screen), screen)
}
