//! What is measured for which arguments.

use std::path::Path;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::order::Site;
use crate::processors::Processors;
use crate::table::Print;
use crate::{cancel, children, fan_out, fork, observer, replay, rounds, signals, waiting};

/// The default number of rounds of the table.
const TABLE_ROUNDS: u32 = 10;

/// The default number of rounds of every other mode.
const ROUNDS: u32 = 5;

/// What was measured, and under which conditions: without them, figures say nothing.
#[derive(Serialize)]
struct BenchReport<'a, T> {
    folder: &'a Path,
    /// How many threads run at once on this machine.
    cores: usize,
    /// The share of their time that other processes used meanwhile.
    others: f64,
    /// How much longer each sync was made, in seconds.
    slow_sync_s: f64,
    rounds: u32,
    measured: T,
}

/// Measures what is asked for and prints it.
pub(crate) fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, whose figures say nothing: use `make bench`");
    }
    let rounds = arguments.rounds.unwrap_or(ROUNDS);
    if let Some(runs) = arguments.waiting {
        show(arguments, 1, |site| waiting::measure(site, runs))
    } else if let Some(runs) = arguments.children {
        show(arguments, rounds, |site| children::measure(site, runs, rounds))
    } else if let Some(runs) = arguments.cancel {
        show(arguments, rounds, |site| cancel::measure(site, runs, rounds))
    } else if let Some(count) = arguments.signals {
        show(arguments, rounds, |site| signals::measure(site, count, rounds))
    } else if let Some(events) = arguments.fork {
        show(arguments, rounds, |site| fork::measure(site, events, rounds))
    } else if let Some(events) = arguments.replay {
        show(arguments, rounds, |site| replay::measure(site, events, rounds))
    } else if let Some(runs) = arguments.observer {
        show(arguments, rounds, |site| observer::measure(site, runs, rounds))
    } else if let Some(steps) = arguments.fan_out {
        show(arguments, rounds, |site| fan_out::measure(site, steps, rounds))
    } else {
        let rounds = arguments.rounds.unwrap_or(TABLE_ROUNDS);
        let (steps, each) = (arguments.steps, arguments.steps_each);
        show(arguments, rounds, |site| rounds::measure(site, steps, each, rounds))
    }
}

fn show<T: Serialize + Print>(
    arguments: &Arguments,
    rounds: u32,
    measure: impl FnOnce(&Site) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let Arguments { json, dir: folder, slow_sync, .. } = arguments;
    let before = Processors::now()?;
    let measured = measure(&Site { dir: folder.clone(), slow_sync: *slow_sync })?;
    let others = Processors::now()?.others_since(before);
    let cores = std::thread::available_parallelism()?.get();
    if *json {
        let slow_sync_s = slow_sync.as_secs_f64();
        let report = BenchReport { folder, cores, others, slow_sync_s, rounds, measured };
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    let syncs = match slow_sync.is_zero() {
        true => "syncs as the disk makes them".to_owned(),
        false => format!("each sync {slow_sync:?} longer"),
    };
    println!("files in {}, {syncs}; {cores} cores; rounds: {rounds}", folder.display());
    println!(
        "other processes used {:.0} % of the processors meanwhile: believe this on an idle machine",
        others * 1e2
    );
    println!();
    measured.print();
    Ok(())
}
