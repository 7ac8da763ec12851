//! `tidemill events`.

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use tidemill_model::{EventView, Seq, terminal};
use tidemill_observer::{At, EventRange, for_each_event, render};

use crate::common::wait;
use crate::output::{say, written};
use crate::source::{First, FromArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run; all of the node's events without it. What has a `/` in it or ends with `.db` is the
    /// SOURCE
    #[arg(value_name = "RUN")]
    first: Option<First>,
    #[command(flatten)]
    from: FromArgs,
    /// Only events after this one
    #[arg(long, value_name = "SEQ", default_value = "0", allow_negative_numbers = true)]
    after: Seq,
    /// Only events up to this one (its number, or a time of the node's clock)
    #[arg(long, value_name = "SEQ|TIME", allow_negative_numbers = true)]
    at: Option<At>,
    /// How many events at most
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    limit: Option<u32>,
    /// Print JSON: one array
    #[arg(long)]
    json: bool,
}

/// Prints event by event, so that a long log is never in memory as a whole.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (run, source) = args.from.after(args.first.as_ref())?;
    let mut printer = Printer::new(args);
    // One event more than is shown says whether there are more.
    let wanted = args.limit.map_or(u32::MAX, |limit| limit.saturating_add(1));
    // One run's events come from the node itself, which spares a copy of its file.
    let asked = match run.filter(|_| args.at.is_none()) {
        Some(run) => {
            let access = args.from.s3.access()?;
            let each = |event| printer.print(&event);
            wait(access.ask_events(&source, run, args.after, wanted, each))?
        }
        None => false,
    };
    if !asked {
        let snapshot = args.from.open_source(&source, args.json)?;
        let until = args.at.map(|at| at.find(snapshot.connection())).transpose()?;
        let range = EventRange { after: args.after, until, limit: wanted };
        for_each_event(snapshot.connection(), run, range, |event| printer.print(&event))?;
    }
    printer.finish()
}

struct Printer {
    out: BufWriter<io::Stdout>,
    json: bool,
    limit: Option<u32>,
    printed: u32,
    last: Seq,
    more: bool,
}

impl Printer {
    fn new(args: &Args) -> Printer {
        let (json, limit) = (args.json, args.limit);
        let out = BufWriter::new(io::stdout());
        Printer { out, json, limit, printed: 0, last: args.after, more: false }
    }

    fn print(&mut self, event: &EventView) -> anyhow::Result<()> {
        if self.limit.is_some_and(|limit| self.printed >= limit) {
            self.more = true;
            return Ok(());
        }
        let line = if self.json {
            let before = if self.printed == 0 { "[\n  " } else { ",\n  " };
            before.to_owned() + &terminal::json(&serde_json::to_string(event)?)
        } else {
            render::event_line(event)
        };
        self.printed = self.printed.saturating_add(1);
        self.last = event.seq;
        written(self.out.write_all(line.as_bytes()))
    }

    fn finish(mut self) -> anyhow::Result<ExitCode> {
        if self.json {
            let end = if self.printed == 0 { "[]\n" } else { "\n]\n" };
            written(self.out.write_all(end.as_bytes()))?;
        }
        written(self.out.flush())?;
        if let (true, Some(limit)) = (self.more, self.limit) {
            let last = self.last;
            say(&format!(
                "there are more events than --limit {limit} lets through: --after {last} continues"
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
