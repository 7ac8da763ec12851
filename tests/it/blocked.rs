//! Workflows that break a rule are blocked, each with its own message, and go on when they are
//! mended.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::ledger::Ledger;
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings::alone(&scratch::folder("blocked").join("workflow.db"))
}

/// Runs a workflow that has to be blocked; gives the reason.
#[track_caller]
fn reason(app: &App, workflow: &str) -> Value {
    app.api().start(workflow, workflow, &json!(null));
    let run = app.api().wait_ended(workflow, BOUND);
    assert_eq!(run["status"], "blocked", "{workflow}: {run:#}");
    run["blocked"].clone()
}

#[track_caller]
fn assert_says(reason: &Value, kind: &str, words: &[&str]) {
    assert_eq!(reason["kind"], kind, "{reason:#}");
    let text = reason.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    assert!(reason["advice"].as_str().is_some_and(|advice| advice.len() > 20), "{reason:#}");
}

#[test]
fn each_kind_of_misuse_says_what_to_do() {
    let app = settings().start();
    assert_says(&reason(&app, "foreign_wait"), "foreign_wait", &["ctx.sleep"]);
    assert_says(&reason(&app, "panics"), "panic", &["the workflow gave up"]);
    assert_says(&reason(&app, "spawns"), "misuse", &["outside"]);
    assert_says(&reason(&app, "joins"), "foreign_wait", &["spawned"]);
    assert_says(&reason(&app, "runaway"), "runaway", &["10"]);
    // A node with blocked runs goes on with the others.
    app.api().start("r1", "chain", &json!({}));
    app.api().wait_completed("r1", BOUND);
}

#[test]
fn a_later_deployment_that_does_not_fit_blocks_and_the_first_goes_on() {
    let first = settings();
    let second = first.clone().env("TIDEMILL_TEST_CODE", "2");
    let mut app = first.start();
    for workflow in ["changed", "retired"] {
        app.api().start(workflow, workflow, &json!(null));
        wait::until_true("the run to sleep", BOUND, || {
            app.api().status(workflow).as_deref() == Some("suspended")
        });
    }
    assert_eq!(app.shut_down(), 0);

    let mut app = second.start();
    let of = |app: &App, run: &str| {
        let run = wait::until("the run to be blocked", BOUND, || {
            app.api().run(run).filter(|run| run["status"] == "blocked")
        });
        run["blocked"].clone()
    };
    assert_says(&of(&app, "changed"), "nondeterminism", &["first", "second"]);
    assert_says(&of(&app, "retired"), "unknown_workflow", &["retired"]);
    assert_eq!(app.shut_down(), 0);

    // The code that began them: each is tried again at the start, and sleeps on.
    let app = first.start();
    for run in ["changed", "retired"] {
        wait::until_true("the run to sleep again", BOUND, || {
            app.api().status(run).as_deref() == Some("suspended")
        });
    }
}

#[test]
fn a_step_that_takes_the_process_with_it_is_blocked_in_the_end() {
    let ledger = Ledger::new();
    let settings = settings().ledger(&ledger);
    let mut app = settings.start();
    // The process may be gone before it answers; what it accepted is in its log.
    let start = json!({ "workflow": "poison", "input": null, "id": "poison" });
    drop(app.api().post("/v1/runs", &start));
    for _ in 0..10 {
        let blocked = wait::until("the process to end or the run to be blocked", BOUND, || {
            let blocked = app.api().status("poison").as_deref() == Some("blocked");
            (blocked || app.has_ended()).then_some(blocked)
        });
        if blocked {
            break;
        }
        app = settings.launch();
    }
    let run = app.api().run("poison").expect("the process lives");
    assert_says(&run["blocked"], "poison", &[]);
    assert_eq!(ledger.total("begin"), 5, "five crashes, and then no more");
}
