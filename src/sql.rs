//! `tidemill sql`.

use std::process::ExitCode;
use std::time::Duration;

use tidemill_observer::sql::{Limits, TableSchema};
use tidemill_observer::{At, Snapshot, Source, render, sql};

use crate::source::FromArgs;
use crate::{output, screen, sidecar};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One SELECT statement, such as "SELECT run, status FROM runs"; --schema lists what there is
    #[arg(required_unless_present = "schema")]
    statement: Option<String>,
    #[command(flatten)]
    from: FromArgs,
    /// List the views and tables with what each column holds
    #[arg(long, conflicts_with_all = ["csv", "at"])]
    schema: bool,
    /// Answer from the runs as they were at this event (its number, or a time of the node's clock);
    /// your own tables have no past
    #[arg(long, value_name = "SEQ|TIME", allow_negative_numbers = true)]
    at: Option<At>,
    /// How many rows at most
    #[arg(long, value_name = "N", default_value_t = 10_000, allow_negative_numbers = true)]
    limit: usize,
    /// How long the statement may take, such as 500ms, 60s or 10m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = sidecar::duration)]
    time_limit: Duration,
    /// Print JSON: the columns' names, the rows as arrays, and whether rows were left out; a column
    /// of JSON has its values as they are
    #[arg(long)]
    json: bool,
    /// Print CSV; a text that a spreadsheet would run as a formula gets an apostrophe in front
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.schema {
        return print_schema(args);
    }
    let mut snapshot = args.from.open(args.json)?;
    if let Some(at) = args.at {
        snapshot = snapshot.past(at.find(snapshot.connection())?)?;
    }
    let statement = args.statement.as_deref().unwrap_or_default();
    let limits = Limits { rows: args.limit, bytes: usize::MAX, time: args.time_limit };
    let table = sql::query(snapshot.connection_mut(), statement, limits)?;
    let screen = screen::of_stdout();
    let printed = if args.json {
        output::json(&sql::to_json(&table))?
    } else if args.csv {
        output::raw(&sql::to_csv(&table), screen)?
    } else {
        output::on_screen(&render::answer(&table, screen), screen)?
    };
    if table.truncated {
        output::say(&format!("there are more rows than --limit {} lets through", args.limit));
    }
    Ok(printed)
}

fn print_schema(args: &Args) -> anyhow::Result<ExitCode> {
    // There is no statement, so the first argument is the source.
    let first = args.statement.as_deref().map(str::parse::<Source>).transpose()?;
    let source = match first {
        Some(first) => args.from.or_first(first)?,
        None => args.from.source()?,
    };
    let snapshot: Snapshot = args.from.open_source(&source, args.json)?;
    let tables: Vec<TableSchema> = sql::schema(snapshot.connection())?;
    if args.json {
        return output::json(&tables);
    }
    let screen = screen::of_stdout();
    output::on_screen(&render::schema(&tables, screen), screen)
}
