//! Workflow code that ends the process each time that it is polled: the engine identifies and
//! blocks its run, and until then other runs make progress.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::http::Api;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(120);

/// How many deaths it takes.
const DEATHS: usize = 5;

fn start_neighbour(api: &Api) {
    api.start("neighbour", "chain", &json!({ "steps": 100_000, "millis": 5 }));
}

/// The process may be gone before it answers; what it accepted is in its log.
fn post_deadly(api: &Api, run: &str, input: &Value) {
    drop(api.post("/v1/runs", &json!({ "workflow": "deadly", "input": input, "id": run })));
}

fn steps_done(ledger: &Ledger) -> usize {
    ledger.count("neighbour", "link", "end")
}

#[track_caller]
fn assert_poison(api: &Api, run: &str) {
    let run = api.run(run).expect("the process lives");
    let reason = &run["blocked"];
    assert_eq!(reason["kind"], "poison", "{run:#}");
    let text = reason.to_string();
    assert!(text.contains("died 5 times in a row while the workflow's own code"), "{text}");
    assert!(text.contains("fix it"), "{text}");
}

/// Starts the app again and again until these runs are blocked; gives the number of deaths.
#[track_caller]
fn until_blocked(settings: &Settings, ledger: &Ledger, runs: &[&str], input: &Value) -> usize {
    let mut app = settings.start();
    start_neighbour(&app.api());
    let mut done_before_pauses = None;
    for deaths in 0..=DEATHS * runs.len() {
        if deaths == 2 {
            done_before_pauses = Some(steps_done(ledger));
        }
        let api = app.api();
        let blocked = |run: &&str| {
            if api.run(run).is_none() {
                post_deadly(&api, run, input);
            }
            api.status(run).as_deref() == Some("blocked")
        };
        let all_blocked =
            wait::until("the process to end or the runs to be blocked", BOUND, || {
                let all = runs.iter().all(&blocked);
                (all || app.has_ended()).then_some(all)
            });
        if all_blocked {
            let before = done_before_pauses.expect("it died more than twice");
            let done = steps_done(ledger) - before;
            assert!(done >= 50, "the neighbour did {done} steps beside what killed the process");
            runs.iter().for_each(|run| assert_poison(&app.api(), run));
            finish(settings, app, runs);
            return deaths;
        }
        app = settings.launch();
    }
    panic!("the process died more often than it may: {}", app.log());
}

/// The block outlives a kill, and a mended program goes on once it is resumed.
#[track_caller]
fn finish(settings: &Settings, mut app: crate::support::app::App, runs: &[&str]) {
    app.kill();
    let mended = settings.clone().env("TIDEMILL_TEST_CODE", "2").start();
    for run in runs {
        wait::until_true("the run to be blocked still", BOUND, || {
            mended.api().status(run).as_deref() == Some("blocked")
        });
        let reply = mended.api().post(&format!("/v1/runs/{run}/resume"), &json!({}));
        assert_eq!(reply.expect("it answers").status, 200);
        let ended = mended.api().wait_completed(run, BOUND);
        assert_eq!(ended["output"], 7, "{ended:#}");
    }
}

#[track_caller]
fn check(runs: &[&str], input: &Value) -> usize {
    let ledger = Ledger::new();
    let db = scratch::folder("deadly").join("workflow.db");
    until_blocked(&Settings::alone(&db).ledger(&ledger), &ledger, runs, input)
}

#[test]
fn two_workflows_that_abort_before_their_first_act() {
    let deaths = check(&["deadly-1", "deadly-2"], &json!({ "how": "abort" }));
    assert!((DEATHS..=2 * DEATHS).contains(&deaths), "{deaths} deaths");
}

#[test]
fn a_workflow_that_overflows_its_stack_after_a_timer() {
    let input = json!({ "how": "overflow", "after_millis": 50 });
    assert_eq!(check(&["deadly"], &input), DEATHS);
}

#[test]
fn a_workflow_that_ends_the_process_after_a_timer() {
    let input = json!({ "how": "exit", "after_millis": 50 });
    assert_eq!(check(&["deadly"], &input), DEATHS);
}

/// Each death of the app ends its sidecar, too, and the next one has another epoch.
#[test]
fn deaths_under_a_sidecar_count_from_epoch_to_epoch() {
    let ledger = Ledger::new();
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm1", "n1").ledger(&ledger);
    vm.supervise();
    vm.wait_ready();
    start_neighbour(&vm.api());
    post_deadly(&vm.api(), "deadly", &json!({ "how": "abort", "after_millis": 50 }));
    wait::until_true("the run to be blocked", 3 * BOUND, || {
        vm.api().status("deadly").as_deref() == Some("blocked")
    });
    assert_poison(&vm.api(), "deadly");
    vm.api().start("after", "chain", &json!({}));
    vm.api().wait_completed("after", BOUND);
}
