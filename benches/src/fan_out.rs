//! One run that starts very many steps at once and waits for all, and a quarter of them.
//!
//! The bar: the time is linear in the number of steps up to 80,000, so four times as many take
//! four times as long.

use serde::Serialize;

use crate::measure::Figures;
use crate::order::{Site, Workload};
use crate::spread::Spread;
use crate::table::{Print, PrintedLine, print_lines};

/// What was measured in all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct FanOut {
    steps: u32,
    /// Until the run of all steps had ended.
    seconds: Spread,
    /// Until the run of a quarter of them had ended.
    quarter_seconds: Spread,
    /// All against a quarter of the same round.
    times: Spread,
    steps_a_commit: Spread,
    /// The most memory of the process that did all (`VmHWM`), in MiB.
    most_mib: Spread,
}

/// Measures a quarter of the steps and all of them, alternately.
pub(crate) fn measure(site: &Site, steps: u32, rounds: u32) -> anyhow::Result<FanOut> {
    let quarter = steps / 4;
    let mut done: Vec<(Figures, Figures)> = Vec::new();
    for _ in 0..rounds {
        let part = site.run(Workload::FanOut { steps: quarter })?;
        done.push((part, site.run(Workload::FanOut { steps })?));
    }
    let seconds = |steps: u32, figures: &Figures| f64::from(steps) / figures.per_second;
    let parts = done.iter().map(|(part, _)| seconds(quarter, part));
    let wholes = done.iter().map(|(_, whole)| seconds(steps, whole));
    Ok(FanOut {
        steps,
        times: Spread::of(wholes.clone().zip(parts.clone()).map(|(whole, part)| whole / part)),
        seconds: Spread::of(wholes),
        quarter_seconds: Spread::of(parts),
        steps_a_commit: Spread::of(done.iter().map(|(_, whole)| whole.steps_a_commit)),
        most_mib: Spread::of(done.iter().map(|(_, whole)| whole.most_mib)),
    })
}

impl Print for FanOut {
    fn print(&self) {
        let FanOut { steps, seconds, quarter_seconds, times, steps_a_commit, most_mib } = self;
        print_lines(&[
            PrintedLine::of("steps that one run starts at once", steps, ""),
            PrintedLine::spread("until all have ended, s", seconds, 2, ""),
            PrintedLine::spread("until a quarter of as many have, s", quarter_seconds, 2, ""),
            PrintedLine::spread("times as long for four times as many", times, 2, "about 4"),
            PrintedLine::spread("steps a commit", steps_a_commit, 1, ""),
            PrintedLine::spread("most memory of the process, MiB", most_mib, 1, ""),
        ]);
    }
}
