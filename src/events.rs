//! `tidemill events`.

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use tidemill_model::{EventView, RunId, Seq, terminal};
use tidemill_observer::{for_each_event, render};

use crate::common::FromArgs;
use crate::output::written;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; all of the node's events without it
    run: Option<RunId>,
    #[command(flatten)]
    from: FromArgs,
    /// Only events after this one
    #[arg(long, value_name = "SEQ", default_value = "0", allow_negative_numbers = true)]
    after: Seq,
    /// How many events at most
    #[arg(
        long,
        value_name = "N",
        default_value_t = u32::MAX,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    limit: u32,
    /// Print JSON: one array
    #[arg(long)]
    json: bool,
}

/// Prints event by event, so that a long log is never in memory as a whole.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.from.open(args.json)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut before = "[\n  ";
    let print = |event: EventView| {
        let line = if args.json {
            let event = serde_json::to_string(&event)?;
            std::mem::replace(&mut before, ",\n  ").to_owned() + &terminal::json(&event)
        } else {
            render::event_line(&event)
        };
        written(out.write_all(line.as_bytes()))
    };
    for_each_event(snapshot.connection(), args.run.as_ref(), args.after, args.limit, print)?;
    if args.json {
        let end = if before.starts_with('[') { "[]\n" } else { "\n]\n" };
        written(out.write_all(end.as_bytes()))?;
    }
    written(out.flush())?;
    Ok(ExitCode::SUCCESS)
}
