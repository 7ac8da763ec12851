//! Every command and HTTP show the true state of a step: it waits, is queued, runs, was cut off and
//! by what, or is held.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::http::Api;
use crate::support::ledger::Ledger;
use crate::support::{process, scratch, tools, wait};

const BOUND: Duration = Duration::from_secs(60);

fn tidemill(args: &[&str]) -> String {
    process::finish("tidemill", Command::new(tools::tidemill()).args(args)).ok()
}

/// The attempts of a run's only step over HTTP, once it started.
fn over_http(api: &Api, run: &str) -> Vec<Value> {
    let run = api.run(run);
    let attempts = run.as_ref().and_then(|run| run["operations"].get(0)?["attempts"].as_array());
    attempts.cloned().unwrap_or_default()
}

/// The same for a step at rest, checked against `show --json`.
#[track_caller]
fn attempts(api: &Api, run: &str) -> Vec<Value> {
    let by_http = over_http(api, run);
    let shown = tidemill(&["show", run, "--json", "--from", api.base()]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let by_show = shown["operations"][0]["attempts"].as_array().expect("attempts");
    for key in ["number", "state", "started_at", "ended_at", "until", "of", "cut_off_by", "after"] {
        let of = |attempts: &[Value]| -> Vec<Value> {
            attempts.iter().map(|attempt| attempt[key].clone()).collect()
        };
        assert_eq!(of(&by_http), of(by_show), "{key} of {run}");
    }
    by_http
}

/// `number state`, with what cut it off.
fn told(attempts: &[Value]) -> Vec<String> {
    let text = |attempt: &Value| {
        let (number, state) = (&attempt["number"], attempt["state"].as_str().unwrap_or("none"));
        let by = attempt["cut_off_by"].as_str().map_or_else(String::new, |by| format!(" {by}"));
        format!("{number} {state}{by}")
    };
    attempts.iter().map(text).collect()
}

#[track_caller]
fn wait_told(api: &Api, run: &str, expected: &[&str]) -> Vec<Value> {
    wait::until_true(&format!("{run} to be {expected:?}"), BOUND, || {
        told(&over_http(api, run)) == expected
    });
    attempts(api, run)
}

/// What `runs` shows of a run's steps, as text and over HTTP.
#[track_caller]
fn listed(api: &Api, run: &str) -> (String, Value) {
    let list = tidemill(&["runs", "--from", api.base()]);
    let line = list.lines().find(|line| line.starts_with(&format!("{run} ")));
    let reply = api.get("/v1/runs").expect("the node answers").body;
    let runs = reply["runs"].as_array().expect("runs");
    let over_http = runs.iter().find(|listed| listed["id"] == run).expect("a listed run");
    let json = tidemill(&["runs", "--json", "--from", api.base()]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let in_json = json.as_array().expect("runs").iter().find(|listed| listed["id"] == run);
    assert_eq!(over_http["activity"], in_json.expect("a listed run")["activity"]);
    (line.expect("a listed run").to_owned(), over_http["activity"].clone())
}

fn show(api: &Api, run: &str) -> String {
    tidemill(&["show", run, "--from", api.base()])
}

/// One more blocking step than there are threads; gives the run whose step is queued.
fn fill_the_pool(api: &Api, runs: &[String]) -> String {
    for run in runs {
        api.start(run, "hog", &json!({ "millis": 600_000, "blocking": true }));
    }
    wait::until("one step to be left in line", BOUND, || {
        let states: Vec<_> = runs.iter().map(|run| told(&over_http(api, run))).collect();
        let queued = states.iter().position(|state| state == &["1 queued"])?;
        let others = states.iter().filter(|state| *state == &["1 running"]).count();
        (others + 1 == runs.len()).then(|| runs[queued].clone())
    })
}

#[test]
fn each_state_of_an_attempt_is_told_apart() {
    let ledger = Ledger::new();
    let settings = Settings::alone(&scratch::folder("attempts").join("workflow.db"));
    let settings = settings.ledger(&ledger);
    let mut app: App = settings.start();
    let api = app.api();
    api.start("waits", "backs_off", &json!(null));
    api.start("runs", "chain", &json!({ "steps": 1, "millis": 600_000 }));
    api.start("gave-up", "gives_up", &json!(50));

    let waiting = wait_told(&api, "waits", &["1 failed", "2 waiting"]);
    assert_eq!((&waiting[1]["started_at"], &waiting[1]["of"]), (&Value::Null, &json!(3)));
    let until = waiting[1]["until"].as_str().expect("a moment").to_owned();
    let words = format!("waits until {until} (attempt 2 of 3)");
    assert!(show(&api, "waits").contains(&words), "{}", show(&api, "waits"));
    let (line, activity) = listed(&api, "waits");
    assert!(line.contains(&words), "{line}");
    assert_eq!(activity["next"], json!({ "until": until, "attempt": 2, "of": 3 }));

    wait_told(&api, "runs", &["1 running"]);
    assert!(listed(&api, "runs").0.contains(" running  running "), "{:?}", listed(&api, "runs"));

    wait_told(&api, "gave-up", &["1 held"]);
    assert!(show(&api, "gave-up").contains("ended, held"), "{}", show(&api, "gave-up"));
    let (line, activity) = listed(&api, "gave-up");
    assert!(line.contains(" blocked  ended, held "), "{line}");
    assert_eq!(activity["held"], 1);

    let threads = std::thread::available_parallelism().expect("a count of processors").get();
    let hogs: Vec<String> = (0..=threads).map(|n| format!("hog{n}")).collect();
    let queued = fill_the_pool(&api, &hogs);
    assert!(show(&api, &queued).contains("step hold  queued"), "{}", show(&api, &queued));
    assert!(listed(&api, &queued).0.contains(" running  queued "), "{:?}", listed(&api, &queued));

    app.kill();
    let mut app = settings.start();
    let api = app.api();
    wait_told(&api, "runs", &["1 cut_off crash", "2 running"]);
    assert!(show(&api, "runs").contains("attempt 1  cut off by a crash\n"));
    let again = wait_told(&api, "waits", &["1 failed", "2 waiting"]);
    assert_eq!(again[1]["until"], json!(until));
    let numbers = over_http(&api, &queued);
    assert_eq!(numbers.len(), 1, "what never began was not cut off: {numbers:?}");
    app.kill();
}

#[test]
fn a_stopped_node_says_that_its_steps_were_cut_off_by_a_stop() {
    let ledger = Ledger::new();
    let db = scratch::folder("stopped").join("workflow.db");
    let settings = Settings::alone(&db).ledger(&ledger);
    let mut app = settings.start();
    app.api().start("waits", "backs_off", &json!(null));
    app.api().start("runs", "chain", &json!({ "steps": 1, "millis": 600_000 }));
    wait_told(&app.api(), "waits", &["1 failed", "2 waiting"]);
    wait_told(&app.api(), "runs", &["1 running"]);
    assert_eq!(app.shut_down(), 0);

    let list = tidemill(&["runs", "--from", path(&db)]);
    let line = |run: &str| list.lines().find(|line| line.starts_with(run)).map(str::to_owned);
    assert!(line("runs").is_some_and(|line| line.contains("cut off by a stop")), "{list}");
    assert!(line("waits").is_some_and(|line| line.contains("(attempt 2 of 3)")), "{list}");
    let shown = tidemill(&["show", "runs", "--from", path(&db)]);
    assert!(shown.contains("cut off by a stop"), "{shown}");

    let mut app = settings.start();
    let after = wait_told(&app.api(), "runs", &["1 cut_off stop", "2 running"]);
    assert_eq!((&after[1]["after"], &after[1]["after_crash"]), (&json!("stop"), &json!(false)));
    wait_told(&app.api(), "waits", &["1 failed", "2 waiting"]);
    app.kill();
}

fn path(db: &Path) -> &str {
    db.to_str().expect("a test path in UTF-8")
}
