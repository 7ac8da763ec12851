//! What the program is asked for.

use std::path::PathBuf;

use clap::Parser;

use crate::order::Order;

/// Say how fast the engine is on this machine, beside its disk and beside a bare skeleton.
///
/// The table's raw rows are a loop over SQLite that writes what the engine writes and does nothing
/// else; its skeleton rows are the least that any engine of this shape does: a task a run, a
/// channel, a writer's thread, a reply, a spawned body. A ratio is that of two rows of the same
/// round, and the middle one of all rounds is shown: machines differ and are shared, ratios less.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Rounds of the table; each measures all rows, every other one in reverse
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Steps of the rows of one run, in each round
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) steps: u32,
    /// Steps of each of the 256 runs, in each round
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) steps_each: u32,
    /// The folder whose disk is measured; a new folder in it is used and deleted
    #[arg(long, default_value = "target")]
    pub(crate) dir: PathBuf,
    /// Measure only a file with so many runs that wait
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) waiting: Option<u32>,
    /// Measure only a parent with so many children
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) children: Option<u32>,
    /// The order of a process that measures one thing
    #[arg(long, hide = true, value_parser = Order::parse)]
    pub(crate) order: Option<Order>,
}
