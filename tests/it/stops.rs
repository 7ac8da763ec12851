//! SIGTERM: a clean stop repeats no finished work, and it ends within a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::ledger::Ledger;
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(120);
const RUNS: usize = 200;

/// The steps, by run and operation, whose end is in this file, observed or held.
fn known_to(db: &Path) -> BTreeSet<(String, u64)> {
    let mut known = sqlite::completed(db);
    let connection = sqlite::read(db);
    let sql = "SELECT run, op FROM events WHERE kind = 'op_held'";
    let mut statement = connection.prepare(sql).expect("events has its columns");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
    known.extend(rows.expect("query the events").map(|row| {
        let (run, op) = row.expect("a held end has a run and an op");
        (run, u64::try_from(op).expect("an op is a small number"))
    }));
    known
}

fn ends(ledger: &Ledger) -> BTreeMap<(String, u64), usize> {
    let mut ends = BTreeMap::new();
    for entry in ledger.entries() {
        if entry.what == "end" {
            *ends.entry((entry.run, entry.op)).or_default() += 1;
        }
    }
    ends
}

#[test]
fn two_hundred_runs_lose_no_finished_body_to_a_stop() {
    let ledger = Ledger::new();
    let db = scratch::folder("stops").join("workflow.db");
    let settings = Settings::alone(&db).ledger(&ledger);
    let mut held = 0;
    for round in 0..4 {
        let mut app = settings.start();
        if round == 0 {
            for run in 0..RUNS {
                app.api().start(&format!("r{run}"), "chain", &json!({ "steps": 400, "millis": 5 }));
            }
        }
        let before = ledger.total("end");
        wait::until_true("every run to have gone on", BOUND, || {
            ledger.total("end") > before + 2 * RUNS
        });
        assert_eq!(app.shut_down(), 0, "{}", app.log());
        let (ended, known) = (ends(&ledger), known_to(&db));
        let lost: Vec<_> = ended.keys().filter(|step| !known.contains(*step)).collect();
        assert!(lost.is_empty(), "round {round}: ended and not in the file: {lost:?}");
        let again: Vec<_> = ended.iter().filter(|(_, times)| **times > 1).collect();
        assert!(again.is_empty(), "round {round}: done again: {again:?}");
        held = sqlite::number(&db, "SELECT count(*) FROM events WHERE kind = 'op_held'");
    }
    assert!(held > 0, "no stop met a body: this test tests nothing");
    assert_eq!(sqlite::integrity(&db), "ok");
}

#[test]
fn a_result_that_arrived_while_its_run_was_blocked_is_there_after_the_deploy_that_mends_it() {
    let ledger = Ledger::new();
    let db = scratch::folder("held").join("workflow.db");
    let settings = Settings::alone(&db).ledger(&ledger);
    let mut app = settings.start();
    app.api().start("r1", "half_broken", &json!({ "steps": 1, "millis": 500 }));
    wait::until_true("the run to be blocked", BOUND, || {
        app.api().status("r1").as_deref() == Some("blocked")
    });
    wait::until_true("the other branch's step to end", BOUND, || ledger.total("end") == 1);
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    let mended = settings.clone().env("TIDEMILL_TEST_CODE", "2");
    let mut app = mended.start();
    // A blocked run is shown as blocked until the new process has tried it.
    wait::until_true("the mended run to complete", BOUND, || {
        app.api().status("r1").as_deref() == Some("completed")
    });
    assert_eq!(app.shut_down(), 0);
    assert_eq!((ledger.total("begin"), ledger.total("end")), (1, 1), "it was paid for twice");
}

#[test]
fn a_body_that_ignores_its_token_does_not_hold_up_the_stop_beyond_the_grace() {
    let ledger = Ledger::new();
    let db = scratch::folder("stubborn").join("workflow.db");
    let settings = Settings::alone(&db).ledger(&ledger).env("TIDEMILL_GRACE", "300ms");
    let mut app = settings.start();
    app.api().start("r1", "hog", &json!({ "millis": 600_000, "blocking": true }));
    wait::until_true("its body to begin", BOUND, || ledger.count("r1", "hold", "begin") == 1);
    assert_eq!(app.shut_down(), 0);
    let log = app.log();
    assert!(log.contains("step 1 `hold` of run `r1`"), "{log}");
    // The process has ended, and its bodies with it: the next one may have the file.
    drop(settings.start());
}
