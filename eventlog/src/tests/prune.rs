//! Runs that leave: what is left is as it was, and proved.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rusqlite::Connection;
use tidemill_model::{ComparedSeqs, Retention, RunId, Seq, Stays, StaysCount};

use super::script::Script;
use crate::prunable::{Look, look};
use crate::prune::{PrunableRun, family, remove};
use crate::{ErrorKind, Head, fsck, is_pruned, past, projection, query, sum_at, verify};

/// The choice of the script that completes a run.
const ENDS: u8 = 246;

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn rows(connection: &Connection) -> BTreeSet<u64> {
    let mut statement = connection.prepare("SELECT seq FROM events").unwrap();
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    rows.map(|seq| seq.unwrap().unsigned_abs()).collect()
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Removes runs in one transaction.
fn take(
    connection: &Connection,
    runs: &[PrunableRun],
    compared: ComparedSeqs,
) -> Vec<Result<(), Stays>> {
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let taken = runs.iter().map(|run| remove(connection, run, compared).unwrap()).collect();
    connection.execute_batch("COMMIT").unwrap();
    taken
}

/// Every family that may leave, when all have ended long ago and no rule keeps any.
fn all_prunable(connection: &Connection, compared: ComparedSeqs) -> Look {
    let rules = vec!["0".parse().unwrap()];
    let mut judge = Retention::new(rules).unwrap().judge();
    let now = "2100-01-01T00:00:00Z".parse().unwrap();
    look(connection, &mut judge, (now, Seq::MAX), compared, |_| false).unwrap()
}

/// Removes families that may leave, if `picks` has them.
fn prune(script: &mut Script, compared: ComparedSeqs, picks: u64) -> StaysCount {
    let found = all_prunable(&script.file.connection, compared);
    assert_eq!(found.next, None);
    let roots = found.ended_runs.split_inclusive(|ended| !ended.run.as_str().contains('.'));
    for (at, runs) in roots.enumerate().filter(|(at, _)| picks >> (at % 64) & 1 == 1) {
        let taken = take(&script.file.connection, runs, compared);
        assert!(taken.iter().all(Result::is_ok), "family {at}: {taken:?}");
        runs.iter().for_each(|run| script.forget(&run.run));
    }
    found.report.stays
}

/// What the script does next; every eighth time a run ends.
fn choice() -> impl Strategy<Value = (u8, u8)> {
    (any::<u8>(), prop_oneof![7 => any::<u8>(), 1 => Just(ENDS)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_left_is_as_it_was_and_proved(
        rounds in proptest::collection::vec(
            (proptest::collection::vec(choice(), 1..80), any::<u64>(), any::<(u8, u8)>()),
            1..5,
        ),
        per_commit in 1_usize..9,
    ) {
        let mut script = Script::new();
        for (choices, picks, (from, base)) in rounds {
            script.play(&choices, per_commit);
            let before = rows(&script.file.connection);
            let head = script.file.appender.head();
            let compared = ComparedSeqs {
                from: seq(head.seq.get() * u64::from(from) / 200),
                base: Some(seq(u64::from(base) % (head.seq.get() + 1))),
            };
            let sums = |seqs: &BTreeSet<u64>| {
                let sum = |at: &u64| sum_at(&script.file.connection, seq(*at)).unwrap();
                seqs.iter().map(|at| (*at, sum(at))).collect::<Vec<_>>()
            };
            let kept: BTreeSet<u64> = before.iter().copied().filter(|at| {
                *at >= compared.from.get() || Some(seq(*at)) == compared.base || *at == head.seq.get()
            }).collect();
            let proofs = sums(&kept);
            prune(&mut script, compared, picks);

            let connection = &script.file.connection;
            let after = rows(connection);
            prop_assert!(kept.is_subset(&after), "a row that is compared left");
            for (at, sum) in proofs {
                prop_assert_eq!(sum_at(connection, seq(at)).unwrap(), sum);
            }
            prop_assert_eq!(verify(connection).unwrap(), head);
            let report = fsck(connection).unwrap();
            prop_assert!(report.is_clean(), "{:?}", report.findings);
            prop_assert_eq!(report.events + report.removed, head.seq.get());
            let gaps = u64::try_from(count(connection, "tidemill_gaps")).unwrap();
            prop_assert_eq!(report.gaps, gaps);
            prop_assert!(gaps <= report.events, "gaps that touch are one");
            script.check_runs()?;
        }
    }

    #[test]
    fn a_removal_that_is_rolled_back_changed_nothing(
        choices in proptest::collection::vec(choice(), 1..120),
    ) {
        let mut script = Script::new();
        script.play(&choices, 5);
        let connection = &script.file.connection;
        let before = (rows(connection), projection::stored(connection).unwrap());
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for run in all_prunable(connection, ComparedSeqs::NONE).ended_runs {
            remove(connection, &run, ComparedSeqs::NONE).unwrap().unwrap();
        }
        connection.execute_batch("ROLLBACK").unwrap();
        prop_assert_eq!((rows(connection), projection::stored(connection).unwrap()), before);
        prop_assert_eq!(count(connection, "tidemill_gaps"), 0);
        verify(connection).unwrap();
        script.check_runs()?;
    }
}

/// Three runs of three events each, of which the first two have ended: 1 to 3, 4 to 6, 7 and 8.
fn three() -> Script {
    let mut script = Script::new();
    script.play(&[(0, 1), (0, 1), (0, ENDS), (1, 1), (1, 1), (1, ENDS), (2, 1), (2, 1)], 1);
    script
}

fn prunable_family(script: &Script, run: &str) -> Result<Vec<PrunableRun>, Stays> {
    family(&script.file.connection, &RunId::new(run).unwrap(), ComparedSeqs::NONE).unwrap()
}

#[test]
fn holes_that_touch_are_one_and_the_newest_row_stays() {
    let mut script = three();
    assert_eq!(prune(&mut script, ComparedSeqs::NONE, u64::MAX), StaysCount::default());
    let connection = &script.file.connection;
    assert_eq!(rows(connection), BTreeSet::from([7, 8]));
    let left: Vec<u64> = (1..10).filter(|at| is_pruned(connection, seq(*at)).unwrap()).collect();
    assert_eq!(left, (1..=6).collect::<Vec<_>>());
    assert_eq!(count(connection, "tidemill_gaps"), 1);
    script.play(&[(2, ENDS)], 1);
    let stays = StaysCount { newest: 1, ..StaysCount::default() };
    assert_eq!(prune(&mut script, ComparedSeqs::NONE, u64::MAX), stays);
    assert_eq!(rows(&script.file.connection), BTreeSet::from([7, 8, 9]));
}

#[test]
fn what_is_compared_stays_up_to_the_very_position() {
    for (from, base, left) in
        [(6, None, "7 8 4 5 6"), (7, None, "7 8"), (7, Some(2), "7 8 1 2 3"), (3, None, "all")]
    {
        let mut script = three();
        let compared = ComparedSeqs { from: seq(from), base: base.map(seq) };
        prune(&mut script, compared, u64::MAX);
        let left: BTreeSet<u64> = match left {
            "all" => (1..=8).collect(),
            some => some.split(' ').map(|at| at.parse().unwrap()).collect(),
        };
        assert_eq!(rows(&script.file.connection), left, "from {from}, base {base:?}");
    }
}

#[test]
fn a_family_stays_with_a_run_that_goes_on_and_leaves_children_first() {
    let mut script = Script::new();
    // A run, its child, its grandchild; then the run ends before the child.
    script.play(&[(0, 1), (0, 5), (4, 5), (0, ENDS), (1, 1)], 1);
    assert_eq!(prunable_family(&script, "r0").unwrap_err(), Stays::NotEnded);
    script.play(&[(4, ENDS), (5, ENDS), (1, 1)], 1);
    let runs = prunable_family(&script, "r0").unwrap();
    let ids: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
    assert_eq!(ids, ["r0.1.1", "r0.1", "r0"]);
    assert_eq!(runs.iter().map(|run| run.events).sum::<u64>(), 8);
    let parent_first = take(&script.file.connection, &runs[2..], ComparedSeqs::NONE);
    assert_eq!(parent_first, [Err(Stays::NotEnded)], "its children are there");
    let first = take(&script.file.connection, &runs[..1], ComparedSeqs::NONE);
    assert_eq!(first, [Ok(())]);
    assert!(fsck(&script.file.connection).unwrap().is_clean(), "also half way through a family");
    prune(&mut script, ComparedSeqs::NONE, u64::MAX);
    assert_eq!(rows(&script.file.connection), BTreeSet::from([7, 10]));
}

#[test]
fn a_family_stays_while_its_process_is_busy_with_one_of_it() {
    let mut script = Script::new();
    script.play(&[(0, 1), (0, 5), (4, ENDS), (0, ENDS), (1, 1), (1, ENDS), (2, 1)], 1);
    let mut judge = Retention::new(vec!["0".parse().unwrap()]).unwrap().judge();
    let at = ("2100-01-01T00:00:00Z".parse().unwrap(), Seq::MAX);
    let busy = |run: &RunId| run.as_str() == "r0.1";
    let found = look(&script.file.connection, &mut judge, at, ComparedSeqs::NONE, busy).unwrap();
    let leave: Vec<&str> = found.ended_runs.iter().map(|ended| ended.run.as_str()).collect();
    assert_eq!((leave, found.report.stays.not_ended), (vec!["r1"], 1));
}

#[test]
fn a_child_whose_end_its_parent_has_not_seen_stays() {
    let mut script = Script::new();
    script.play(&[(0, 1), (0, 5), (4, ENDS), (1, 1)], 1);
    let child = PrunableRun { run: RunId::new("r0.1").unwrap(), seq: seq(3), events: 2, bytes: 0 };
    let taken = take(&script.file.connection, &[child], ComparedSeqs::NONE);
    assert_eq!(taken, [Err(Stays::NotEnded)]);
}

#[test]
fn a_later_run_with_the_same_id_is_another() {
    let mut script = three();
    let old = prunable_family(&script, "r0").unwrap();
    assert_eq!(take(&script.file.connection, &old, ComparedSeqs::NONE), [Ok(())]);
    assert_eq!(take(&script.file.connection, &old, ComparedSeqs::NONE), [Err(Stays::NotEnded)]);
    script.forget(&old[0].run);
    script.play(&[(0, 1), (0, ENDS), (2, 1)], 1);
    assert_eq!(take(&script.file.connection, &old, ComparedSeqs::NONE), [Err(Stays::NotEnded)]);
    let new = prunable_family(&script, "r0").unwrap();
    assert_eq!(take(&script.file.connection, &new, ComparedSeqs::NONE), [Ok(())]);
}

#[test]
fn a_damaged_row_stays_with_its_run() {
    for change in ["data = data || ' '", "sum = sum + 1"] {
        let script = three();
        let connection = &script.file.connection;
        let sql = format!(
            "INSERT INTO tidemill_meta VALUES ('retention', '1'); \
             UPDATE events SET {change} WHERE seq = 2; DELETE FROM tidemill_meta WHERE key = 'retention'"
        );
        connection.execute_batch(&sql).unwrap();
        let runs = prunable_family(&script, "r0").unwrap();
        let error = remove(connection, &runs[0], ComparedSeqs::NONE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("seq=2"), "{error}");
        assert_eq!(rows(connection).len(), 8);
    }
}

#[test]
fn a_gap_that_does_not_fit_the_rows_is_damage() {
    for (gap, at) in [("(2, 3, 0)", 2), ("(9, 12, 0)", 9), ("(8, 8, 0)", 8)] {
        let script = three();
        let connection = &script.file.connection;
        connection.execute_batch(&format!("INSERT INTO tidemill_gaps VALUES {gap}")).unwrap();
        let bad = crate::scan(connection).unwrap().first_bad.unwrap();
        assert_eq!(bad.seq, seq(at), "{}", bad.what);
    }
}

#[test]
fn nothing_but_retention_deletes_and_it_leaves_no_door_open() {
    let mut script = three();
    prune(&mut script, ComparedSeqs::NONE, u64::MAX);
    let error = script.file.connection.execute_batch("DELETE FROM events").unwrap_err();
    assert!(error.to_string().contains("append-only"), "{error}");
}

#[test]
fn freed_pages_are_used_again() {
    let mut script = Script::new();
    let round = [(0, 1), (1, 1), (0, 1), (1, 1), (0, ENDS), (1, ENDS)];
    let pages = |script: &Script| -> i64 {
        script.file.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap()
    };
    let mut sizes = Vec::new();
    for _ in 0..30 {
        for _ in 0..20 {
            script.play(&round, 6);
            prune(&mut script, ComparedSeqs::NONE, u64::MAX);
        }
        sizes.push(pages(&script));
    }
    assert_eq!(sizes[4], sizes[29], "{sizes:?}");
    assert!(fsck(&script.file.connection).unwrap().is_clean());
}

#[test]
fn the_past_lacks_what_is_pruned_since_and_is_otherwise_as_it_was() {
    let mut script = three();
    prune(&mut script, ComparedSeqs { base: None, from: seq(5) }, u64::MAX);
    let then = past(&script.file.connection, seq(7)).unwrap();
    assert_eq!(rows(&then), (4..=7).collect());
    assert_eq!(verify(&then).unwrap().seq, seq(7));
    let inside = past(&script.file.connection, seq(2)).unwrap();
    assert_eq!(verify(&inside).unwrap(), Head::default());
    let run = RunId::new("r0").unwrap();
    assert_eq!(query::run(&then, &run).unwrap(), None);
}
