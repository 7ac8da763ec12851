//! The rows of the table, measured in rounds.
//!
//! A ratio compares two rows of one round, which are measured seconds apart, so that a disk which
//! is slow for a while slows both. The table shows the median of all rounds. Every other round
//! measures its rows in reverse order, so that no row always follows the same other row.

use serde::Serialize;

use crate::engine::Bodies;
use crate::measure::Figures;
use crate::order::{Site, Workload};
use crate::spread::Spread;

const RUNS: u32 = 256;

const RAW: &str = "raw: a step a commit, 2 rows";
const RAW_GROUP: &str = "raw: 256 steps a commit";
const SKELETON: &str = "skeleton: 1 run";
const SKELETON_GROUP: &str = "skeleton: 256 runs";
const ENGINE: &str = "engine: 1 run";
const ENGINE_GROUP: &str = "engine: 256 runs";

/// A row before it is measured.
struct PlannedRow {
    name: &'static str,
    work: Workload,
    against: Option<Bar>,
    against_skeleton: Option<Bar>,
}

/// The row that another is compared with, and the goal for the ratio.
struct Bar {
    of: &'static str,
    goal: Option<f64>,
}

/// A measured row: the median of each figure over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct MeasuredRow {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// The ratio to the raw loop of the same shape, or to the row that replaces it.
    pub(crate) ratio: Option<Ratio>,
    pub(crate) ratio_to_skeleton: Option<Ratio>,
}

/// Steps per second divided by those of another row in the same round.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    /// The other row's name.
    pub(crate) of: &'static str,
    #[serde(flatten)]
    pub(crate) spread: Spread,
    /// What the design asks of the median.
    pub(crate) goal: Option<f64>,
}

/// Measures all rows in all rounds.
pub(crate) fn measure(
    site: &Site,
    steps: u32,
    steps_each: u32,
    rounds: u32,
) -> anyhow::Result<Vec<MeasuredRow>> {
    let plans = plans(steps, steps_each);
    let mut done: Vec<Vec<Figures>> = plans.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        let mut order: Vec<usize> = (0..plans.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for row in order {
            done[row].push(site.run(plans[row].work)?);
        }
    }
    Ok(rows(&plans, &done))
}

fn plans(steps: u32, each: u32) -> Vec<PlannedRow> {
    let engine = |runs, steps, bodies| Workload::Engine { runs, steps, bodies };
    let base = |name, work| PlannedRow { name, work, against: None, against_skeleton: None };
    let held = |name, work, of, goal| {
        let against = Some(Bar { of, goal });
        PlannedRow { name, work, against, against_skeleton: None }
    };
    let whole = |name, work, of, goal, skeleton| {
        let against_skeleton = Some(Bar { of: skeleton, goal: Some(0.95) });
        PlannedRow { name, work, against: Some(Bar { of, goal: Some(goal) }), against_skeleton }
    };
    let blocking = |runs, steps| engine(runs, steps, Bodies::Blocking);
    vec![
        base("raw: a step in 2 commits", Workload::RawHalves { steps: steps / 2 }),
        base(RAW, Workload::Raw { runs: 1, steps }),
        held(SKELETON, Workload::Skeleton { runs: 1, steps }, RAW, None),
        whole(ENGINE, engine(1, steps, Bodies::Async), RAW, 0.9, SKELETON),
        held("engine: 1 run, blocking steps", blocking(1, steps), ENGINE, None),
        base(RAW_GROUP, Workload::Raw { runs: RUNS, steps: each }),
        held(SKELETON_GROUP, Workload::Skeleton { runs: RUNS, steps: each }, RAW_GROUP, None),
        whole(ENGINE_GROUP, engine(RUNS, each, Bodies::Async), RAW_GROUP, 0.85, SKELETON_GROUP),
        held("engine: 256 runs, blocking steps", blocking(RUNS, each), ENGINE_GROUP, None),
        held(
            "engine: 1 run, 1,000 steps at once",
            Workload::FanOut { steps: 1_000 },
            RAW_GROUP,
            None,
        ),
    ]
}

fn rows(plans: &[PlannedRow], done: &[Vec<Figures>]) -> Vec<MeasuredRow> {
    let rates = |name: &str| {
        let row = plans.iter().position(|plan| plan.name == name).expect("a row of the table");
        done[row].iter().map(|figures| figures.per_second)
    };
    let ratio = |name, Bar { of, goal }: &Bar| {
        let spread = Spread::of(rates(name).zip(rates(of)).map(|(mine, other)| mine / other));
        Ratio { of, spread, goal: *goal }
    };
    let row = |(plan, done): (&PlannedRow, &Vec<Figures>)| MeasuredRow {
        name: plan.name,
        figures: middle(done),
        ratio: plan.against.as_ref().map(|bar| ratio(plan.name, bar)),
        ratio_to_skeleton: plan.against_skeleton.as_ref().map(|bar| ratio(plan.name, bar)),
    };
    plans.iter().zip(done).map(row).collect()
}

/// The median of each figure.
fn middle(figures: &[Figures]) -> Figures {
    let of = |value: fn(&Figures) -> f64| Spread::of(figures.iter().map(value)).median;
    Figures {
        per_second: of(|figures| figures.per_second),
        wal_bytes: of(|figures| figures.wal_bytes),
        cpu_micros: of(|figures| figures.cpu_micros),
        steps_a_commit: of(|figures| figures.steps_a_commit),
        most_mib: of(|figures| figures.most_mib),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_a_row_and_a_ratio_is_that_of_one_round() {
        let plans = plans(20, 2);
        let figures = |per_second| Figures {
            per_second,
            wal_bytes: 1.0,
            cpu_micros: 1.0,
            steps_a_commit: 1.0,
            most_mib: 1.0,
        };
        // A disk that is ten times as fast in the second round: the medians' ratio would be 0.9.
        let done = |plan: &PlannedRow| match plan.against {
            None => vec![figures(100.0), figures(1_000.0), figures(100.0)],
            Some(_) => vec![figures(50.0), figures(500.0), figures(90.0)],
        };
        let rows = rows(&plans, &plans.iter().map(done).collect::<Vec<_>>());
        let engine = rows.iter().find(|row| row.name == ENGINE).unwrap();
        let ratio = engine.ratio.as_ref().unwrap();
        assert_eq!((ratio.of, ratio.goal), (RAW, Some(0.9)));
        assert_eq!((ratio.spread.median, ratio.spread.max), (0.5, 0.9));
        assert_eq!(engine.ratio_to_skeleton.as_ref().unwrap().spread.median, 1.0);
    }
}
