//! What is measured for which arguments.

use serde::Serialize;

use crate::arguments::Arguments;
use crate::order::Site;
use crate::{children, fan_out, replay, rounds, table, waiting};

/// Rounds of the table, if nobody says.
const TABLE_ROUNDS: u32 = 10;

/// Rounds of anything else.
const ROUNDS: u32 = 5;

/// Measures what is asked for and prints it.
pub(crate) fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let site = Site { dir: arguments.dir.clone(), slow_sync: arguments.slow_sync };
    let rounds = arguments.rounds.unwrap_or(ROUNDS);
    if let Some(runs) = arguments.waiting {
        let waiting = waiting::measure(&site, runs)?;
        show(arguments, &waiting, |of| table::print_lines(&of.lines()))
    } else if let Some(runs) = arguments.children {
        let children = children::measure(&site, runs, rounds)?;
        show(arguments, &children, |of| table::print_lines(&of.lines()))
    } else if let Some(events) = arguments.replay {
        let replay = replay::measure(&site, events, rounds)?;
        show(arguments, &replay, |of| table::print_lines(&of.lines()))
    } else if let Some(steps) = arguments.fan_out {
        let fan_out = fan_out::measure(&site, steps, rounds)?;
        show(arguments, &fan_out, |of| table::print_lines(&of.lines()))
    } else {
        let rounds = arguments.rounds.unwrap_or(TABLE_ROUNDS);
        let rows = rounds::measure(&site, arguments.steps, arguments.steps_each, rounds)?;
        show(arguments, &rows, |rows| table::print_rows(rows))
    }
}

fn show<T: Serialize>(
    arguments: &Arguments,
    measured: &T,
    print: impl Fn(&T),
) -> anyhow::Result<()> {
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(measured)?),
        false => print(measured),
    }
    Ok(())
}
