//! What is measured for which arguments.

use std::path::Path;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::order::Site;
use crate::table::Print;
use crate::{children, fan_out, replay, rounds, waiting};

/// Rounds of the table, if nobody says.
const TABLE_ROUNDS: u32 = 10;

/// Rounds of anything else.
const ROUNDS: u32 = 5;

/// What was measured, and under which conditions: without them, figures say nothing.
#[derive(Serialize)]
struct Report<'a, T> {
    folder: &'a Path,
    /// How many threads run at once on this machine.
    cores: usize,
    /// How much longer each sync was made, in seconds.
    slow_sync_s: f64,
    rounds: u32,
    measured: &'a T,
}

/// Measures what is asked for and prints it.
pub(crate) fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, whose figures say nothing: use `make bench`");
    }
    let site = Site { dir: arguments.dir.clone(), slow_sync: arguments.slow_sync };
    let rounds = arguments.rounds.unwrap_or(ROUNDS);
    if let Some(runs) = arguments.waiting {
        show(arguments, 1, &waiting::measure(&site, runs)?)
    } else if let Some(runs) = arguments.children {
        show(arguments, rounds, &children::measure(&site, runs, rounds)?)
    } else if let Some(events) = arguments.replay {
        show(arguments, rounds, &replay::measure(&site, events, rounds)?)
    } else if let Some(steps) = arguments.fan_out {
        show(arguments, rounds, &fan_out::measure(&site, steps, rounds)?)
    } else {
        let rounds = arguments.rounds.unwrap_or(TABLE_ROUNDS);
        let rows = rounds::measure(&site, arguments.steps, arguments.steps_each, rounds)?;
        show(arguments, rounds, &rows)
    }
}

fn show<T: Serialize + Print>(
    arguments: &Arguments,
    rounds: u32,
    measured: &T,
) -> anyhow::Result<()> {
    let Arguments { json, dir: folder, slow_sync, .. } = arguments;
    let cores = std::thread::available_parallelism()?.get();
    if *json {
        let slow_sync_s = slow_sync.as_secs_f64();
        let report = Report { folder, cores, slow_sync_s, rounds, measured };
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    let syncs = match slow_sync.is_zero() {
        true => "syncs as the disk makes them".to_owned(),
        false => format!("each sync {slow_sync:?} longer"),
    };
    println!("files in {}, {syncs}; {cores} cores; rounds: {rounds}\n", folder.display());
    measured.print();
    Ok(())
}
