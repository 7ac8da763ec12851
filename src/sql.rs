//! `tidemill sql`.

use std::process::ExitCode;

use tidemill_observer::{render, sql};

use crate::common::FromArgs;
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One SELECT statement, such as "SELECT run, status FROM runs"
    statement: String,
    #[command(flatten)]
    from: FromArgs,
    /// How many rows at most
    #[arg(long, value_name = "N", default_value_t = 10_000, allow_negative_numbers = true)]
    limit: usize,
    /// Print JSON: the columns' names, the rows as arrays, and whether rows were left out
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut snapshot = args.from.open(args.json)?;
    let table = sql::query(snapshot.connection_mut(), &args.statement, args.limit)?;
    if table.truncated {
        output::say(&format!("there are more rows than --limit {} lets through", args.limit));
    }
    if args.json { output::json(&table) } else { output::text(&render::table(&table)) }
}
