//! What the program is asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;

use crate::order::Order;
use crate::slow_sync;

/// Say how fast the engine is on this machine, beside its disk and beside a bare skeleton.
///
/// The table's raw rows are a loop over SQLite that writes what the engine writes and does nothing
/// else. Its skeleton rows are the least that an engine of this shape does: a task a run, a channel
/// to a writer's thread, one transaction for all that waits there, a reply, a spawned body a step.
///
/// A ratio is that of two rows of the same round, and the middle one of all rounds is shown with
/// its quartiles: machines differ and are shared, ratios less. Each row of each round is measured
/// by a process of its own.
#[derive(Parser)]
#[command(name = "tidemill-benches")]
pub(crate) struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// The folder whose disk is measured; a new folder in it is used and deleted
    #[arg(long, value_name = "FOLDER", default_value = "target")]
    pub(crate) dir: PathBuf,

    /// Make each sync longer by this (1ms, 500us), for all rows alike: a disk in a data centre. In
    /// /dev/shm, where a sync costs nothing, that is all that it takes, and there is little noise
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = slow_sync::parse)]
    pub(crate) slow_sync: Duration,

    /// Rounds [default: 10 of the table, every other one in reverse; 5 of anything else]
    #[arg(long, value_name = "N", value_parser = up_to(1, 999))]
    pub(crate) rounds: Option<u32>,

    /// Steps of the table's rows of one run, in each round
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = up_to(10, 100_000))]
    pub(crate) steps: u32,

    /// Steps of each of the table's 256 runs, in each round
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = up_to(1, 1_000))]
    pub(crate) steps_each: u32,

    /// Instead of the table: one run that starts this many steps at once, and a quarter of them.
    /// Goal: linear, 80,000 take four times as long as 20,000
    #[arg(long, value_name = "STEPS", group = "mode", value_parser = up_to(4, 1_000_000))]
    pub(crate) fan_out: Option<u32>,

    /// Instead of the table: replay one run with this many events [default: 50000].
    /// Goal for 50,000: less than a second
    #[arg(
        long,
        value_name = "EVENTS",
        group = "mode",
        num_args = 0..=1,
        default_missing_value = "50000",
        value_parser = up_to(3, 1_000_000)
    )]
    pub(crate) replay: Option<u32>,

    /// Instead of the table: open a file with this many waiting runs. Goals for 1,000,000: open in
    /// 2 s, 150 MiB, 1 MiB of WAL, a start in 1.2 times what it takes elsewhere, a wake in 50 ms
    #[arg(long, value_name = "RUNS", group = "mode", value_parser = up_to(1, 10_000_000))]
    pub(crate) waiting: Option<u32>,

    /// Instead of the table: a parent with this many children, compared with as many runs alone.
    /// Goals for 10,000: 1.5 times as long, other runs start within 50 ms, 200 MiB
    #[arg(long, value_name = "RUNS", group = "mode", value_parser = up_to(1, 100_000))]
    pub(crate) children: Option<u32>,

    /// Instead of the table: cancel this many sleeping runs at once, each with a clean-up. Goals for
    /// 10,000: three times as long as starting them, other runs start within 50 ms
    #[arg(long, value_name = "RUNS", group = "mode", value_parser = up_to(1, 100_000))]
    pub(crate) cancel: Option<u32>,

    /// Instead of the table: this many signals, each sent when the one before was taken, to one run
    /// and to 256 at once, compared with as many steps
    #[arg(long, value_name = "SIGNALS", group = "mode", value_parser = up_to(256, 100_000))]
    pub(crate) signals: Option<u32>,

    /// Instead of the table: the fork of a run of this many events that failed at its last step, and
    /// how long the start of another run takes meanwhile. Goals for 10000: 250 ms and 100 ms
    #[arg(long, value_name = "EVENTS", group = "mode", value_parser = up_to(4, 90_000))]
    pub(crate) fork: Option<u32>,

    /// Instead of the table: `tidemill observe` of a node with this many runs [default: 100000],
    /// each of 51 events, and of two more. Goals: 100 ms a look, a restore in 1.1 times that of
    /// Litestream, 150 MiB
    #[arg(
        long,
        value_name = "RUNS",
        group = "mode",
        num_args = 0..=1,
        default_missing_value = "100000",
        value_parser = up_to(100, 1_000_000)
    )]
    pub(crate) observer: Option<u32>,

    /// The app of the nodes that the observer is shown
    #[arg(long, hide = true)]
    pub(crate) serve_app: bool,

    /// The order of a process that measures one thing
    #[arg(long, hide = true, value_parser = Order::parse)]
    pub(crate) order: Option<Order>,
}

fn up_to(least: u64, most: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(least..=most)
}
