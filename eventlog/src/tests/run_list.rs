//! A sorted list against sorting in memory.

use proptest::prelude::*;
use tidemill_model::{RunStatus, RunSummary};

use super::script::Script;
use crate::query::{self, RunFilter};
use crate::run_list::{RunColumn, RunOrder, Stretch, count, sorted, span, started_in, workflows};

/// What a run is sorted by, as text that sorts alike; `None` comes last.
fn key(run: &RunSummary, by: RunColumn) -> Option<(u64, String)> {
    let text = |text: String| Some((0, text));
    match by {
        RunColumn::Started => Some((run.seq.get(), String::new())),
        RunColumn::Updated => text(run.updated_at.to_string()),
        RunColumn::Ended => run.ended_at.map(|at| (0, at.to_string())),
        RunColumn::Duration => run.duration_ms.map(|ms| (ms, String::new())),
        RunColumn::Status => text(run.status.to_string()),
        RunColumn::Workflow => text(run.workflow.to_string()),
        RunColumn::Id => text(run.id.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_list_is_sorted_over_the_whole_file(
        choices in proptest::collection::vec(any::<(u8, u8)>(), 1..120),
        page in 1_u32..5,
        status in proptest::option::of(proptest::sample::select(RunStatus::ALL.to_vec())),
        by in proptest::sample::select(RunColumn::ALL.to_vec()),
        descending in any::<bool>(),
    ) {
        let mut script = Script::new();
        script.play(&choices, 7);
        let connection = &script.file.connection;
        let all = RunFilter { status, limit: u32::MAX, ..RunFilter::default() };
        let runs = query::runs(connection, &all).unwrap();
        prop_assert_eq!(count(connection, &all).unwrap(), u64::try_from(runs.len()).unwrap());

        let (mut found, order) = (Vec::new(), RunOrder { by, descending });
        loop {
            let filter = RunFilter { limit: page, ..all.clone() };
            let offset = u64::try_from(found.len()).unwrap();
            let next = sorted(connection, &filter, order, offset).unwrap();
            if next.is_empty() {
                break;
            }
            found.extend(next);
        }
        let mut ids: Vec<_> = found.iter().map(|run| run.id.clone()).collect();
        ids.sort();
        let mut expected: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
        expected.sort();
        prop_assert_eq!(ids, expected, "each run once");
        for pair in found.windows(2) {
            let (one, two) = (key(&pair[0], by), key(&pair[1], by));
            let in_order = match (&one, &two) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(one), Some(two)) => if descending { one >= two } else { one <= two },
            };
            prop_assert!(in_order, "{:?} before {:?} by {:?}", one, two, by);
        }

        for stretch in [Stretch::Minute, Stretch::Hour, Stretch::Day] {
            let stretches = started_in(connection, &all, stretch).unwrap();
            let total: u64 = stretches.iter().map(|it| it.runs).sum();
            prop_assert_eq!(total, count(connection, &all).unwrap());
        }
        let (first, last) = span(connection, &all).unwrap().unzip();
        prop_assert_eq!(first, runs.iter().map(|run| run.created_at).min());
        prop_assert_eq!(last, runs.iter().map(|run| run.created_at).max());
        let named: u64 = workflows(connection, 100).unwrap().iter().map(|(_, n)| n).sum();
        let every = RunFilter { limit: 1, ..RunFilter::default() };
        prop_assert_eq!(named, count(connection, &every).unwrap());
    }
}

#[test]
fn a_part_of_an_id_finds_a_run() {
    let mut script = Script::new();
    script.play(&[(0, 1), (1, 1), (2, 1)], 2);
    let filter = RunFilter { id_part: Some("1".into()), limit: 9, ..RunFilter::default() };
    let found = query::runs(&script.file.connection, &filter).unwrap();
    assert_eq!(found.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["r1"]);
    let wild = RunFilter { id_part: Some("%".into()), ..filter };
    assert_eq!(count(&script.file.connection, &wild).unwrap(), 0, "it is text, not a pattern");
}
