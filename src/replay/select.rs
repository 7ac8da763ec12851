//! Which runs are replayed: the times and the sample. Pure.
//!
//! A sample is the same each time: it takes the runs whose ids have the smallest hashes. Every n-th
//! run would be simpler and wrong: where each run starts as many children, it would meet the parents
//! alone, or never.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use tidemill_eventlog::selection::NamedRun;
use tidemill_model::{OpName, Timestamp, age_of};
use xxhash_rust::xxh3::xxh3_64;

/// From when on runs are replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// This long before the newest event of the source.
    Before(Duration),
    /// This time.
    Time(Timestamp),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Since, String> {
        if let Some(age) = age_of(text) {
            return Ok(Since::Before(age));
        }
        text.parse().map(Since::Time).map_err(|_| {
            format!("`{text}` is no time: use 7d (also s, m, h) or 2026-11-20T10:00:00Z")
        })
    }
}

impl Since {
    /// The time that it means where the newest event is of `newest`.
    pub(super) fn time(self, newest: Timestamp) -> Timestamp {
        match self {
            Since::Before(age) => newest.saturating_sub(age),
            Since::Time(at) => at,
        }
    }
}

/// At most `size` of the runs, the same ones each time, in the order that they had. As long as there
/// is room, each workflow has one among them.
pub(super) fn sample(runs: Vec<NamedRun>, size: usize) -> Vec<NamedRun> {
    if runs.len() <= size {
        return runs;
    }
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_cached_key(|at| runs.get(*at).map(|run| xxh3_64(run.id.as_str().as_bytes())));
    let mut seen = BTreeSet::<&OpName>::new();
    let (first, others): (Vec<usize>, Vec<usize>) = order
        .into_iter()
        .partition(|at| runs.get(*at).is_some_and(|run| seen.insert(&run.workflow)));
    let taken: BTreeSet<usize> = first.into_iter().chain(others).take(size).collect();
    let numbered = runs.into_iter().enumerate();
    numbered.filter(|(at, _)| taken.contains(at)).map(|(_, run)| run).collect()
}

#[cfg(test)]
mod tests {
    use tidemill_model::RunId;

    use super::*;

    fn run(id: &str, workflow: &str) -> NamedRun {
        NamedRun { id: RunId::new(id).unwrap(), workflow: OpName::new(workflow).unwrap() }
    }

    /// Parents with twelve children each, and two runs of a rare workflow.
    fn runs() -> Vec<NamedRun> {
        let mut runs = Vec::new();
        for parent in 0..100 {
            runs.push(run(&format!("p{parent}"), "sweep"));
            runs.extend((1..=12).map(|child| run(&format!("p{parent}.{child}"), "trial")));
        }
        runs.push(run("rare-1", "report"));
        runs.push(run("rare-2", "report"));
        runs
    }

    fn count(runs: &[NamedRun], workflow: &str) -> usize {
        runs.iter().filter(|run| run.workflow.as_str() == workflow).count()
    }

    #[test]
    fn a_sample_is_the_same_each_time_and_has_every_workflow() {
        let sampled = sample(runs(), 130);
        assert_eq!(sampled, sample(runs(), 130));
        assert_eq!(sampled.len(), 130);
        let (parents, children) = (count(&sampled, "sweep"), count(&sampled, "trial"));
        assert!((2..30).contains(&parents) && children > 90, "{parents} and {children}");
        assert!(count(&sampled, "report") >= 1);
        for size in 1..8 {
            let few = sample(runs(), size);
            assert_eq!(few.len(), size);
            let workflows: BTreeSet<_> = few.iter().map(|run| &run.workflow).collect();
            assert_eq!(workflows.len(), size.min(3));
        }
    }

    #[test]
    fn a_sample_keeps_the_order_and_changes_little_with_new_runs() {
        let all = runs();
        let sampled = sample(all.clone(), 130);
        let mut rest = all.iter();
        assert!(sampled.iter().all(|run| rest.any(|other| other == run)));
        let more = all.iter().cloned().chain((0..13).map(|n| run(&format!("new-{n}"), "trial")));
        let again = sample(more.collect(), 130);
        let stayed = sampled.iter().filter(|run| again.contains(run)).count();
        assert!(stayed >= 130 - 13, "{stayed}");
        assert_eq!(sample(all.clone(), all.len()), all);
        assert_eq!(sample(Vec::new(), 1), []);
    }

    #[test]
    fn a_time_is_counted_back_from_the_newest_event() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let newest = at("2026-11-20T10:00:00Z");
        let since = |text: &str| text.parse::<Since>().map(|since| since.time(newest));
        assert_eq!(since("7d").unwrap(), at("2026-11-13T10:00:00Z"));
        assert_eq!(since("90m").unwrap(), at("2026-11-20T08:30:00Z"));
        assert_eq!(since("2026-11-01T00:00:00Z").unwrap(), at("2026-11-01T00:00:00Z"));
        for bad in ["", "7", "-7d", "week", "d"] {
            assert!(since(bad).unwrap_err().contains("use 7d"), "{bad}");
        }
    }
}
