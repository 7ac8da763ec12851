//! Workflows that break a rule are blocked, each with its own message, and continue when they are
//! fixed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::ledger::Ledger;
use crate::support::process::Process;
use crate::support::{scratch, tools, wait};

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
        app.api().ask_result(run);
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

#[test]
fn a_parent_says_for_which_blocked_run_it_waits() {
    let first = settings();
    let second = first.clone().env("TIDEMILL_TEST_CODE", "2");
    let mut app = first.start();
    app.api().start("g", "asks", &json!(["asks", "retired"]));
    wait::until_true("the youngest to sleep", BOUND, || {
        app.api().status("g.1.1").as_deref() == Some("suspended")
    });
    assert_eq!(app.api().run("g").expect("it answers").get("waits_for"), None);
    assert_eq!(app.shut_down(), 0);

    let app = second.start();
    app.api().ask_result("g.1.1");
    wait::until_true("the youngest to be blocked", BOUND, || {
        app.api().status("g.1.1").as_deref() == Some("blocked")
    });
    let get = |path: &str| app.api().get(path).expect("it answers");
    let assert_waits = |run: &Value, of: &str| {
        assert_eq!(run["status"], "suspended", "{of}: {run:#}");
        assert_eq!(run["waits_for"]["run"], "g.1.1", "{of}: {run:#}");
        assert_eq!(run["waits_for"]["reason"]["kind"], "unknown_workflow", "{of}: {run:#}");
    };
    for run in ["g", "g.1"] {
        assert_waits(&app.api().run(run).expect("it answers"), "show");
        let result = get(&format!("/v1/runs/{run}/result"));
        assert_eq!(result.status, 202);
        assert_waits(&result.body, "result");
    }
    let listed = get("/v1/runs").body["runs"].clone();
    let listed = listed.as_array().expect("a list");
    assert_waits(listed.iter().find(|run| run["id"] == "g").expect("it is listed"), "list");
    let youngest = listed.iter().find(|run| run["id"] == "g.1.1").expect("it is listed");
    assert_eq!(youngest.get("waits_for"), None);

    let command = |args: &[&str]| {
        let mut command = std::process::Command::new(tools::tidemill());
        let output = command.args(args).arg("--from").arg(first.db()).output().expect("run it");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let json = |args: &[&str]| serde_json::from_str::<Value>(&command(args)).expect("JSON");
    assert_waits(&json(&["show", "g", "--json"]), "tidemill show");
    let listed = json(&["runs", "--json"]);
    let listed = listed.as_array().expect("a list");
    assert_waits(listed.iter().find(|run| run["id"] == "g").expect("it is listed"), "runs");
    let shown = command(&["show", "g"]);
    assert!(shown.contains("waits for  g.1.1, which is blocked: "), "{shown}");
    let listed = command(&["runs"]);
    assert!(listed.lines().next().is_some_and(|line| line.contains("  WAITS FOR")), "{listed}");

    let start = ["start", "asks", r#"["asks", "retired"]"#, "--id", "g", "--wait", "--url"];
    let mut start = first.command(&[&start[..], &[app.api().base()]].concat());
    let start = Process::spawn("start", &mut start, &scratch::folder("start").join("log"));
    wait::until_true("whoever waits for it to be told", BOUND, || {
        start.log().contains("run g waits for run g.1.1, which is blocked: ")
    });
}

#[test]
fn a_child_of_a_mistyped_name_blocks_its_parent_with_the_name_that_was_meant() {
    let app = settings().start();
    app.api().start("m", "asks", &json!(["retried"]));
    let run = app.api().wait_ended("m", BOUND);
    assert_says(&run["blocked"], "unknown_workflow", &["retried", "did you mean `retired`?"]);
    assert_eq!(app.api().run("m.1"), None, "nothing was created");
    assert_eq!(run["operations_total"], 0, "{run:#}");
}
