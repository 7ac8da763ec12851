//! How many runs were started when, as bars. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use tidemill_eventlog::run_list::{StartedIn, Stretch};
use tidemill_model::{RunStatus, Timestamp};

use crate::words;

/// Bars in a chart: each is a few pixels wide on a laptop.
const BARS_MAX: i64 = 180;

const WIDTH: i64 = 1_000;
const HEIGHT: i64 = 56;

/// The bars: each counts the runs of one stretch of time by their status now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Starts {
    /// How many seconds each bar covers.
    pub seconds: i64,
    /// When the first bar begins.
    pub from: Timestamp,
    /// The bars that have any run, by their place from 0.
    pub bars: BTreeMap<i64, BTreeMap<RunStatus, u64>>,
}

impl Starts {
    /// The stretch that counts runs between two times in a few hundred rows.
    pub(crate) fn stretch(first: Timestamp, last: Timestamp) -> Stretch {
        let seconds = seconds(last) - seconds(first);
        let fits = |stretch: &Stretch| seconds / stretch.seconds() <= 10 * BARS_MAX;
        [Stretch::Minute, Stretch::Hour].into_iter().find(fits).unwrap_or(Stretch::Day)
    }

    /// The bars of counts in such stretches.
    pub(crate) fn of(stretch: Stretch, counts: Vec<StartedIn>) -> Starts {
        let first = counts.iter().map(|it| it.from).min();
        let last = counts.iter().map(|it| it.from).max();
        let from = first.unwrap_or_else(|| Timestamp::from_micros(0).expect("1970 is a time"));
        let span = last.map_or(0, seconds) - seconds(from);
        let stretches = span / stretch.seconds() + 1;
        let each = (stretches + BARS_MAX - 1) / BARS_MAX * stretch.seconds();
        let mut bars: BTreeMap<i64, BTreeMap<RunStatus, u64>> = BTreeMap::new();
        for it in counts {
            let bar = bars.entry((seconds(it.from) - seconds(from)) / each.max(1)).or_default();
            *bar.entry(it.status).or_default() += it.runs;
        }
        Starts { seconds: each.max(1), from, bars }
    }

    /// The chart: one path for each status, so that its size depends on nothing else.
    pub fn html(&self) -> Markup {
        let most = self.bars.values().map(|bar| bar.values().sum::<u64>()).max().unwrap_or(1);
        let count = self.bars.keys().last().map_or(1, |last| last + 1).max(12);
        let mut paths: BTreeMap<RunStatus, String> = BTreeMap::new();
        for (place, bar) in &self.bars {
            let (x, end) = (place * WIDTH / count, (place + 1) * WIDTH / count);
            let mut upto = 0;
            for (status, runs) in bar {
                let (low, high) = (height(upto, most), height(upto + runs, most));
                upto += runs;
                let path = paths.entry(*status).or_default();
                let width = (end - x - 1).max(1);
                write!(path, "M{x} {}h{width}V{}h-{width}z", HEIGHT - low, HEIGHT - high)
                    .expect("a string takes it");
            }
        }
        let each = words::duration(u64::try_from(self.seconds).unwrap_or(0) * 1_000);
        let label = format!("runs by when they were started, from {}", words::clock(self.from));
        html! {
            svg.chart viewBox=(format!("0 0 {WIDTH} {}", HEIGHT + 16)) role="img" aria-label=(label) {
                title { (label) "; a bar is " (each) ", the highest " (words::count(most, "run")) }
                @for (status, path) in &paths { path class=(class(*status)) d=(path) {} }
                text x="2" y=(HEIGHT + 13) { (words::clock(self.from)) " · a bar is " (each) " · at most " (words::count(most, "run")) }
            }
        }
    }
}

fn height(runs: u64, most: u64) -> i64 {
    let scaled = u128::from(runs) * u128::from(HEIGHT.unsigned_abs() - 4) / u128::from(most.max(1));
    i64::try_from(scaled).unwrap_or(0) + i64::from(runs > 0) * 2
}

fn seconds(at: Timestamp) -> i64 {
    at.as_micros() / 1_000_000
}

/// The class that colours what has this status.
pub(crate) fn class(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Completed => "completed",
        RunStatus::Failed | RunStatus::Blocked => "failed",
        RunStatus::Running => "running",
        RunStatus::Cancelled => "dropped",
        _ => "waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000).unwrap()
    }

    fn counts(each: &[i64]) -> Vec<StartedIn> {
        each.iter()
            .map(|second| StartedIn { from: at(*second), status: RunStatus::Completed, runs: 1 })
            .collect()
    }

    #[test]
    fn a_chart_has_as_many_bars_as_are_readable() {
        let year = 365 * 86_400;
        assert_eq!(Starts::stretch(at(0), at(3_600)), Stretch::Minute);
        assert_eq!(Starts::stretch(at(0), at(10 * 86_400)), Stretch::Hour);
        assert_eq!(Starts::stretch(at(0), at(year)), Stretch::Day);
        let days: Vec<i64> = (0..365).map(|day| day * 86_400).collect();
        let starts = Starts::of(Stretch::Day, counts(&days));
        assert!(starts.bars.len() <= 180, "{}", starts.bars.len());
        assert_eq!(starts.bars.values().flat_map(|bar| bar.values()).sum::<u64>(), 365);
        assert!(starts.html().into_string().len() < 20_000);
    }

    #[test]
    fn one_run_is_a_bar() {
        let starts = Starts::of(Stretch::Minute, counts(&[60]));
        assert_eq!(starts.bars.len(), 1);
        assert!(starts.html().into_string().contains("at most 1 run"));
    }
}
