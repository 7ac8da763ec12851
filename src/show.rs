//! `tidemill show`.

use std::process::ExitCode;

use tidemill_model::{OpId, Payloads, RunId, RunView};
use tidemill_observer::render::Fold;
use tidemill_observer::{At, Source, only_failed, only_operation, render, show};

use crate::common::wait;
use crate::source::FromArgs;
use crate::{output, screen};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run
    run: RunId,
    #[command(flatten)]
    from: FromArgs,
    /// Show it as it was at this event (its number, or a time of the node's clock)
    #[arg(long, value_name = "SEQ|TIME", allow_negative_numbers = true)]
    at: Option<At>,
    /// Only this operation, with its input and output whole
    #[arg(long, value_name = "N", value_parser = operation, conflicts_with_all = ["failed", "all"])]
    op: Option<OpId>,
    /// Only what failed, was cut off, or has a child in which something did
    #[arg(long)]
    failed: bool,
    /// Every operation of a long run
    #[arg(long)]
    all: bool,
    /// Print JSON, always with every operation that the options leave
    #[arg(long)]
    json: bool,
}

fn operation(text: &str) -> Result<OpId, String> {
    let invalid = || format!("`{text}` is no operation: `tidemill show RUN` has their numbers");
    text.parse().ok().and_then(|number| OpId::new(number).ok()).ok_or_else(invalid)
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let source = args.from.source()?;
    let mut view = match args.ask(&source)? {
        Some(view) => view,
        None => {
            let snapshot = args.from.open_source(&source, args.json)?;
            let until = args.at.map(|at| at.find(snapshot.connection())).transpose()?;
            show(snapshot.connection(), &args.run, until)?
        }
    };
    if let Some(op) = args.op {
        only_operation(&mut view, op)?;
    }
    if args.failed {
        only_failed(&mut view);
    }
    if args.json {
        return output::json(&view);
    }
    let fold = match args.op {
        Some(op) => Fold::Operation(op),
        None if args.all => Fold::All,
        None => Fold::Long,
    };
    let screen = screen::of_stdout();
    output::on_screen(&render::run(&view, &fold, screen), screen)
}

impl Args {
    /// The run as a live node shows it, which spares a copy of its file. Its past is in the copy.
    fn ask(&self, source: &Source) -> anyhow::Result<Option<RunView>> {
        if self.at.is_some() {
            return Ok(None);
        }
        let access = self.from.s3.access()?;
        // A line of text has room for no more than the heads.
        let payloads =
            if self.json || self.op.is_some() { Payloads::Whole } else { Payloads::Heads };
        wait(async { Ok(access.ask(source, &self.run, payloads).await?) })
    }
}
